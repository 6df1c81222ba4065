"""What an incident says of itself, to whom, and how loudly. Pure.

A mail's id follows from the incident, from how often it was opened, and from what is said, so that it is told once.
"""

from __future__ import annotations

from datetime import datetime

from .environment import EnvironmentKind
from .identity import PLATFORM, Role
from .incident import Incident
from .mailbox import TEXT_CHARACTERS, Mail
from .mailbox import Severity as Loudness
from .rules import Severity

_LOUDNESS = {Severity.PAGE: Loudness.CRITICAL, Severity.TICKET: Loudness.WARNING, Severity.INFO: Loudness.INFO}
TOLD = "told"


def told(incident: Incident, role: Role, at: datetime) -> Mail:
    """Tells one role, which acknowledges the incident by acknowledging this mail."""
    after = ", and nobody has acknowledged it yet" if incident.escalated else ""
    text = f"incident {incident.id} ({incident.severity}){after}. {incident.subject}: {incident.title}"
    if incident.runbook:
        text += f"\nrunbook: {incident.runbook}"
    if incident.suspect is not None:
        text += f"\nsuspected: {'; '.join(incident.suspect.reasons)}"
    return _mail(incident, f"{TOLD}-{incident.severity}-{role}", (role,), _LOUDNESS[incident.severity], text, at)


def announced(incident: Incident, kind: EnvironmentKind, at: datetime) -> list[Mail]:
    """Everybody hears of a page of production."""
    if not _of_all(incident, kind):
        return []
    again = " again" if incident.reopened else ""
    text = f"incident {incident.id} is open{again}. {incident.subject}: {incident.title}"
    return [_mail(incident, "open", (), Loudness.WARNING, text, at)]


def ended(incident: Incident, kind: EnvironmentKind, roles: tuple[Role, ...], at: datetime) -> list[Mail]:
    """Those who heard of it hear of its end. roles: that were told."""
    to = () if _of_all(incident, kind) else roles
    if not to and not _of_all(incident, kind):
        return []
    text = f"incident {incident.id} is resolved. {incident.subject}: {incident.title}"
    return [_mail(incident, "resolved", to, Loudness.INFO, text, at)]


def acknowledges(mail: Mail) -> bool:
    """Whether whoever acknowledges the mail has the incident: it was told to that role, not to everybody."""
    told_to_one = mail.id.startswith(f"ml-{mail.incident}-") and f"-{TOLD}-" in mail.id
    return bool(mail.incident) and mail.sender.name == PLATFORM.name and told_to_one


def _of_all(incident: Incident, kind: EnvironmentKind) -> bool:
    return incident.page and kind is EnvironmentKind.PRODUCTION


def _mail(incident: Incident, said: str, to: tuple[Role, ...], severity: Loudness, text: str, at: datetime) -> Mail:
    return Mail(
        id=f"ml-{incident.id}-{incident.reopened}-{said}",
        tenant=incident.tenant,
        mailbox=to[0] if to else Role.PLATFORM,
        to=to,
        thread=f"ml-{incident.id}",
        sender=PLATFORM.model_copy(update={"tenant": incident.tenant}),
        severity=severity,
        text=text[:TEXT_CHARACTERS],
        incident=incident.id,
        receiver=incident.route if incident.route not in set(Role) else "",
        at=at,
    )
