"""The rollout: its row, what is told and seen of it, and what should run in each of its phases. Pure.

What comes next is decided in domain/rollout_decision.py. Nothing is remembered between two passes but the row, so a
crash anywhere is harmless.

Traffic is counted in `parts`: the new version gets `shifted` of them, the old version the rest.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from .canary import Analysis, Canary
from .deployment import Deployment, Version
from .identity import Name
from .job import Job, JobRun
from .phase import DEADLINES, JOB_PHASES, Phase
from .proof import Proof
from .route import Match, Mirror
from .strategy import Strategy
from .value import Value
from .watch import Watch

SCHEMA_VERSION = 1


# A request that has it, with the rollout's id, goes to the new version while the way back is tried.
REHEARSAL_HEADER = "x-santiago-rehearsal"
SYNTHETIC_HEADER = "x-santiago-synthetic"  # of the requests that the platform makes itself


class Rehearsal(Value):
    """The route was switched to the new version for one header and back, and both were proven. healthy: instances of
    the old version that every live proxy found healthy then."""

    at: datetime
    healthy: int = 0


class Rollout(Value):
    """One row. epoch rises with each stored change and fences writers that lag behind.

    git_ref: the commit to build when `new` is not known yet. replicas: of the new version.
    old: live when it began; None on a first deploy. runs_jobs: of the new version, and the way back is rehearsed; not
    on the way to a former one.
    undo_as: how it ends once the way back is done. moved: traffic has reached the new version at some time, for the
    first time at moved_at.
    canary: how it goes by steps, None for the other strategies. step: the one that has its weight or gets it next.
    analysis: of the judge, once it has begun. unready_since: since when fewer instances of the canary are ready than
    there should be. lapses: when none was ready, of late. needs_somebody: only a person's word takes the step on.
    synthetic: the platform makes requests itself. rehearsed: the route was switched to the new version for one header;
    now it is switched back. rehearsal: once both are proven. watch_seconds: how long it is judged on after it took
    over. watch: since it has all traffic; the deployment's goes on from it.
    stranded: there is no way back while nobody of the old version is healthy: a canary gets its full number meanwhile,
    and once that has lasted too long, the new version keeps the traffic, or gets all of it.
    proof: of the effect, or of the step that it is at; after a way back, what disproved the effect, else the proof of
    the way back.
    """

    id: str
    schema_version: int = SCHEMA_VERSION
    operation_id: str
    service: Name
    environment: Name
    tenant: Name
    strategy: Strategy
    git_ref: str | None = None
    old: Version | None = None
    new: Version | None = None
    replicas: int = 1
    hold: bool = False
    runs_jobs: bool = False
    phase: Phase
    epoch: int = 0
    parts: Annotated[int, Field(ge=1)] = 1
    shifted: Annotated[int, Field(ge=0)] = 0
    moved: bool = False
    moved_at: datetime | None = None
    ready_timeout_seconds: float = 60.0
    drain_timeout_seconds: float = 30.0
    rollback_window_seconds: float = 600.0
    started_at: datetime
    phase_since: datetime
    reason: str = ""
    detail: tuple[str, ...] = ()
    canary: Canary | None = None
    step: Annotated[int, Field(ge=0)] = 0
    analysis: Analysis | None = None
    unready_since: datetime | None = None
    lapses: tuple[datetime, ...] = ()
    needs_somebody: bool = False
    synthetic: bool = False
    rehearsed: bool = False
    rehearsal: Rehearsal | None = None
    watch_seconds: float = 600.0
    watch: Watch | None = None
    undo_as: Phase = Phase.FAILED
    stranded: bool = False
    proof: Proof | None = None

    @property
    def unchanged(self) -> bool:
        """The new version is the one that is live: at most its number of replicas changes."""
        return self.old is not None and self.new is not None and self.old.name == self.new.name

    @property
    def never_left(self) -> bool:
        """The old version has all that it had, so that a way back waits for nothing of it: it may be ill for long."""
        return not self.moved and self.strategy is not Strategy.RECREATE

    @property
    def stepwise(self) -> bool:
        """It goes by the canary's steps: there is something to compare with."""
        return self.canary is not None and self.routed and not self.unchanged

    @property
    def at_step(self) -> bool:
        """Both versions have traffic, or copies of it, as the step of the canary says."""
        return self.stepwise and self.moved and self.shifted < self.parts

    @property
    def leaves_live_alone(self) -> bool:
        """The old version has all its instances and all the traffic, and had them since the beginning."""
        stops = self.strategy is Strategy.RECREATE and self.phase not in (Phase.RELEASING, Phase.PREPARING)
        return not self.moved and not stops

    @property
    def routed(self) -> bool:
        """Both versions have ports: there is traffic to move, and to compare."""
        return all(version is not None and version.template.ports for version in (self.old, self.new))

    def jobs(self, phase: Phase) -> tuple[Job, ...]:
        """What runs in a phase, one after the other. Jobs run once for a new version and not for more of the same."""
        when = JOB_PHASES.get(phase)
        if when is None or not self.runs_jobs or self.unchanged or self.new is None:
            return ()
        return tuple(job for job in self.new.jobs if job.when is when)

    @property
    def deadline(self) -> datetime:
        if self.phase in (Phase.STARTING, Phase.RESTORING):
            return self.phase_since + timedelta(seconds=self.ready_timeout_seconds)
        if self.phase is Phase.STOPPING:  # what is in flight may take its time first
            return self.phase_since + DEADLINES[self.phase] + timedelta(seconds=self.drain_timeout_seconds)
        grace = self.new.template.stop_grace_seconds if self.new else 0.0
        jobs = sum((job.longest(grace) for job in self.jobs(self.phase)), timedelta())
        return self.phase_since + jobs + DEADLINES.get(self.phase, timedelta.max / 2)


