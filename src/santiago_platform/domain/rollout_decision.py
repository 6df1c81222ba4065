"""What a rollout does next, from the stored row and what is seen. Level-triggered and pure.

A rollout is a row. `desired` (domain/rollout.py) says which versions should run and who should get traffic in its
phase; `decide` says which phase comes next. The reconciler makes the one so and stores the other.

    RELEASING -> PREPARING -> STOPPING -> STARTING -> HOLDING -> REHEARSING -> SHIFTING -> PROVING -> FINISHING
     git ref     jobs         recreate    ^            on hold    an old one    |    |                jobs  -> SUCCEEDED
                                          '---- rolling ------------------------'    |
                                          '---- canary ----------------- ANALYSING <-'
                              \\ failed, aborted, late, DRIFT, judged
                               RESTORING -> REVERTING -> ROLLED_BACK | FAILED
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from .canary import Otherwise, step_progress
from .deployment import Deployment
from .job import RunState
from .judge import due_to_store
from .phase import DEADLINES, ORDER, SCALABLE, Phase
from .proof import Proof, Verdict
from .rollout import Message, MessageKind, Rehearsal, Rollout, Seen, new_replicas, weights_of
from .strategy import WARM_STRATEGIES, Strategy
from .watch import RESTARTS_TOO_MANY, WATCHED, Watch, ended_by_themselves, watch

# How long the instances of a canary may be fewer than they should be.
NONE_READY_PATIENCE = timedelta(seconds=3)
UNREADY_PATIENCE = timedelta(seconds=15)
# How often there may be none at all within so long, if only for a moment.
LAPSES_TOO_MANY, LAPSES_WITHIN = 3, timedelta(minutes=5)
_NUMBER = re.compile(r"\d[\d.,^e+-]*")  # in words that are no news while only the figures in them change


def begin(rollout: Rollout, now: datetime) -> Rollout:
    """The rollout in the first phase after its release is known."""
    assert rollout.new is not None  # noqa: S101 - callers hold a version
    parts = rollout.new.replicas if rollout.strategy is Strategy.ROLLING else 100 if rollout.stepwise else 1
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
    judged = _judged(rollout, seen)
    for message in messages:
        if message.kind is MessageKind.ABORT:
            why = f"aborted by {message.by}" + (f": {message.reason}" if message.reason else "")
            return _go_back(judged, why, (), now, undo_as=Phase.ROLLED_BACK)
    scaled = _scaled(judged, messages, now)
    if scaled is not judged:
        return scaled
    if rollout.phase is Phase.ANALYSING:
        return _analysed(rollout, judged, seen, messages, now)
    failed = _certain_failure(judged, seen) or _judged_unfit(judged, seen) or _disproved(judged, seen, now)
    if failed is None:
        onward = _onward(judged, seen, messages, now)
        if onward is not judged:
            return onward
        if now <= rollout.deadline:
            return judged.model_copy(update={"epoch": rollout.epoch + 1}) if _due_to_store(rollout, judged) else rollout
        failed = _late(rollout, seen)
    reason, detail = failed
    disproved = judged.model_copy(update={"proof": seen.proof})
    return _go_back(disproved, reason, detail, now, undo_as=Phase.ROLLED_BACK if rollout.moved else Phase.FAILED)


def _judged(r: Rollout, seen: Seen) -> Rollout:
    """With what has been looked at since it was stored."""
    looked = {name: value for name in ("analysis", "watch") if (value := getattr(seen, name)) is not None}
    return r.model_copy(update=looked) if looked else r


def _due_to_store(stored: Rollout, judged: Rollout) -> bool:
    """Whether what has been looked at is to be stored by itself: nothing follows from it yet."""
    a, b = stored.analysis, judged.analysis
    analysis = b is not None and (a is None or due_to_store(a.looked_at, b.looked_at))
    was, watch = stored.watch, judged.watch
    return analysis or (watch is not None and (was is None or watch.worth_storing(was)))


def _scaled(r: Rollout, messages: tuple[Message, ...], now: datetime) -> Rollout:
    """With the number of replicas that was asked for last, of both versions: the way back must carry the load too."""
    asked = [m.replicas for m in messages if m.kind is MessageKind.SCALE and m.replicas is not None]
    if not asked or r.phase not in SCALABLE:
        return r
    count = {"replicas": asked[-1]}
    old = r.old.model_copy(update=count) if r.old else None
    new = r.new.model_copy(update=count) if r.new else None
    if (r.replicas, r.old, r.new) == (asked[-1], old, new):
        return r
    scaled = r.model_copy(update={**count, "old": old, "new": new})
    if r.phase is Phase.ANALYSING:  # the new ones are given their time to start, and the step begins anew
        return _enter(scaled, Phase.STARTING, now, unready_since=None)
    return scaled.model_copy(update={"epoch": r.epoch + 1})


def _onward(r: Rollout, seen: Seen, messages: tuple[Message, ...], now: datetime) -> Rollout:
    match r.phase:
        case Phase.RELEASING if seen.released is not None:
            return begin(r.model_copy(update={"new": seen.released}), now)
        case Phase.PREPARING if _all_succeeded(r, seen):
            return _prepared(r, now)
        case Phase.STOPPING if seen.old.running == 0:
            return _enter(r, Phase.STARTING, now)
        case Phase.STARTING if min(seen.new.ready, seen.new.healthy) >= new_replicas(r):
            held = r.hold and not r.moved
            return _enter(r, Phase.HOLDING, now) if held else _ready(r, now)
        case Phase.HOLDING if any(m.kind is MessageKind.PROMOTE for m in messages):
            ready = min(seen.new.ready, seen.new.healthy) >= new_replicas(r)  # it may have been scaled meanwhile
            return _ready(r, now) if ready else r
        case Phase.REHEARSING if seen.proof is not None and seen.proof.verdict is Verdict.MATCH:
            if not r.rehearsed:
                return _enter(r, Phase.REHEARSING, now, rehearsed=True)
            return _shift(r.model_copy(update={"rehearsal": Rehearsal(at=now, healthy=seen.old.healthy)}), now)
        case Phase.SHIFTING if r.at_step:  # only what comes after the proof may speak for the canary
            if seen.weights == weights_of(r) and seen.proof is not None and seen.proof.verdict is Verdict.MATCH:
                analysis = r.analysis if r.synthetic else r.analysis and r.analysis.at_new_weight()
                return _enter(r, Phase.ANALYSING, now, analysis=analysis, proof=seen.proof)
        case Phase.SHIFTING if seen.weights == weights_of(r):
            if r.shifted >= r.parts:
                return _enter(r, Phase.PROVING, now, watch=_watch(r, now))
            return _enter(r, Phase.STARTING, now)
        case Phase.PROVING if seen.proof is not None:
            unverifiable = seen.proof.verdict is Verdict.UNVERIFIABLE and now > r.deadline
            if seen.proof.verdict is Verdict.MATCH or unverifiable:
                proven = Phase.FINISHING if r.jobs(Phase.FINISHING) else Phase.SUCCEEDED
                return _enter(r, proven, now, proof=seen.proof)
        case Phase.FINISHING if _all_succeeded(r, seen):
            return _end(r, Phase.SUCCEEDED, r.proof, now)
    return r


def _analysed(stored: Rollout, r: Rollout, seen: Seen, messages: tuple[Message, ...], now: datetime) -> Rollout:
    """A step of the canary: ended by what speaks against it, done, or waited for. r: with the looks since it was
    stored."""
    r = _readiness(r, seen, now)
    if r.proof is None and seen.proof is not None and seen.proof.verdict is Verdict.MATCH:
        r = r.model_copy(update={"proof": seen.proof})
    assert r.canary is not None  # noqa: S101 - the phase is of stepwise rollouts alone
    failed = _certain_failure(r, seen) or _unfit(r, seen, now)
    if failed is not None:
        return _go_back(r, *failed, now, undo_as=Phase.ROLLED_BACK)
    approved = any(m.kind is MessageKind.PROMOTE and m.step == r.step for m in messages)
    step = step_progress(
        r.canary, r.step, r.analysis, since=r.phase_since, now=now, approved=approved, synthetic=r.synthetic
    )
    if r.proof is None and not approved:  # the next step is proven before it counts in any case
        said = seen.proof.summary() if seen.proof else "not looked at yet"
        step = step.model_copy(update={"done": False, "waits_for": f"proof of its rules: {said}"})
    if step.done and not approved and seen.gate_refusal:  # who promotes was asked already
        step = step.model_copy(update={"done": False, "waits_for": seen.gate_refusal, "needs_somebody": True})
    if step.done and r.unready_since is not None:  # the next step would give them longer than this one does
        step = step.model_copy(update={"done": False, "waits_for": "its instances to be ready"})
    if step.done:
        onward = {"step": r.step + 1, "reason": "", "unready_since": None, "needs_somebody": False, "synthetic": False}
        return _enter(r, Phase.STARTING, now, **onward)
    if now > r.deadline:
        return _go_back(r, *_late(r, seen), now, undo_as=Phase.ROLLED_BACK)
    if step.late and r.canary.otherwise is Otherwise.SYNTHETIC and not r.synthetic:
        return _enter(r, Phase.SHIFTING, now, synthetic=True, proof=None, reason="")  # its rules are proven first
    if step.late and r.canary.otherwise is Otherwise.ABORT:
        why = f"not decided within {r.canary.max_wait_seconds:g} s: {step.waits_for}"
        return _go_back(r, why, (), now, undo_as=Phase.ROLLED_BACK)
    held = "held, " if step.late else ""
    words = f"{held}step {r.step + 1} of {len(r.canary.steps)}, {r.shifted}%: waits for {step.waits_for}"
    same = _NUMBER.sub("", words) == _NUMBER.sub("", r.reason) and step.needs_somebody is r.needs_somebody
    if same and r.unready_since == stored.unready_since and not _due_to_store(stored, r):
        return stored
    return r.model_copy(update={"reason": words, "needs_somebody": step.needs_somebody, "epoch": r.epoch + 1})


def _readiness(r: Rollout, seen: Seen, now: datetime) -> Rollout:
    fit, lapses = min(seen.new.ready, seen.new.healthy), r.lapses
    since = (r.unready_since or now) if fit < new_replicas(r) else None
    if since and fit == 0 and not _blind(seen) and not any(at >= since for at in lapses):
        lapses = (*(at for at in lapses if now - at < LAPSES_WITHIN), now)
    if (since, lapses) == (r.unready_since, r.lapses):
        return r
    return r.model_copy(update={"unready_since": since, "lapses": lapses})


def _blind(seen: Seen) -> bool:
    """A proxy that has just started finds nobody healthy for a moment, which says nothing of the canary."""
    return seen.old.healthy == 0


def _judged_unfit(r: Rollout, seen: Seen) -> Failure | None:
    """What ends a canary in any phase once traffic has moved to it, and others once they have all of it."""
    if r.watch is not None and r.watch.failed:
        return f"{WATCHED}: {r.watch.failed}", seen.new.log_tail
    if not r.stepwise or not r.moved:
        return None
    ended = ended_by_themselves(seen.new.restarts, seen.new.last_end) if seen.new.restarts else ""
    if r.analysis is not None and r.analysis.judge.failed:
        return "; ".join(filter(None, (r.analysis.judge.failed, ended))), seen.new.log_tail
    return (ended, seen.new.log_tail) if seen.new.restarts >= RESTARTS_TOO_MANY else None


def _disproved(r: Rollout, seen: Seen, now: datetime) -> Failure | None:
    """A step that every proxy acknowledged and that is not so: nobody knows who has the canary."""
    drift = seen.proof is not None and seen.proof.verdict is Verdict.DRIFT
    if r.phase is Phase.SHIFTING and r.at_step and drift and now > r.phase_since + DEADLINES[Phase.PROVING]:
        return _late(r, seen)
    return None


def _unfit(r: Rollout, seen: Seen, now: datetime) -> Failure | None:
    """What ends a canary at any step."""
    if judged := _judged_unfit(r, seen):
        return judged
    fit = min(seen.new.ready, seen.new.healthy)
    patience = UNREADY_PATIENCE if fit or _blind(seen) else NONE_READY_PATIENCE
    ill = "the ingress finds them ill" if seen.new.healthy < seen.new.ready else ""
    why = f" ({said})" if (said := seen.not_ready_because or ill) else ""
    if r.unready_since is not None and now - r.unready_since > patience:
        return f"{fit} of {new_replicas(r)} instances are ready{why}", seen.new.log_tail
    if len(r.lapses) >= LAPSES_TOO_MANY:
        within = f"{LAPSES_WITHIN.total_seconds() / 60:g} minutes"
        return f"its instances stopped being ready {len(r.lapses)} times in {within}{why}", seen.new.log_tail
    return None


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
        gone = r.old is not None and r.moved and seen.old.healthy == 0 and seen.new.healthy > 0
        if late and gone:
            words = (
                f"{r.reason}; no instance of the version before is healthy, so all traffic goes to the version that "
                "answers"
            )
            return _end(r.model_copy(update={"reason": words, "stranded": True}), Phase.FAILED, r.proof, now)
        serves = r.stepwise and seen.old.healthy > 0  # most of the traffic is the old version's already
        if late or serves or r.never_left or min(seen.old.ready, seen.old.healthy) >= wanted:
            return _enter(r, Phase.REVERTING, now, stranded=False)
        if r.stepwise and gone is not r.stranded:  # its share of the instances would not carry all the traffic
            return r.model_copy(update={"stranded": gone, "epoch": r.epoch + 1})
        return r
    proven = seen.proof is not None and seen.proof.verdict is Verdict.MATCH
    nothing_to_prove = r.never_left and not any(v.template.ports for v in (r.old, r.new) if v is not None)
    if seen.weights == weights_of(r) and (proven or nothing_to_prove):
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
        case Phase.REHEARSING:
            said = seen.proof.summary() if seen.proof else seen.route_error or "no proxy answers"
            return f"the way back could not be rehearsed: {said}", ()
        case Phase.HOLDING | Phase.ANALYSING:
            return "nobody promoted it in time", ()
        case Phase.SHIFTING:
            said = seen.proof.summary() if seen.proof else seen.route_error or "no acknowledgement"
            return f"the proxies did not take the new weights: {said}", ()
        case Phase.PROVING:
            why = seen.proof.summary() if seen.proof else "no probe answered"
            return f"the effect is not as claimed: {why}", seen.new.log_tail
        case _:
            why = seen.not_ready_because or f"{seen.new.ready} of {new_replicas(r)} instances are ready"
            return f"not ready within {r.ready_timeout_seconds:g} s: {why}", seen.new.log_tail


def _enter(r: Rollout, phase: Phase, now: datetime, **changes: object) -> Rollout:
    return r.model_copy(update={"phase": phase, "phase_since": now, "epoch": r.epoch + 1, **changes})


def _ready(r: Rollout, now: datetime) -> Rollout:
    """Before traffic moves for the first time, the way back is tried, where there is one."""
    rehearse = r.runs_jobs and not r.moved and not r.unchanged and r.strategy is not Strategy.RECREATE
    return _enter(r, Phase.REHEARSING, now) if rehearse and r.routed else _shift(r, now)


def _shift(r: Rollout, now: datetime) -> Rollout:
    shifted = r.canary.weight(r.step) if r.stepwise and r.canary is not None else r.shifted + 1
    return _enter(r, Phase.SHIFTING, now, shifted=shifted, moved=True, moved_at=r.moved_at or now, proof=None)


def _go_back(r: Rollout, reason: str, detail: tuple[str, ...], now: datetime, *, undo_as: Phase) -> Rollout:
    disproof = r.proof if r.proof is not None and r.proof.verdict is not Verdict.MATCH else None
    return _enter(r, Phase.RESTORING, now, reason=reason, detail=detail, undo_as=undo_as, proof=disproof)


def _end(r: Rollout, phase: Phase, proof: Proof | None, now: datetime) -> Rollout:
    return _enter(r, phase, now, proof=proof)


def after_jump(r: Rollout, jump: timedelta) -> Rollout:
    """The rollout after the wall clock has jumped: what it has waited is what it had waited before."""
    moved: dict[str, Any] = {"phase_since": r.phase_since + jump, "epoch": r.epoch + 1}
    for name, at in (("unready_since", r.unready_since), ("moved_at", r.moved_at)):
        if at is not None:
            moved[name] = at + jump
    moved["lapses"] = tuple(at + jump for at in r.lapses)
    for name, kept in (("analysis", r.analysis), ("watch", r.watch)):
        if kept is not None:
            moved[name] = kept.after_jump(jump)
    return r.model_copy(update=moved)


def settle(deployment: Deployment, rollout: Rollout, now: datetime) -> Deployment:
    """The deployment after a finished rollout: the new version is live, or the old one, as many as were asked for."""
    if rollout.old is not None:
        deployment = deployment.model_copy(update={"live": rollout.old})
    if deployment.watch is not None and rollout.moved_at is not None:  # nobody could look while traffic was elsewhere
        deployment = deployment.model_copy(update={"watch": deployment.watch.after_jump(now - rollout.moved_at)})
    if rollout.new is None or not (rollout.phase is Phase.SUCCEEDED or rollout.stranded):
        return deployment
    warm = rollout.strategy in WARM_STRATEGIES and rollout.rollback_window_seconds > 0 and not rollout.stranded
    until = now + timedelta(seconds=rollout.rollback_window_seconds) if warm else None
    settled = deployment.after(rollout.new, now, until)
    return settled.model_copy(
        update={
            "strategy": deployment.strategy if rollout.unchanged else rollout.strategy,
            "rollback_window_seconds": rollout.rollback_window_seconds,
            "drain_timeout_seconds": rollout.drain_timeout_seconds,
            "ready_timeout_seconds": rollout.ready_timeout_seconds,
            "watch": deployment.watch if rollout.unchanged else _goes_on(rollout, now),
        }
    )


def _watch(r: Rollout, now: datetime) -> Watch | None:
    """That of a version which has just got all traffic."""
    back = r.strategy is not Strategy.RECREATE  # whose way back is an outage
    if r.new is None or not r.runs_jobs or r.watch_seconds <= 0 or not r.routed or r.unchanged or not back:
        return None
    return watch(r.new.name, now, r.watch_seconds, r.analysis.bucket_seconds if r.analysis else None)


def _goes_on(r: Rollout, now: datetime) -> Watch | None:
    """The watch after the rollout: while the version before is kept warm, so that the way back is short."""
    kept = r.strategy in WARM_STRATEGIES and r.rollback_window_seconds > 0 and not r.stranded
    return r.watch if kept and r.watch is not None and now < r.watch.until else None


def progress(r: Rollout) -> float:
    """How far it is, 0 to 1, for people who wait."""
    if r.phase.finished:
        return 1.0
    if r.phase.going_back:
        return 0.9
    within = ORDER.index(r.phase) / len(ORDER)
    if r.stepwise and r.canary is not None:
        return round(min(r.step, len(r.canary.steps)) / (len(r.canary.steps) + 1) + within / 10, 3)
    return round((r.shifted + within) / (r.parts + 1), 3) if r.parts > 1 else round(within, 3)
