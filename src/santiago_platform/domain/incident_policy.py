"""What is done about incidents in an environment: who is told and when the next, and what is tried by itself. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field

from .identity import Role
from .incident import Evidence, Incident, IncidentState, Recovery
from .value import Value

ROLLBACK = "rollback_service"  # the operation
RECOVERY_SETTLES = timedelta(seconds=60)  # what was tried gets so long to show, before anything else is tried


class IncidentPolicy(Value):
    """`incidents` of an environment.

    escalate: the roles that are told, one after the other, until somebody acknowledges a page. recover: what the
    platform may do by itself about a page, each at most once for an incident, in this order. scale_out_to: replicas.
    quiet_seconds: without alerts, after which it is resolved. reopen_seconds: a cause that comes back within them opens
    it again. suspect_seconds: how long before the first alert a change is looked for.
    """

    escalate: Annotated[tuple[Role, ...], Field(min_length=1)] = (Role.PLATFORM, Role.DEVELOPER, Role.OWNER)
    escalate_after_seconds: Annotated[float, Field(ge=1, le=86400)] = 300
    recover: tuple[Recovery, ...] = (Recovery.ROLLBACK,)
    scale_out_to: Annotated[int, Field(ge=1, le=100)] = 4
    quiet_seconds: Annotated[float, Field(ge=0, le=86400)] = 30
    reopen_seconds: Annotated[float, Field(ge=0, le=7 * 86400)] = 3600
    suspect_seconds: Annotated[float, Field(ge=0, le=7 * 86400)] = 3600


class Facts(Value):
    """What recovery may go by. live: the version's name. unready: instances of it that were ready, and are not now,
    though they run. replicas: of it. deploying: a rollout is under way; coming: the version that it brings."""

    live: str = ""
    unready: tuple[str, ...] = ()
    replicas: int = 0
    deploying: bool = False
    coming: str = ""


class Step(Value):
    """What to try next. subject: the version, the flag, the instances, or the number of replicas."""

    recovery: Recovery
    subject: str
    reason: str


def escalation(incident: Incident, policy: IncidentPolicy) -> tuple[Role, ...]:
    """Who is told, in this order: the role that its alert goes to, then those of the environment. What is no page is
    told to the first, once."""
    routed = (Role(incident.route),) if incident.route in set(Role) else ()
    roles = tuple(dict.fromkeys((*routed, *policy.escalate)))
    return roles if incident.page else roles[:1]


def next_role(incident: Incident, policy: IncidentPolicy, now: datetime) -> Role | None:
    """Who is to be told now; None: nobody more yet."""
    roles = escalation(incident, policy)
    if incident.state is not IncidentState.OPEN or incident.escalated >= len(roles):
        return None
    after = timedelta(seconds=policy.escalate_after_seconds)
    if incident.told_at is not None and now - incident.told_at < after:
        return None
    return roles[incident.escalated]


def is_over(incident: Incident, policy: IncidentPolicy, now: datetime) -> bool:
    """Whether nothing fires any more, for long enough, and nothing is being tried."""
    if not incident.is_open or incident.firing or incident.ended_at is None or incident.attempt is not None:
        return False
    return now - incident.ended_at >= timedelta(seconds=policy.quiet_seconds)


def next_step(incident: Incident, policy: IncidentPolicy, facts: Facts, now: datetime) -> Step | None:
    """What to try now about a page that still fires; None: nothing, or not yet."""
    if not (incident.is_open and incident.pages_now) or incident.attempt is not None:
        return None
    if any(now - tried.at < RECOVERY_SETTLES for tried in incident.attempts):
        return None
    tried = {attempt.recovery for attempt in incident.attempts}
    steps = (_step(recovery, incident, policy, facts) for recovery in policy.recover if recovery not in tried)
    return next((step for step in steps if step is not None), None)


def _step(recovery: Recovery, incident: Incident, policy: IncidentPolicy, facts: Facts) -> Step | None:
    suspect = incident.suspect
    match recovery:
        case Recovery.ROLLBACK:
            # By time alone nothing is taken back: what shows nothing against a version may be innocent of it.
            if suspect is None or suspect.evidence is not Evidence.VERSION or not suspect.version:
                return None
            if suspect.kind == ROLLBACK:
                return None  # the way back from it leads to what somebody has taken back
            if suspect.version != (facts.coming if facts.deploying else facts.live):
                return None  # somebody has left it already, or is about to
            why = "; ".join(suspect.reasons)
            return Step(recovery=recovery, subject=suspect.version, reason=f"it is suspected: {why}")
        case Recovery.FLAG_OFF:
            if suspect is None or not suspect.flag:
                return None
            return Step(recovery=recovery, subject=suspect.flag, reason="; ".join(suspect.reasons))
        case Recovery.RESTART:
            if not facts.unready or facts.deploying:
                return None
            names = ", ".join(facts.unready)
            return Step(recovery=recovery, subject=names, reason=f"not ready any more, though running: {names}")
        case Recovery.SCALE_OUT:
            if not facts.live or facts.deploying or facts.unready or facts.replicas >= policy.scale_out_to:
                return None
            if incident.certain_suspect:
                return None
            more = facts.replicas + 1
            return Step(
                recovery=recovery, subject=str(more), reason=f"no change is suspected: {more} replicas may help"
            )


def reason_of(incident: Incident, words: Iterable[str]) -> str:
    """What an operation that is begun for an incident gives as its reason."""
    return f"incident {incident.id}: {'; '.join(words)}"[:500]
