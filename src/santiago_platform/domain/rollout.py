"""The rollout: what to do next, from the stored row and what is seen. Level-triggered and pure.

A rollout is a row. `desired` says which versions should run and who should get traffic in its phase;
`decide` says which phase comes next. The reconciler makes the one so and stores the other. Nothing is
remembered between two passes but the row, so a crash anywhere is harmless.

    RELEASING -> PREPARING -> STOPPING -> STARTING -> HOLDING -> SHIFTING -> PROVING -> FINISHING -> SUCCEEDED
     git ref     jobs         recreate                 on hold      | rolling:          jobs
                              \\ failed, aborted, late, DRIFT         next step is STARTING
                               RESTORING -> REVERTING -> ROLLED_BACK | FAILED

Traffic is counted in `parts`: the new version gets `shifted` of them, the old version the rest.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from .deployment import Deployment, Version
from .identity import Name
from .job import Job, JobRun, RunState
from .phase import DEADLINES, JOB_PHASES, ORDER, SCALABLE, Phase
from .proof import Proof, Verdict
from .strategy import Strategy
from .value import Value

SCHEMA_VERSION = 1


class Rollout(Value):
    """One row. epoch rises with each stored change and fences writers that lag behind.

    git_ref: the commit to build when `new` is not known yet. replicas: of the new version.
    old: live when it began; None on a first deploy. runs_jobs: of the new version; not on the way to a former one.
    undo_as: how it ends once the way back is done. moved: traffic has reached the new version at some time.
    stranded: there was no way back, since nobody of the old version is healthy: the new version keeps the traffic.
    proof: of the effect; after a way back, what disproved the effect, else the proof of the way back.
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
    ready_timeout_seconds: float = 60.0
    drain_timeout_seconds: float = 30.0
    rollback_window_seconds: float = 600.0
    started_at: datetime
    phase_since: datetime
    reason: str = ""
    detail: tuple[str, ...] = ()
    undo_as: Phase = Phase.FAILED
    stranded: bool = False
    proof: Proof | None = None

    @property
    def unchanged(self) -> bool:
        """The new version is the one that is live: at most its number of replicas changes."""
        return self.old is not None and self.new is not None and self.old.name == self.new.name

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
    """What somebody tells a rollout. by: the principal's name. replicas: of SCALE, from now on."""

    id: str
    kind: MessageKind
    by: str
    reason: str = ""
    replicas: Annotated[int, Field(ge=1)] | None = None
    at: datetime


class VersionSeen(Value):
    """How a version's instances are. running: processes that exist, ready or not. ready: by their own probe.

    healthy: by every live proxy's. failure: why it cannot become ready, when that is certain. log_tail: its last
    log lines.
    """

    running: int = 0
    ready: int = 0
    healthy: int = 0
    failure: str = ""
    log_tail: tuple[str, ...] = ()


