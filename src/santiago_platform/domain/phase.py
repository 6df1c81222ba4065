"""The phases of a rollout, in their order, and how long each may take."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from .job import When


class Phase(StrEnum):
    RELEASING = "releasing"  # the release is being built from a git ref
    PREPARING = "preparing"  # the pre-deploy jobs run; nothing was started or stopped
    STOPPING = "stopping"  # recreate: the old version stops first
    STARTING = "starting"  # new instances start and become ready; no traffic moves
    HOLDING = "holding"  # ready, and waits for `promote`
    REHEARSING = "rehearsing"  # the route is switched there and back for one header, and both ways are proven
    SHIFTING = "shifting"  # traffic moves; done when every live proxy acknowledges
    ANALYSING = "analysing"  # canary: a step has its weight; it is waited for, and judged
    PROVING = "proving"  # probes look whether it is so
    FINISHING = "finishing"  # the post-deploy jobs run; all traffic can still go back
    RESTORING = "restoring"  # the way back: the old version is brought to its full number
    REVERTING = "reverting"  # the way back: all traffic returns to the old version, and this is proven
    SUCCEEDED = "succeeded"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"

    @property
    def finished(self) -> bool:
        return self in (Phase.SUCCEEDED, Phase.ROLLED_BACK, Phase.FAILED)

    @property
    def going_back(self) -> bool:
        return self in (Phase.RESTORING, Phase.REVERTING)


ORDER = [phase for phase in Phase if not phase.finished and not phase.going_back]
# The jobs of a rollout, by the phase that they run in.
JOB_PHASES = {Phase.PREPARING: When.PRE_DEPLOY, Phase.FINISHING: When.POST_DEPLOY}
# How long a phase may take. STARTING takes its own from the rollout; jobs have their own time-outs before this.
DEADLINES: dict[Phase, timedelta] = {
    Phase.RELEASING: timedelta(minutes=60),
    Phase.PREPARING: timedelta(minutes=1),
    Phase.STOPPING: timedelta(minutes=5),
    Phase.HOLDING: timedelta(hours=24),
    Phase.REHEARSING: timedelta(seconds=15),
    Phase.SHIFTING: timedelta(seconds=30),
    Phase.ANALYSING: timedelta(days=365),  # its steps have limits of their own
    Phase.PROVING: timedelta(seconds=8),
    Phase.FINISHING: timedelta(minutes=1),
    Phase.REVERTING: timedelta(seconds=30),
}
# In these the number of replicas may change: no proof is being made of another one, and nothing goes back.
SCALABLE = frozenset({Phase.RELEASING, Phase.PREPARING, Phase.STOPPING, Phase.STARTING, Phase.HOLDING, Phase.ANALYSING})
# In these a promotion is what somebody waits for.
PROMOTABLE = frozenset({Phase.HOLDING, Phase.ANALYSING})
