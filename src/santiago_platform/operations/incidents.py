"""Incidents: what Alertmanager tells becomes them, and people acknowledge, resolve and remark on them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field

from ..domain.alert_notification import Alert, Notification
from ..domain.environment import Settings
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Principal
from ..domain.incident import (
    EventKind,
    Incident,
    IncidentId,
    acknowledged,
    event,
    heard,
    may_reopen,
    resolved,
)
from ..domain.incident_notice import acknowledges, announced, ended
from ..domain.incident_policy import escalation
from ..domain.mailbox import Mail
from ..domain.value import Value
from ..ports import Ports
from ..ports.store import Transaction
from .authority import authorise
from .change import change
from .post import post
from .read_incidents import IncidentDetail, detail, may_see, no_incident

Cause = tuple[str, str, str]


class IncidentCommand(Value):
    """text: why, or the remark itself."""

    incident: IncidentId
    action: Literal["acknowledge", "resolve", "note"]
    text: Annotated[str, Field(max_length=500)] = ""


class ReceivedView(Value):
    """incidents: ids of those that the message has changed."""

    received: int
    incidents: tuple[str, ...]


async def receive_alerts(ports: Ports, told: Notification) -> ReceivedView:
    """One write for a message, of however many alerts; none for one that says nothing new. The same message twice is
    once. Raises as the store does: then Alertmanager sends it again.
    """
    settings, now = ports.workspace.last_good_settings(), ports.clock.now()
    causes = _by_cause(told.alerts)
    fresh = {cause: ports.clock.new_id("in") for cause in causes}

    def hear(known: Incident | None, cause: Cause) -> Incident | None:
        within = timedelta(seconds=settings.incidents_of(cause[1]).reopen_seconds)
        current = known if known is not None and may_reopen(known, now, within) else None
        tenant = settings.tenant_of(cause[0]) if cause[0] else settings.tenant
        return heard(current, told, tuple(causes[cause]), now, id=fresh[cause], tenant=tenant)

    def unit(tx: Transaction) -> tuple[str, ...]:
        changed = []
        for cause in causes:
            known = tx.newest_incident(*cause)
            after = hear(known, cause)
            if after is None:
                continue
            tx.save_incident(after)
            changed.append(after.id)
            if known is None or known.id != after.id or known.reopened != after.reopened or not known.page:
                post(tx, announced(after, settings.kind_of(after.environment), now), settings)
        return tuple(changed)

    # A storm repeats itself: what changes nothing is seen by reading, without a write.
    if not await ports.store.read(lambda view: any(hear(view.newest_incident(*cause), cause) for cause in causes)):
        return ReceivedView(received=len(told.alerts), incidents=())
    changed = await ports.store.write(unit)
    ports.activation.activate()
    return ReceivedView(received=len(told.alerts), incidents=changed)


def _by_cause(alerts: Iterable[Alert]) -> dict[Cause, list[Alert]]:
    found: dict[Cause, list[Alert]] = {}
    for alert in alerts:
        found.setdefault((alert.service, alert.environment, alert.cause[:300]), []).append(alert)
    return found


async def manage_incident(ports: Ports, principal: Principal, command: IncidentCommand) -> IncidentDetail:
    """The incident as it is then. Acknowledging it twice is once. What still fires opens a resolved one again as soon
    as Alertmanager repeats it.

    Raises PlatformError: NOT_FOUND, also for another tenant's; INVALID_ARGUMENT for a note without text;
    FAILED_PRECONDITION for one that is resolved already; PERMISSION_DENIED.
    """
    action = f"manage_incident.{command.action}"
    asked = command.model_dump(mode="json", exclude_defaults=True)
    async with change(ports, principal, action, command.incident, asked) as record:
        settings, now = ports.workspace.last_good_settings(), ports.clock.now()
        authorise(ports, principal, action, settings)
        found = await ports.store.read(lambda view: view.incident(command.incident))
        if found is None or not may_see(ports, principal, settings, found):
            raise no_incident(command.incident)
        service, environment = found.service or None, found.environment or None
        authorise(ports, principal, action, settings, service=service, environment=environment)

        def unit(tx: Transaction) -> Incident:
            current = tx.incident(command.incident)
            if current is None:
                raise no_incident(command.incident)
            after = _commanded(current, principal, command, now)
            tx.save_incident(after)
            if current.is_open and not after.is_open:
                post(tx, ended_mails(settings, after), settings)
            return after

        after = await ports.store.write(unit)
        record.outcome = after.state
    ports.activation.activate()
    return detail(after)


def _commanded(incident: Incident, principal: Principal, command: IncidentCommand, now: datetime) -> Incident:
    match command.action:
        case "note":
            if not command.text.strip():
                raise PlatformError(ErrorCode.INVALID_ARGUMENT, "a note needs its text", "say what there is to know")
            said = event(now, EventKind.MESSAGE, command.text, principal.name)
            return incident.with_events((said,))
        case _ if not incident.is_open:
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                f"incident {incident.id} is resolved",
                "a note may still be added to it",
            )
        case "acknowledge":
            return acknowledged(incident, principal.name, now, command.text)
        case "resolve":
            return resolved(incident, principal.name, now, command.text or f"by {principal.name}")


def ended_mails(settings: Settings, incident: Incident) -> list[Mail]:
    """What is said of an incident that has just been resolved."""
    policy = settings.incidents_of(incident.environment)
    at = incident.resolved_at or incident.opened_at
    return ended(
        incident, settings.kind_of(incident.environment), escalation(incident, policy)[: incident.escalated], at
    )


def acknowledge_told(ports: Ports, tx: Transaction, principal: Principal, mail: Mail, now: datetime) -> None:
    """Within the acknowledgement of a mail: whoever acknowledges what the platform told its role has the incident,
    where it may acknowledge that."""
    incident = tx.incident(mail.incident) if acknowledges(mail) else None
    if incident is None or incident.tenant != principal.tenant:
        return
    try:
        service, environment = incident.service or None, incident.environment or None
        authorise(ports, principal, "manage_incident.acknowledge", service=service, environment=environment)
    except PlatformError:
        return
    after = acknowledged(incident, principal.name, now)
    if after != incident:
        tx.save_incident(after)


def remark(tx: Transaction, mail: Mail) -> None:
    """Puts a mail that names an incident of its tenant into the timeline of that."""
    incident = tx.incident(mail.incident) if mail.incident else None
    if incident is not None and incident.tenant == mail.tenant:
        said = f"to {mail.addressee}: {mail.text}"
        by = mail.sender.name
        tx.save_incident(incident.with_events((event(mail.at, EventKind.MESSAGE, said, by, key=f"mail {mail.id}"),)))
