"""Properties of decide() that hold whatever is seen, told and waited for; canaries and jobs included."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from santiago_platform.domain.canary import Analysis, Canary, Otherwise, Step
from santiago_platform.domain.deployment import Deployment, Version
from santiago_platform.domain.job import Job, RunState, When, job_run
from santiago_platform.domain.judge import Counted, Judge
from santiago_platform.domain.phase import JOB_PHASES, Phase
from santiago_platform.domain.proof import Proof, Verdict
from santiago_platform.domain.rollout import Message, MessageKind, Rollout, Seen, VersionSeen, desired
from santiago_platform.domain.rollout_decision import after_jump, begin, decide, progress, settle
from santiago_platform.domain.sequential_test import AbortTest, Bucket, PromotionTest
from santiago_platform.domain.strategy import Strategy
from santiago_platform.domain.workload import Port, Template

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOBS = tuple(Job(name=str(when), when=when, command=("run",)) for when in (When.PRE_DEPLOY, When.POST_DEPLOY))


def version(digit: str, **fields: Any) -> Version:
    template = Template(
        service="web",
        environment="production",
        tenant="default",
        release=f"sha256:{digit * 64}",
        command=("run",),
        ports=(Port(name="http", target=8080),),
    )
    return Version(template=template, replicas=4, **fields)


OLD, NEW = version("a"), version("b", jobs=JOBS)
JUDGE = Judge(
    counted=(Counted(name="errors", abort=AbortTest(horizon_minutes=60), promotion=PromotionTest(margin_ratio=0.005)),)
)
GOOD, BAD = ((400, 0), (400, 1)), ((400, 300), (400, 1))


@dataclass(frozen=True)
class Sight:
    """What a pass meets. new, old: how the instances of a version are. counts: (requests, errors) of canary and stable
    in a bucket. seconds: that pass before it."""

    new: str = "ready"
    old: str = "ready"
    acknowledged: bool = True
    proof: Verdict | None = Verdict.MATCH
    jobs: RunState = RunState.SUCCEEDED
    counts: tuple[tuple[int, int], tuple[int, int]] | None = None
    refused: bool = False
    told: MessageKind | None = None
    replicas: int = 4
    seconds: float = 1.0

    def seen(self, row: Rollout, now: datetime) -> Seen:
        want = desired(Deployment(service="web", environment="production", tenant="default"), row, now)
        counts = {v.name: n for v, n in want.replicas}

        def one(v: Version | None, how: str) -> VersionSeen:
            n = counts.get(v.name, 0) if v else 0
            ready = {"ready": n, "half": n // 2}.get(how, 0)
            failure = "it died" if how == "dead" else ""
            return VersionSeen(
                running=n, ready=ready, healthy=ready, failure=failure, restarts=9 if how == "restarting" else 0
            )

        analysis, watch = row.analysis, row.watch
        if row.stepwise and row.moved and not row.phase.going_back:
            analysis = analysis or Analysis(judge=JUDGE, bucket_seconds=1, began_at=now)
            if self.counts is not None:
                bucket = Bucket(
                    canary_requests=self.counts[0][0],
                    canary_errors=self.counts[0][1],
                    stable_requests=self.counts[1][0],
                    stable_errors=self.counts[1][1],
                )
                judge = analysis.judge.look(analysis.minute(now), {"errors": bucket})
                analysis = analysis.model_copy(update={"judge": judge, "looked_at": now})
        if row.phase is Phase.FINISHING and watch is not None and self.counts is not None:
            watch = watch.look(*self.counts[0], now)
        return Seen(
            new=one(row.new, self.new),
            old=one(row.old, self.old),
            weights=want.weights if self.acknowledged else None,
            proof=Proof(verdict=self.proof, evidence=(), at=NOW) if self.proof else None,
            runs=self._runs(row),
            analysis=analysis,
            watch=watch,
            gate_refusal="it is frozen" if self.refused else "",
        )

    def _runs(self, row: Rollout) -> tuple[Any, ...]:
        def run(job: Job) -> Any:
            begun = job_run(job, NEW.template, row.id, NOW)
            return begun if self.jobs is RunState.RUNNING else begun.ended(self.jobs, NOW, "ended")

        return tuple(run(job) for job in row.jobs(row.phase))

    def messages(self, row: Rollout) -> tuple[Message, ...]:
        if self.told is None:
            return ()
        step = row.step if row.phase is Phase.ANALYSING else None
        replicas = self.replicas if self.told is MessageKind.SCALE else None
        return (Message(id="m", kind=self.told, by="ann", step=step, replicas=replicas, at=NOW),)


HOW = st.sampled_from(["ready"] * 6 + ["half", "none", "dead", "restarting"])
SOME_TIME = st.sampled_from([0.05, 1.0, 4.0, 20.0])
CALM = st.builds(Sight, counts=st.sampled_from([None, GOOD]), seconds=SOME_TIME)
PROMOTED = st.builds(Sight, told=st.just(MessageKind.PROMOTE), seconds=SOME_TIME)
ANYTHING = st.builds(
    Sight,
    new=HOW,
    old=st.sampled_from(["ready"] * 6 + ["half", "none"]),
    acknowledged=st.sampled_from([True] * 4 + [False]),
    proof=st.sampled_from([Verdict.MATCH] * 4 + [None, Verdict.DRIFT, Verdict.UNVERIFIABLE]),
    jobs=st.sampled_from([RunState.SUCCEEDED] * 4 + [RunState.RUNNING, RunState.FAILED, RunState.STOPPED]),
    counts=st.sampled_from([None, GOOD, GOOD, GOOD, BAD]),
    refused=st.sampled_from([False] * 4 + [True]),
    told=st.sampled_from([None] * 9 + [*MessageKind, MessageKind.PROMOTE]),
    replicas=st.integers(1, 9),
    seconds=st.sampled_from([0.05, 1.0, 4.0, 20.0, 600.0, 86_400.0]),
)
SIGHTS = st.one_of(*[CALM] * 6, PROMOTED, ANYTHING)  # else hardly any gets far
STEPS = st.builds(
    Step,
    weight=st.sampled_from([0, 1, 10, 50, 99]),
    pause_seconds=st.sampled_from([0.0, 0.0, 5.0, 600.0]),
    requests=st.sampled_from([0, 0, 500]),
    approval=st.sampled_from([False, False, True]),
    analysis=st.booleans(),
    replicas=st.sampled_from([None, 1, 9]),
)
CANARIES = st.builds(
    Canary,
    steps=st.lists(STEPS, min_size=1, max_size=4).map(lambda s: tuple(sorted(s, key=lambda step: step.weight))),
    max_wait_seconds=st.sampled_from([30.0, 3600.0]),
    otherwise=st.sampled_from(Otherwise),
)


@st.composite
def rollouts(draw: st.DrawFn) -> Rollout:
    """Of each kind, in their first phase."""
    strategy = draw(st.sampled_from([*Strategy, Strategy.CANARY, Strategy.CANARY]))
    row = Rollout(
        id="ro-1",
        operation_id="op-1",
        service="web",
        environment="production",
        tenant="default",
        strategy=strategy,
        old=draw(st.sampled_from([OLD, OLD, OLD, None, NEW])),
        new=NEW,
        replicas=NEW.replicas,
        hold=draw(st.booleans()),
        runs_jobs=draw(st.booleans()),
        canary=draw(CANARIES) if strategy is Strategy.CANARY else None,
        phase=Phase.RELEASING,
        started_at=NOW,
        phase_since=NOW,
    )
    return begin(row, NOW)


def share(row: Rollout, now: datetime) -> float:
    """Of the traffic, that the new version is to have."""
    live = Deployment(service="web", environment="production", tenant="default", live=row.old)
    weights = desired(live, row, now).weights
    return weights.get(NEW.name, 0) / sum(weights.values()) if weights else 0.0


def walk(row: Rollout, sights: list[Sight]) -> list[tuple[Rollout, Sight, datetime]]:
    """The row before each pass, what that met, and when; the last row is of the end."""
    walked, now = [], NOW
    for sight in sights:
        now += timedelta(seconds=sight.seconds)
        walked.append((row, sight, now))
        row = decide(row, sight.seen(row, now), sight.messages(row), now)
    return [*walked, (row, Sight(), now)]


def unscaled(sight: Sight) -> Sight:
    """Whoever scales a canary again and again gives it time again and again."""
    return replace(sight, told=None) if sight.told is MessageKind.SCALE else sight


RUNS = st.lists(SIGHTS, max_size=40)
thorough = settings(max_examples=150, deadline=None)


@given(rollouts(), RUNS)
@thorough
def test_the_epoch_rises_by_one_with_each_change_and_only_then(row: Rollout, sights: list[Sight]) -> None:
    rows = [r for r, _, _ in walk(row, sights)]
    for before, after in itertools.pairwise(rows):
        assert (after is before) == (after == before)
        assert after.epoch - before.epoch == (after is not before)
        assert 0 <= progress(after) <= 1
    event(str(rows[-1].phase))


@given(rollouts(), RUNS)
@thorough
def test_a_canary_never_gets_more_than_the_weight_of_its_step(row: Rollout, sights: list[Sight]) -> None:
    for r, _, now in walk(row, sights):
        if r.stepwise and r.canary is not None and not r.phase.finished:
            assert share(r, now) <= r.canary.weight(r.step) / 100
            if r.step < len(r.canary.steps):
                assert share(r, now) < 1


@given(rollouts(), RUNS)
@thorough
def test_on_the_way_back_the_new_version_never_gets_more_and_gets_nothing_at_its_end(
    row: Rollout, sights: list[Sight]
) -> None:
    walked = walk(row, sights)
    for (before, _, at), (after, _, now) in itertools.pairwise(walked):
        if after.phase.going_back:
            assert share(after, now) <= share(before, at)
        if after.phase is Phase.REVERTING:
            assert share(after, now) == 0 or after.unchanged


@given(rollouts(), RUNS, SIGHTS)
@thorough
def test_an_abort_wins_over_whatever_else_is_seen(row: Rollout, sights: list[Sight], sight: Sight) -> None:
    r, _, now = walk(row, sights)[-1]
    seen = sight.seen(r, now)
    abort = Message(id="a", kind=MessageKind.ABORT, by="ann", at=NOW)
    after = decide(r, seen, (*sight.messages(r), abort), now)
    if r.phase.finished:
        assert after is r
    elif r.phase.going_back:
        assert after == decide(r, seen, (), now), "it is on the way back already"
    else:
        assert (after.phase, after.undo_as, after.reason) == (Phase.RESTORING, Phase.ROLLED_BACK, "aborted by ann")


@given(rollouts(), RUNS, st.lists(SIGHTS.map(unscaled), min_size=1, max_size=9))
@thorough
def test_whatever_is_seen_a_rollout_ends_once_time_goes_on_and_its_end_is_for_good(
    row: Rollout, sights: list[Sight], later: list[Sight]
) -> None:
    r, _, now = walk(row, sights)[-1]
    passes = 0
    while not r.phase.finished:
        now += timedelta(days=400)
        sight = later[passes % len(later)]
        r = decide(r, sight.seen(r, now), sight.messages(r), now)
        passes += 1
        assert passes <= 40, r.phase
    sight = later[0]
    assert decide(r, sight.seen(r, now), sight.messages(r), now) is r
    live = Deployment(service="web", environment="production", tenant="default", live=row.old)
    after = settle(live, r, now)
    if not r.moved:
        assert r.phase in (Phase.FAILED, Phase.ROLLED_BACK)
    if r.phase is not Phase.SUCCEEDED and not r.stranded:
        assert (after.live and after.live.name) == (row.old and row.old.name)
        assert desired(after, None, now).weights == ({row.old.name: 1} if row.old else {})
    event(str(r.phase))


@given(rollouts(), RUNS)
@thorough
def test_no_job_after_the_switch_runs_before_all_traffic_has_moved(row: Rollout, sights: list[Sight]) -> None:
    for r, _, now in walk(row, sights):
        if r.phase in JOB_PHASES and not r.unchanged:
            assert share(r, now) == (0 if JOB_PHASES[r.phase] is When.PRE_DEPLOY else 1)


@given(rollouts(), RUNS)
@thorough
def test_a_row_that_was_stored_is_the_same_row(row: Rollout, sights: list[Sight]) -> None:
    r = walk(row, sights)[-1][0]
    assert Rollout.model_validate_json(r.stored()) == r


JUMPS = st.integers(-(10**7), 10**7).map(lambda seconds: timedelta(seconds=seconds))


@given(rollouts(), RUNS, JUMPS, JUMPS)
@thorough
def test_jumps_of_the_clock_add_up_and_change_nothing_that_is_decided(
    row: Rollout, sights: list[Sight], one: timedelta, other: timedelta
) -> None:
    walked = walk(row, sights)
    for (r, sight, now), (calm, _, _) in itertools.pairwise(walked):
        twice, once = after_jump(after_jump(r, one), other), after_jump(r, one + other)
        assert twice.model_copy(update={"epoch": once.epoch}) == once
        if r.phase.finished:
            break
        moved = after_jump(r, one)
        after = decide(moved, sight.seen(moved, now + one), sight.messages(moved), now + one)
        assert (after is moved) == (calm is r)
        # When it was rehearsed is told by the clock of then.
        told = {"epoch": 0, "rehearsal": None}
        assert after.model_copy(update=told) == after_jump(calm, one).model_copy(update=told)
