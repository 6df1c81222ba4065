"""An incident: what is wrong with one service for one cause, from its first alert until all is well again. Pure.

    open -> acknowledged -> resolved, and open again where the cause comes back within a while

Everything else follows from the row: who is told, what is tried, and what the post-mortem says. Events are kept in a
bounded number, so that a storm of alerts costs no more than a few.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from .alert_notification import Alert, Notification
from .context import clean
from .identity import Name
from .rules import Severity
from .value import Value

GROUPS_AT_MOST = 100  # that are followed; more of one cause are one matter anyhow
EVENTS_AT_MOST = 200
VERSIONS_AT_MOST = 20
TEXT_CHARACTERS = 500
# Alertmanager says again each hour what goes on. What it has not repeated for so long has ended unsaid.
STALE = timedelta(hours=3)
HEARD_AGAIN = timedelta(minutes=30)  # after which a repetition is worth storing
LONGEST = timedelta(days=30)  # that an alert is believed to have fired before it was heard of

IncidentId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,60}$")]
_SEVERITIES = (Severity.INFO, Severity.TICKET, Severity.PAGE)


class IncidentState(StrEnum):
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"  # somebody has it
    RESOLVED = "resolved"


class EventKind(StrEnum):
    ALERT = "alert"
    STATE = "state"
    CHANGE = "change"  # a deployment, a rollback, a flag, by an operation
    SUSPECT = "suspect"
    NOTICE = "notice"  # somebody was told
    ACTION = "action"  # the platform did something about it
    MESSAGE = "message"  # somebody said something


class Event(Value):
    """A line of the timeline. by: who. operation: whose event it is. key: the same one again is the same event."""

    at: datetime
    kind: EventKind
    text: Annotated[str, Field(max_length=TEXT_CHARACTERS)]
    by: str = "platform"
    operation: str = ""
    key: str = ""


class Firing(Value):
    """A group of alerts that fires. heard_at: when Alertmanager said so last. page: the worst of them is one."""

    alert: str
    since: datetime
    heard_at: datetime
    page: bool = True


class Evidence(StrEnum):
    """What speaks for a suspect."""

    VERSION = "version"  # what is wrong is wrong with the version that it brought
    TIME = "time"  # it came shortly before, and no more is known


class Suspect(Value):
    """The operation that is taken for the cause. version: that a rollout brought. flag: that a change of flags is of.
    reasons: in words, those against it too."""

    operation: str
    kind: str
    evidence: Evidence
    at: datetime
    version: str = ""
    flag: str = ""
    reasons: tuple[str, ...] = ()


class Recovery(StrEnum):
    ROLLBACK = "rollback"
    FLAG_OFF = "flag_off"
    RESTART = "restart"
    SCALE_OUT = "scale_out"


class Attempt(Value):
    """What was tried of itself. operation: named before it is begun, so that a crash repeats nothing. outcome: empty
    while it is not known yet. subject: the version, flag or instances that it is about."""

    recovery: Recovery
    subject: str
    operation: str
    reason: str
    at: datetime
    outcome: str = ""


class Incident(Value):
    """One row. cause: with service and environment what tells it from others; both may be empty. firing: by group.
    alerts: the most that fired at once, about: it is stored where it doubles. affected: services: its own, and
    those of whom an incident is open that has the same suspect. versions: that alerts were about. route: a role that is
    told before others, or a receiver that is told beside them, as its worst alert says.

    began_at: when its first alert did. ended_at: when the last one did, while none fires. escalated: how many roles
    were told; told_at: when one last was. logged: how many events the ship's log has. reopened: how often.
    postmortem: where it was written; postmortem_sha256: of the text as it was. dropped: events that had no room.
    """

    id: IncidentId
    tenant: Name
    service: str = ""
    environment: str = ""
    cause: Annotated[str, Field(max_length=300)]
    title: Annotated[str, Field(max_length=TEXT_CHARACTERS)]
    severity: Severity
    state: IncidentState = IncidentState.OPEN
    runbook: str = ""
    route: str = ""
    began_at: datetime
    opened_at: datetime
    acknowledged_at: datetime | None = None
    acknowledged_by: str = ""
    ended_at: datetime | None = None
    resolved_at: datetime | None = None
    reopened: int = 0
    firing: dict[str, Firing] = {}
    alerts: int = 0
    affected: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    suspect: Suspect | None = None
    attempts: tuple[Attempt, ...] = ()
    escalated: int = 0
    told_at: datetime | None = None
    events: tuple[Event, ...] = ()
    dropped: int = 0
    logged: int = 0
    postmortem: str = ""
    postmortem_sha256: str = ""

    @property
    def is_open(self) -> bool:
        return self.state is not IncidentState.RESOLVED

    @property
    def page(self) -> bool:
        return self.severity is Severity.PAGE

    @property
    def pages_now(self) -> bool:
        """A page fires now: of one that has ended, tickets may go on for hours."""
        return self.page and any(firing.page for firing in self.firing.values())

    @property
    def unfinished(self) -> bool:
        """There is something left to do about it: also of one that is resolved."""
        return self.is_open or self.logged < len(self.events) or (self.page and not self.postmortem)

    @property
    def subject(self) -> str:
        where = "/".join(part for part in (self.service, self.environment) if part)
        return f"{where or 'the platform'}: {self.cause}"

    @property
    def certain_suspect(self) -> str:
        """The operation that its own version speaks against; empty where none is known."""
        return self.suspect.operation if self.suspect and self.suspect.evidence is Evidence.VERSION else ""

    @property
    def attempt(self) -> Attempt | None:
        """The one that is under way."""
        return next((a for a in self.attempts if not a.outcome), None)

    def with_events(self, events: Iterable[Event]) -> Incident:
        """Those of a key that is known are there already. What says how it stands has room always."""
        known, kept, dropped = {e.key for e in self.events if e.key}, list(self.events), self.dropped
        for event in events:
            if event.key and event.key in known:
                continue
            known.add(event.key)
            if len(kept) >= EVENTS_AT_MOST and event.kind not in (EventKind.STATE, EventKind.ACTION):
                dropped += 1
                continue
            kept.append(event)
        return self.model_copy(update={"events": tuple(kept), "dropped": dropped})

    def timeline(self) -> tuple[Event, ...]:
        """As things happened: some are known of later."""
        return tuple(sorted(self.events, key=lambda e: e.at))


def event(
    at: datetime, kind: EventKind, text: str, by: str = "platform", *, operation: str = "", key: str = ""
) -> Event:
    """With its text cut, and without what a reader would not see."""
    return Event(at=at, kind=kind, text=clean(text)[:TEXT_CHARACTERS], by=by, operation=operation, key=key)


def heard(
    incident: Incident | None, told: Notification, alerts: tuple[Alert, ...], now: datetime, *, id: str, tenant: str
) -> Incident | None:
    """The incident once a message's alerts of its cause are heard of; None where there is none, or nothing to store.

    incident: the last one of that cause, open or such that it may be opened again. alerts: one or more, of one service,
    environment and cause. id, tenant: of a new one.
    """
    firing = tuple(alert for alert in alerts if alert.status == "firing")
    group = told.group_of(alerts[0].cause)
    if not firing:
        cut_off = told.truncated and told.status == "firing"
        if incident is None or group not in incident.firing or cut_off:
            return None
        return _ended(incident, group, told.latest_end(now), now)
    before = incident
    if incident is None:
        incident = _opened(firing, now, id, tenant)
    elif not incident.is_open:
        incident = _reopened(incident, firing[0], now)
    return _fires(incident, before, group, firing, told.truncated, now)


def _opened(firing: tuple[Alert, ...], now: datetime, id: str, tenant: str) -> Incident:
    worst = max(firing, key=lambda alert: _SEVERITIES.index(alert.severity))
    began = _began(firing, now)
    first = event(began, EventKind.ALERT, f"{worst.name} fires: {worst.summary}", "alertmanager")
    opened = event(now, EventKind.STATE, f"opened as {worst.severity}: {worst.summary}")
    return Incident(
        id=id,
        tenant=tenant,
        service=worst.service,
        environment=worst.environment,
        cause=worst.cause[:300],
        title=worst.summary[:TEXT_CHARACTERS],
        severity=worst.severity,
        runbook=worst.runbook,
        route=worst.route,
        affected=(worst.service,) if worst.service else (),
        began_at=began,
        opened_at=now,
        events=(first, opened),
    )


def _began(firing: tuple[Alert, ...], now: datetime) -> datetime:
    return max(now - LONGEST, min(now, *(alert.started_at for alert in firing)))


def _reopened(incident: Incident, alert: Alert, now: datetime) -> Incident:
    again = event(now, EventKind.STATE, f"opened again: {alert.name} fires: {alert.summary}")
    fresh = {
        "state": IncidentState.OPEN,
        "reopened": incident.reopened + 1,
        "ended_at": None,
        "resolved_at": None,
        "acknowledged_at": None,
        "acknowledged_by": "",
        "escalated": 0,
        "told_at": None,
        "postmortem": "",
        "route": alert.route or incident.route,
    }
    return incident.model_copy(update=fresh).with_events((again,))


def _fires(
    incident: Incident, before: Incident | None, group: str, firing: tuple[Alert, ...], truncated: int, now: datetime
) -> Incident | None:
    update: dict[str, object] = {}
    events: list[Event] = []
    worst = max(firing, key=lambda alert: _SEVERITIES.index(alert.severity))
    page, known = worst.severity is Severity.PAGE, incident.firing.get(group)
    if known is None and len(incident.firing) < GROUPS_AT_MOST:
        since = _began(firing, now)
        fires = Firing(alert=worst.name, since=since, heard_at=now, page=page)
        update["firing"] = {**incident.firing, group: fires}
        said = f"{worst.name} fires: {worst.summary}"
        if all(e.text != said[:TEXT_CHARACTERS] for e in incident.events):
            events.append(event(since, EventKind.ALERT, said, "alertmanager"))
    elif known is not None and (known.page is not page or now - known.heard_at >= HEARD_AGAIN):
        update["firing"] = {**incident.firing, group: known.model_copy(update={"heard_at": now, "page": page})}
    if incident.ended_at is not None:
        update["ended_at"] = None
    if _SEVERITIES.index(worst.severity) > _SEVERITIES.index(incident.severity):
        update |= {"severity": worst.severity, "escalated": 0, "told_at": None, "route": worst.route or incident.route}
        events.append(event(now, EventKind.STATE, f"is a {worst.severity} now: {worst.summary}"))
    count = len(firing) + truncated
    if count >= 2 * incident.alerts and count > 0:
        update["alerts"] = count
    fresh = [v for v in dict.fromkeys(alert.version for alert in firing) if v and v not in incident.versions]
    if fresh and len(incident.versions) < VERSIONS_AT_MOST:
        update["versions"] = (*incident.versions, *fresh)[:VERSIONS_AT_MOST]
    if not update and incident is before:
        return None
    return incident.model_copy(update=update).with_events(events)


def _ended(incident: Incident, group: str, at: datetime, now: datetime) -> Incident:
    gone = incident.firing[group]
    at = max(at, gone.since)
    left = {key: firing for key, firing in incident.firing.items() if key != group}
    events = [event(at, EventKind.ALERT, f"{gone.alert} has ended", "alertmanager")]
    update = {"firing": left, "ended_at": incident.ended_at if left else max(at, incident.began_at)}
    return incident.model_copy(update=update).with_events(events)


def without_stale(incident: Incident, now: datetime) -> Incident:
    """Without what Alertmanager has not repeated for long: its end was lost with its memory."""
    left = {key: f for key, f in incident.firing.items() if now - f.heard_at < STALE}
    if len(left) == len(incident.firing):
        return incident
    hours = STALE // timedelta(hours=1)
    said = event(
        now, EventKind.ALERT, f"Alertmanager has not repeated an alert for {hours} h: it is taken to have ended"
    )
    last = max(f.heard_at for f in incident.firing.values())
    return incident.model_copy(update={"firing": left, "ended_at": None if left else last}).with_events((said,))


def acknowledged(incident: Incident, by: str, now: datetime, how: str = "") -> Incident:
    """Once; who was first stays."""
    if incident.state is not IncidentState.OPEN:
        return incident
    update = {"state": IncidentState.ACKNOWLEDGED, "acknowledged_at": now, "acknowledged_by": by}
    said = event(now, EventKind.STATE, f"acknowledged by {by}" + (f": {how}" if how else ""), by)
    return incident.model_copy(update=update).with_events((said,))


def resolved(incident: Incident, by: str, now: datetime, why: str) -> Incident:
    """why: in words. What still fires then opens it again when Alertmanager repeats it."""
    if not incident.is_open:
        return incident
    ended = incident.ended_at or now
    update = {"state": IncidentState.RESOLVED, "resolved_at": now, "ended_at": ended, "firing": {}}
    return incident.model_copy(update=update).with_events((event(now, EventKind.STATE, f"resolved: {why}", by),))


def may_reopen(incident: Incident, now: datetime, within: timedelta) -> bool:
    """Whether an alert of its cause belongs to it, rather than to a new one."""
    return incident.is_open or (incident.resolved_at is not None and now - incident.resolved_at < within)