class MessageKind(StrEnum):
    PROMOTE = "promote"
    ABORT = "abort"
    SCALE = "scale"


class Message(Value):
    """What somebody tells a rollout. by: the principal's name. replicas: of SCALE, from now on. step: of the canary,
    that PROMOTE is about; None before it has begun."""

    id: str
    kind: MessageKind
    by: str
    reason: str = ""
    replicas: Annotated[int, Field(ge=1)] | None = None
    step: Annotated[int, Field(ge=0)] | None = None
    at: datetime


class VersionSeen(Value):
    """How a version's instances are. running: processes that exist, ready or not. ready: by their own probe.

    healthy: by every live proxy's. restarts: times that they ended by themselves; last_end: how one of them did, the
    last time. failure: why it cannot become ready, when that is certain. log_tail: its last log lines.
    """

    running: int = 0
    ready: int = 0
    healthy: int = 0
    restarts: int = 0
    last_end: str = ""
    failure: str = ""
    log_tail: tuple[str, ...] = ()


class Seen(Value):
    """What a pass saw. weights: acknowledged by every live proxy; None where they do not agree yet.

    not_ready_because: the best guess why the new version is not ready, for the reason of a time-out.
    runs: of the rollout's jobs, those that were begun. analysis, watch: with what has been looked at since the stored
    one; None where nothing was. gate_refusal: why no more traffic may move now.
    """

    old: VersionSeen = VersionSeen()
    new: VersionSeen = VersionSeen()
    weights: dict[str, int] | None = None
    route_error: str = ""
    released: Version | None = None
    release_error: str = ""
    release_log: tuple[str, ...] = ()
    not_ready_because: str = ""
    proof: Proof | None = None
    runs: tuple[JobRun, ...] = ()
    analysis: Analysis | None = None
    watch: Watch | None = None
    gate_refusal: str = ""


class Desired(Value):
    """replicas: how many instances of each version should run. weights: their shares of the traffic. matches, sticky,
    mirror, retries_elsewhere: as a route has them."""

    replicas: tuple[tuple[Version, int], ...] = ()
    weights: dict[str, int] = {}
    matches: tuple[Match, ...] = ()
    sticky: bool = False
    mirror: Mirror | None = None
    retries_elsewhere: bool = True


