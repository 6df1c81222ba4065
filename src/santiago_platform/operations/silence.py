"""Silences an alert for a while, and ends that: recorded, and read back from who keeps silences."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from ..domain.alert import AlertName
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Name, Principal
from ..domain.silence import LONGEST_SECONDS, Silence, concerned, noted
from ..domain.value import Value
from ..ports import Ports
from ..ports.store import Snapshot, Transaction
from .authority import authorise
from .change import change
from .tenancy import require_service

KIND = "silence_alert"


class SilenceRequest(Value):
    """Of `unsilence` neither how long nor why: what is recorded is who ended it."""

    action: Literal["silence", "unsilence"] = "silence"
    name: AlertName
    service: Name
    environment: Name
    for_seconds: Annotated[float, Field(ge=60, le=LONGEST_SECONDS)] = 3600
    reason: Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)] = ""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.service, self.environment, self.name


async def silence_alert(ports: Ports, principal: Principal, asked: SilenceRequest) -> tuple[Silence, ...]:
    """The silences that the alert has then: one, or none. A new one takes the place of one that goes on.

    Raises PlatformError: INVALID_ARGUMENT (no reason), NOT_FOUND (service, environment, no such alert, not silenced),
    DATA_CORRUPT where what was made is not what is read back, UNAVAILABLE, PERMISSION_DENIED.
    """
    subject = f"{asked.service}/{asked.environment} alert {asked.name}"
    request = asked.model_dump(mode="json", exclude_defaults=True)
    async with change(ports, principal, KIND, subject, request) as record:
        settings = ports.workspace.last_good_settings()
        authorise(ports, principal, KIND, settings, service=asked.service, environment=asked.environment)
        await require_service(ports, principal, settings, asked.service)
        before = [silence for silence in await ports.silences.active() if silence.key == asked.key]
        if asked.action == "silence":
            made = await _make(ports, principal, asked)
            record.body = {"silence": made.id, "until": made.ends_at.isoformat()}
        elif not before:
            raise PlatformError(
                ErrorCode.NOT_FOUND, f"{subject} is not silenced", "`santiago alert list` shows silences"
            )
        for silence in before:
            await ports.silences.end(silence.id)
        after = tuple(silence for silence in await ports.silences.active() if silence.key == asked.key)
        if asked.action == "unsilence" and after:
            raise _lied(f"{subject} is silenced still: {after[0].id}")
    return after


async def _make(ports: Ports, principal: Principal, asked: SilenceRequest) -> Silence:
    if not asked.reason:
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT, "a silence needs a reason", "say why nobody need be told, and until when"
        )
    known = await ports.store.read(lambda view: _alert_names(view, asked))
    if asked.name not in known:
        raise PlatformError(
            ErrorCode.NOT_FOUND,
            f"there is no alert {asked.name}",
            f"{asked.service}/{asked.environment} has: {', '.join(sorted(known)) or 'none'}",
        )
    now = ports.clock.now()
    silence = Silence(
        alert=asked.name,
        service=asked.service,
        environment=asked.environment,
        starts_at=now,
        ends_at=now + timedelta(seconds=asked.for_seconds),
        by=principal.name,
        reason=asked.reason,
    )
    made = silence.model_copy(update={"id": await ports.silences.make(silence)})
    found = next((s for s in await ports.silences.active() if s.id == made.id), None)
    if found is None or not found.is_made_as(silence):
        raise _lied(f"the silence {made.id} is {'not there' if found is None else 'another one'}: {made.said()}")

    def note(tx: Transaction) -> None:
        incidents = tx.incidents(service=asked.service, environment=asked.environment, open=True)
        for incident in concerned(found, incidents):
            tx.save_incident(noted(incident, found, now))

    await ports.store.write(note)
    return found


def _alert_names(view: Snapshot, asked: SilenceRequest) -> set[str]:
    """Of those that somebody made, and of those of SLOs."""
    made = {alert.name for alert in view.alerts() if alert.key[:2] == asked.key[:2]}
    watched = view.monitoring(asked.service, asked.environment)
    return made | {rule.alert for group in (watched.groups if watched else ()) for rule in group.rules if rule.alert}


def _lied(what: str) -> PlatformError:
    return PlatformError(ErrorCode.DATA_CORRUPT, f"DRIFT: {what}", "Alertmanager has not done what it said: try again")