class Seen(Value):
    """What a pass saw. weights: acknowledged by every live proxy; None where they do not agree yet.

    not_ready_because: the best guess why the new version is not ready, for the reason of a time-out.
    runs: of the rollout's jobs, those that were begun.
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


class Desired(Value):
    """replicas: how many instances of each version should run. weights: their shares of the traffic."""

    replicas: tuple[tuple[Version, int], ...] = ()
    weights: dict[str, int] = {}


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
    want(rollout.new, _new_replicas(rollout))
    return Desired(replicas=tuple(counts.values()), weights=_weights(rollout))


def _weights(r: Rollout) -> dict[str, int]:
    weights: dict[str, int] = {}
    shifted = 0 if r.phase is Phase.REVERTING else r.shifted
    if r.old is not None and shifted < r.parts:
        weights[r.old.name] = r.parts - shifted
    if r.new is not None and shifted > 0:
        weights[r.new.name] = weights.get(r.new.name, 0) + shifted
    return {next(iter(weights)): 1} if len(weights) == 1 else weights


def _new_replicas(r: Rollout) -> int:
    if r.new is None or r.phase is Phase.PREPARING:
        return 0
    if r.phase.going_back:
        if r.strategy is Strategy.RECREATE or not r.moved:
            return 0
        rolling = r.strategy is Strategy.ROLLING
        return math.ceil(r.new.replicas * r.shifted / r.parts) if rolling else r.new.replicas
    match r.strategy:
        case Strategy.BLUE_GREEN:
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
        case Strategy.BLUE_GREEN:
            return r.old.replicas
        case Strategy.ROLLING:
            # One stays until the new version is proven, so that the way back starts from something.
            acknowledged = r.shifted - (r.phase is Phase.SHIFTING)
            return max(1, math.ceil(r.old.replicas * (r.parts - acknowledged) / r.parts))
        case Strategy.RECREATE:
            return 0


def begin(rollout: Rollout, now: datetime) -> Rollout:
    """The rollout in the first phase after its release is known."""
    assert rollout.new is not None  # noqa: S101 - callers hold a version
    parts = rollout.new.replicas if rollout.strategy is Strategy.ROLLING else 1
    first = rollout.model_copy(update={"parts": parts})
    return _enter(first, Phase.PREPARING, now) if first.jobs(Phase.PREPARING) else _prepared(first, now)


def _prepared(r: Rollout, now: datetime) -> Rollout:
    stops_first = r.strategy is Strategy.RECREATE and r.old is not None and not r.unchanged
    return _enter(r, Phase.STOPPING if stops_first else Phase.STARTING, now)


def decide(rollout: Rollout, seen: Seen, messages: tuple[Message, ...], now: datetime) -> Rollout:
    """The rollout as it should be stored next; the same object when there is nothing to change.

    An abort comes first, then a failure that is certain, then progress, and only then the deadline: what was
    done while nobody looked is not undone for being looked at late.
    """
    if rollout.phase.finished:
        return rollout
    if rollout.phase.going_back:
        return _back(rollout, seen, now)
    for message in messages:
        if message.kind is MessageKind.ABORT:
            why = f"aborted by {message.by}" + (f": {message.reason}" if message.reason else "")
            return _go_back(rollout, why, (), now, undo_as=Phase.ROLLED_BACK)
    scaled = _scaled(rollout, messages)
    if scaled is not rollout:
        return scaled
    failed = _certain_failure(rollout, seen)
    if failed is None:
        onward = _onward(rollout, seen, messages, now)
        if onward is not rollout or now <= rollout.deadline:
            return onward
        failed = _late(rollout, seen)
    reason, detail = failed
    disproved = rollout.model_copy(update={"proof": seen.proof})
    return _go_back(disproved, reason, detail, now, undo_as=Phase.ROLLED_BACK if rollout.moved else Phase.FAILED)


def _scaled(r: Rollout, messages: tuple[Message, ...]) -> Rollout:
    """With the number of replicas that was asked for last, of both versions: the way back must carry the load too."""
    asked = [m.replicas for m in messages if m.kind is MessageKind.SCALE and m.replicas is not None]
    if not asked or r.phase not in SCALABLE:
        return r
    count = {"replicas": asked[-1]}
    old = r.old.model_copy(update=count) if r.old else None
    new = r.new.model_copy(update=count) if r.new else None
    if (r.replicas, r.old, r.new) == (asked[-1], old, new):
        return r
    return r.model_copy(update={**count, "old": old, "new": new, "epoch": r.epoch + 1})


def _onward(r: Rollout, seen: Seen, messages: tuple[Message, ...], now: datetime) -> Rollout:
    match r.phase:
        case Phase.RELEASING if seen.released is not None:
            return begin(r.model_copy(update={"new": seen.released}), now)
        case Phase.PREPARING if _all_succeeded(r, seen):
            return _prepared(r, now)
        case Phase.STOPPING if seen.old.running == 0:
            return _enter(r, Phase.STARTING, now)
        case Phase.STARTING if min(seen.new.ready, seen.new.healthy) >= _new_replicas(r):
            held = r.hold and r.shifted == 0
            return _enter(r, Phase.HOLDING, now) if held else _shift(r, now)
        case Phase.HOLDING if any(m.kind is MessageKind.PROMOTE for m in messages):
            ready = min(seen.new.ready, seen.new.healthy) >= _new_replicas(r)  # it may have been scaled meanwhile
            return _shift(r, now) if ready else r
        case Phase.SHIFTING if seen.weights == _weights(r):
            return _enter(r, Phase.PROVING if r.shifted >= r.parts else Phase.STARTING, now)
        case Phase.PROVING if seen.proof is not None:
            unverifiable = seen.proof.verdict is Verdict.UNVERIFIABLE and now > r.deadline
            if seen.proof.verdict is Verdict.MATCH or unverifiable:
                proven = Phase.FINISHING if r.jobs(Phase.FINISHING) else Phase.SUCCEEDED
                return _enter(r, proven, now, proof=seen.proof)
        case Phase.FINISHING if _all_succeeded(r, seen):
            return _end(r, Phase.SUCCEEDED, r.proof, now)
    return r


def _all_succeeded(r: Rollout, seen: Seen) -> bool:
    """Every job of the phase."""
    done = {run.job.name for run in seen.runs if run.state is RunState.SUCCEEDED}
    return all(job.name in done for job in r.jobs(r.phase))


def _back(r: Rollout, seen: Seen, now: datetime) -> Rollout:
    late = now > r.deadline
    if r.phase is Phase.RESTORING:
        wanted = r.old.replicas if r.old else 0
        if not late and any(run.state is RunState.RUNNING for run in seen.runs):
            return r  # they are being stopped: whoever deploys next must not meet them
        if late and r.old is not None and r.moved and seen.old.healthy == 0 and seen.new.healthy > 0:
            words = (
                f"{r.reason}; no instance of the version before is healthy, so the traffic stays where it is answered"
            )
            return _end(r.model_copy(update={"reason": words, "stranded": True}), Phase.FAILED, r.proof, now)
        if late or min(seen.old.ready, seen.old.healthy) >= wanted:
            return _enter(r, Phase.REVERTING, now)
        return r
    proven = seen.proof is not None and seen.proof.verdict is Verdict.MATCH
    if seen.weights == _weights(r) and proven:
        return _end(r, r.undo_as, r.proof or seen.proof, now)
    if late:
        why = seen.proof.summary() if seen.proof else seen.route_error or "the proxies do not agree"
        worse = r.model_copy(update={"reason": f"{r.reason}; the way back is not proven: {why}"})
        return _end(worse, Phase.FAILED, seen.proof, now)
    return r


Failure = tuple[str, tuple[str, ...]]


def _certain_failure(r: Rollout, seen: Seen) -> Failure | None:
    """Why it cannot go on however long one waits, with the last log lines."""
    if r.phase is Phase.RELEASING and seen.release_error:
        return seen.release_error, seen.release_log
    failed = next((run for run in seen.runs if run.state in (RunState.FAILED, RunState.STOPPED)), None)
    if failed is not None:
        return f"the job {failed.job.name} {failed.reason}", failed.log_tail
    if r.phase not in (Phase.PREPARING, Phase.STOPPING) and not r.unchanged and seen.new.failure:
        return seen.new.failure, seen.new.log_tail
    return None


def _late(r: Rollout, seen: Seen) -> Failure:
    """Why a phase did not end in its time."""
    match r.phase:
        case Phase.RELEASING:
            return "the release was not built in time", seen.release_log
        case Phase.PREPARING | Phase.FINISHING:
            return "its jobs did not end in time", ()
        case Phase.STOPPING:
            return "the old version did not stop in time", ()
        case Phase.HOLDING:
            return "nobody promoted it in time", ()
        case Phase.SHIFTING:
            return f"the proxies did not take the new weights: {seen.route_error or 'no acknowledgement'}", ()
        case Phase.PROVING:
            why = seen.proof.summary() if seen.proof else "no probe answered"
            return f"the effect is not as claimed: {why}", seen.new.log_tail
        case _:
            why = seen.not_ready_because or f"{seen.new.ready} of {_new_replicas(r)} instances are ready"
            return f"not ready within {r.ready_timeout_seconds:g} s: {why}", seen.new.log_tail


def _enter(r: Rollout, phase: Phase, now: datetime, **changes: object) -> Rollout:
    return r.model_copy(update={"phase": phase, "phase_since": now, "epoch": r.epoch + 1, **changes})


def _shift(r: Rollout, now: datetime) -> Rollout:
    return _enter(r, Phase.SHIFTING, now, shifted=r.shifted + 1, moved=True)


def _go_back(r: Rollout, reason: str, detail: tuple[str, ...], now: datetime, *, undo_as: Phase) -> Rollout:
    return _enter(r, Phase.RESTORING, now, reason=reason, detail=detail, undo_as=undo_as)


def _end(r: Rollout, phase: Phase, proof: Proof | None, now: datetime) -> Rollout:
    return _enter(r, phase, now, proof=proof)


def settle(deployment: Deployment, rollout: Rollout, now: datetime) -> Deployment:
    """The deployment after a finished rollout: the new version is live, or the old one, as many as were asked for."""
    if rollout.old is not None:
        deployment = deployment.model_copy(update={"live": rollout.old})
    if rollout.new is None or not (rollout.phase is Phase.SUCCEEDED or rollout.stranded):
        return deployment
    warm = rollout.strategy is Strategy.BLUE_GREEN and rollout.rollback_window_seconds > 0 and not rollout.stranded
    until = now + timedelta(seconds=rollout.rollback_window_seconds) if warm else None
    settled = deployment.after(rollout.new, now, until)
    return settled.model_copy(
        update={
            "strategy": rollout.strategy,
            "rollback_window_seconds": rollout.rollback_window_seconds,
            "drain_timeout_seconds": rollout.drain_timeout_seconds,
            "ready_timeout_seconds": rollout.ready_timeout_seconds,
        }
    )


def progress(r: Rollout) -> float:
    """How far it is, 0 to 1, for people who wait."""
    if r.phase.finished:
        return 1.0
    if r.phase.going_back:
        return 0.9
    within = ORDER.index(r.phase) / len(ORDER)
    return round((r.shifted + within) / (r.parts + 1), 3) if r.parts > 1 else round(within, 3)
