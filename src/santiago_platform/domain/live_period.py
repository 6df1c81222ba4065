"""When a release was live in an environment, told from the rollouts that ended there."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from .phase import Phase
from .proof import Verdict
from .rollout import Rollout
from .value import Value


class Ended(Value):
    """A rollout that has ended. rollback: somebody asked for it as the way back."""

    rollout: Rollout
    rollback: bool = False


class LivePeriod(Value):
    """since: the rollout to it was proven. until: another release took over; None while it is live.

    taken_back: it was left by a rollback. proven: by MATCH.
    """

    release: str
    since: datetime
    until: datetime | None = None
    taken_back: bool = False
    proven: bool = True

    def length(self, now: datetime) -> timedelta:
        return (self.until or now) - self.since


def live_periods(ended: Iterable[Ended]) -> tuple[LivePeriod, ...]:
    """Oldest first. ended: of one service and environment, oldest first; those that changed nothing are passed over.

    A rollout to the release that is live already, such as one that scales it, does not end its period.
    """
    periods: list[LivePeriod] = []
    for one in ended:
        rollout, at = one.rollout, one.rollout.phase_since
        if rollout.new is None or not (rollout.phase is Phase.SUCCEEDED or rollout.stranded):
            continue
        release = rollout.new.template.release
        if periods and periods[-1].release == release:
            continue
        if periods:
            periods[-1] = periods[-1].model_copy(update={"until": at, "taken_back": one.rollback})
        proven = rollout.proof is not None and rollout.proof.verdict is Verdict.MATCH and not rollout.stranded
        periods.append(LivePeriod(release=release, since=at, proven=proven))
    return tuple(periods)


def way_back(periods: Iterable[LivePeriod], release: str) -> LivePeriod | None:
    """The last time that the release was live, where going to it again is a way back and not a new deploy: it was
    proven, it is not live now, and it was not itself taken back."""
    last = next((p for p in reversed(tuple(periods)) if p.release == release), None)
    return last if last and last.until is not None and last.proven and not last.taken_back else None