def desired(deployment: Deployment, rollout: Rollout | None, now: datetime) -> Desired:
    """What should run and get traffic now.

    Outside a rollout: the live version has all traffic, the previous one runs warm beside it for its window.
    """
    counts: dict[str, tuple[Version, int]] = {}

    def want(version: Version | None, count: int) -> None:
        if version is not None and count > 0:
            known = counts.get(version.name)
            counts[version.name] = (version, max(count, known[1] if known else 0))

    warm = deployment.warm(now)
    want(warm, warm.replicas if warm else 0)
    if rollout is None or rollout.phase.finished:
        live = deployment.live
        want(live, live.replicas if live else 0)
        return Desired(replicas=tuple(counts.values()), weights={live.name: 1} if live else {})
    want(rollout.old, _old_replicas(rollout))
    want(rollout.new, new_replicas(rollout))
    return Desired(replicas=tuple(counts.values()), weights=weights_of(rollout), **_directed(rollout))


def _directed(r: Rollout) -> dict[str, Any]:
    """What goes elsewhere than the weights say."""
    if r.new is None or r.phase.going_back:
        return {}
    if r.phase is Phase.REHEARSING and not r.rehearsed:
        return {"matches": (Match(version=r.new.name, header=(REHEARSAL_HEADER, r.id)),)}
    if not r.at_step or r.canary is None:
        return {}
    asked = zip((r.new, r.old), synthetic_values(r.id), strict=True) if r.synthetic else ()
    own = (Match(version=v.name, header=(SYNTHETIC_HEADER, value)) for v, value in asked if v is not None)
    return {
        "matches": (*own, *(visitors.match(r.new.name) for visitors in r.canary.visitors)),
        "sticky": r.canary.sticky,
        "retries_elsewhere": False,  # what fails must count as its own
        "mirror": r.canary.mirror(r.new.name) if r.shifted == 0 else None,
    }


def synthetic_values(rollout_id: str) -> tuple[str, str]:
    """What SYNTHETIC_HEADER holds for the canary and for stable."""
    return f"{rollout_id}-canary", f"{rollout_id}-stable"


def weights_of(r: Rollout) -> dict[str, int]:
    weights: dict[str, int] = {}
    shifted = 0 if r.phase is Phase.REVERTING else r.shifted
    if r.old is not None and shifted < r.parts:
        weights[r.old.name] = r.parts - shifted
    if r.new is not None and shifted > 0:
        weights[r.new.name] = weights.get(r.new.name, 0) + shifted
    return {next(iter(weights)): 1} if len(weights) == 1 else weights


def new_replicas(r: Rollout) -> int:
    if r.new is None or r.phase is Phase.PREPARING:
        return 0
    if r.phase.going_back:
        if r.strategy is Strategy.RECREATE or not r.moved:
            return 0
        if r.stepwise and r.canary is not None:
            return r.new.replicas if r.stranded else r.canary.replicas(r.step, r.new.replicas)
        rolling = r.strategy is Strategy.ROLLING
        return math.ceil(r.new.replicas * r.shifted / r.parts) if rolling else r.new.replicas
    match r.strategy:
        case Strategy.CANARY if r.stepwise and r.canary is not None:
            return r.canary.replicas(r.step, r.new.replicas)
        case Strategy.BLUE_GREEN | Strategy.CANARY:
            return r.new.replicas
        case Strategy.ROLLING:
            begun = min(r.parts, r.shifted + (r.phase in (Phase.STARTING, Phase.HOLDING)))
            return math.ceil(r.new.replicas * begun / r.parts)
        case Strategy.RECREATE:
            return 0 if r.phase is Phase.STOPPING else r.new.replicas


def _old_replicas(r: Rollout) -> int:
    if r.old is None:
        return 0
    if r.phase.going_back or r.phase in (Phase.RELEASING, Phase.PREPARING):
        return r.old.replicas
    if r.unchanged and r.phase in (Phase.SHIFTING, Phase.PROVING):
        return 0  # the same instances: from here on the new number counts
    match r.strategy:
        case Strategy.BLUE_GREEN | Strategy.CANARY:
            return r.old.replicas
        case Strategy.ROLLING:
            # One stays until the new version is proven, so that the way back starts from something.
            acknowledged = r.shifted - (r.phase is Phase.SHIFTING)
            return max(1, math.ceil(r.old.replicas * (r.parts - acknowledged) / r.parts))
        case Strategy.RECREATE:
            return 0
