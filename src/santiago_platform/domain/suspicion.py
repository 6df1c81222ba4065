"""Which change is taken for the cause of an incident: by time, and by what its version shows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from .incident import Evidence, Incident, Suspect
from .value import Value

LEAST_REQUESTS = 20  # of a version, for its errors to say anything
WORSE_FACTOR = 2.0
WORSE_RATIO = 0.01  # of its requests; so many more of them failed than of the version before
REASONS_CHARACTERS = 300


class Change(Value):
    """What was changed before an incident. what: in words. at: when users met it. version, before: that a rollout
    brought and replaced. flag: that turning off takes back."""

    operation: str
    kind: str
    what: str
    by: str
    at: datetime
    version: str = ""
    before: str = ""
    flag: str = ""


class Answered(Value):
    """What a version answered: requests, and how many of them failed."""

    requests: int
    errors: int

    @property
    def ratio(self) -> float:
        return self.errors / self.requests if self.requests else 0.0


def candidates(incident: Incident, changes: Iterable[Change], within: timedelta) -> list[Change]:
    """Those that came before the first alert and not long before, the last one first."""
    found = [c for c in changes if incident.began_at - within <= c.at <= incident.began_at]
    return sorted(found, key=lambda c: c.at, reverse=True)


def suspect(
    incident: Incident, changes: Iterable[Change], within: timedelta, answered: Mapping[str, Answered]
) -> Suspect | None:
    """The change with evidence of its version, else the last one before the first alert; None where there is none.

    answered: by version; those that are not in it are not known of. A version that is shown not to be worse, while the
    alerts are about another one, is no suspect.
    """
    found = [_judged(incident, change, answered) for change in candidates(incident, changes, within)]
    known = [s for s in found if s is not None]
    by_version = next((s for s in known if s.evidence is Evidence.VERSION), None)
    return by_version or next(iter(known), None)


def _judged(incident: Incident, change: Change, answered: Mapping[str, Answered]) -> Suspect | None:
    seconds = round((incident.began_at - change.at).total_seconds())
    reasons = [f"{change.what} came {seconds} s before the first alert, by operation {change.operation} of {change.by}"]
    evidence = Evidence.TIME
    if change.version and change.version in incident.versions:
        evidence = Evidence.VERSION
        reasons.append(f"the alerts are about version {change.version}")
    elif change.version and incident.versions:
        return None  # they are about other versions
    new, old = answered.get(change.version), answered.get(change.before)
    if change.version and new is not None and new.requests >= LEAST_REQUESTS:
        worse, words = _compared(change, new, old)
        reasons.append(words)
        if worse:
            evidence = Evidence.VERSION
    return Suspect(
        operation=change.operation,
        kind=change.kind,
        evidence=evidence,
        at=change.at,
        version=change.version,
        flag=change.flag,
        reasons=tuple(reason[:REASONS_CHARACTERS] for reason in reasons),
    )


def _compared(change: Change, new: Answered, old: Answered | None) -> tuple[bool, str]:
    """Whether the new version fails more than the one before did, and in words."""
    shown = f"{new.errors} of {new.requests} requests to {change.version} failed"
    if old is None or old.requests < LEAST_REQUESTS:
        return False, f"{shown}; of the version before too little is known"
    shown += f", of {change.before} before it {old.errors} of {old.requests}"
    worse = new.ratio >= WORSE_FACTOR * old.ratio and new.ratio - old.ratio >= WORSE_RATIO
    return worse, shown if worse else f"{shown}: that is not clearly worse"
