"""When a version was live in an environment: what can be gone back to, and what has held there before. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from .deployment import Deployment, Version
from .identity import Name
from .value import Value

PERIODS_KEPT = 100  # of a service and environment
_LEAST_DIGITS = 12


class LivePeriod(Value):
    """number: the deployment's generation that began it. since: the rollout to the version was proven. until: another
    version took over; None while it is live.

    taken_back: it was left by a rollback. proven: by MATCH.
    """

    service: Name
    environment: Name
    number: int
    version: Version
    since: datetime
    until: datetime | None = None
    taken_back: bool = False
    proven: bool = False

    @property
    def release(self) -> str:
        return self.version.template.release

    def length(self, now: datetime) -> timedelta:
        return (self.until or now) - self.since


def succession(
    before: Deployment, after: Deployment, last: LivePeriod | None, now: datetime, *, proven: bool, rollback: bool
) -> tuple[LivePeriod, ...]:
    """The periods that a finished rollout ends and begins; none where the version that is live is the same.

    last: the newest one of the deployment. proven: the version that took over, by MATCH. rollback: somebody asked for
    the change as the way back.
    """
    if after.live is None or (before.live is not None and before.live.name == after.live.name):
        return ()
    where = {"service": after.service, "environment": after.environment}
    begun = LivePeriod(**where, number=after.generation, version=after.live, since=now, proven=proven)
    if before.live is None:
        return (begun,)
    if last is None or last.until is not None:
        last = LivePeriod(**where, number=before.generation, version=before.live, since=before.updated_at or now)
    ended = last.model_copy(update={"version": before.live, "until": now, "taken_back": rollback})
    return ended, begun


def of_release(periods: Iterable[LivePeriod], release: str) -> tuple[LivePeriod, ...]:
    """When a release was live, whatever its configuration, oldest first as `periods` are."""
    found: list[LivePeriod] = []
    going_on = False
    for period in periods:
        if period.release == release:
            found[-1:] = [period.model_copy(update={"since": found[-1].since})] if going_on else [*found[-1:], period]
        going_on = period.release == release
    return tuple(found)


def held(periods: Sequence[LivePeriod], version: str) -> LivePeriod | None:
    """The last time that a version was live, where that speaks for it: it was proven, it is not live now, and it was
    not itself taken back."""
    last = next((p for p in reversed(periods) if p.version.name == version), None)
    return last if last and last.until is not None and last.proven and not last.taken_back else None


def former(deployment: Deployment, periods: Sequence[LivePeriod]) -> tuple[Version, ...]:
    """The versions that can be gone back to, the one that was left last first: of its tenant of today, as whose user
    they run. periods: oldest first."""
    left = [p.version for p in sorted(periods, key=lambda p: p.until or p.since, reverse=True)]
    named: dict[str, Version] = {}
    for version in (*((deployment.previous,) if deployment.previous else ()), *left):
        if version.template.tenant == deployment.tenant:
            named.setdefault(version.name, version)
    if deployment.live is not None:
        named.pop(deployment.live.name, None)
    return tuple(named.values())


def chosen(versions: Iterable[Version], to: str) -> Version | None:
    """The first one of that name, or else of that release: a digest, or 12 or more of its hex digits."""
    versions, digits = tuple(versions), to.removeprefix("sha256:")
    by_name = next((v for v in versions if v.name == to), None)
    if by_name is not None or len(digits) < _LEAST_DIGITS:
        return by_name
    return next((v for v in versions if v.template.release.removeprefix("sha256:").startswith(digits)), None)
