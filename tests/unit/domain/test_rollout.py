"""decide() and desired(), by cases and by simulated rollouts with every kind of trouble."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from santiago_platform.domain.deployment import Deployment, Version
from santiago_platform.domain.job import Job, JobRun, RunState, When, job_run
from santiago_platform.domain.phase import Phase
from santiago_platform.domain.proof import Proof, Verdict
from santiago_platform.domain.rollout import Desired, Message, MessageKind, Rollout, Seen, VersionSeen, desired
from santiago_platform.domain.rollout_decision import begin, decide, progress, settle
from santiago_platform.domain.strategy import Strategy
from santiago_platform.domain.workload import Template

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def version(name: str, replicas: int = 2) -> Version:
    template = Template(
        service="web", environment="production", tenant="default", release=f"sha256:{name * 64}", command=("run",)
    )
    return Version(template=template, replicas=replicas)


OLD, NEW = version("a"), version("b")


def proof(verdict: Verdict) -> Proof:
    return Proof(verdict=verdict, evidence=(), at=NOW)


def rollout(strategy: Strategy = Strategy.BLUE_GREEN, old: Version | None = OLD, **changes: object) -> Rollout:
    row = Rollout(
        id="ro-1",
        operation_id="op-1",
        service="web",
        environment="production",
        tenant="default",
        strategy=strategy,
        old=old,
        new=NEW,
        replicas=NEW.replicas,
        phase=Phase.RELEASING,
        started_at=NOW,
        phase_since=NOW,
    )
    return begin(row, NOW).model_copy(update=changes)


def deployment(live: Version | None = OLD) -> Deployment:
    return Deployment(service="web", environment="production", tenant="default", live=live)


def good(want: Desired, row: Rollout) -> Seen:
    """Everything is as desired."""
    counts = {v.name: n for v, n in want.replicas}

    def seen(v: Version | None) -> VersionSeen:
        n = counts.get(v.name, 0) if v else 0
        return VersionSeen(running=n, ready=n, healthy=n)

    return Seen(old=seen(row.old), new=seen(row.new), weights=want.weights, proof=proof(Verdict.MATCH))


def run(row: Rollout, live: Deployment) -> list[Rollout]:
    """The rollout's rows from here to its end when all goes well."""
    rows = [row]
    for _ in range(100):
        want = desired(live, rows[-1], NOW)
        after = decide(rows[-1], good(want, rows[-1]), (), NOW)
        if after is rows[-1]:
            return rows
        rows.append(after)
    raise AssertionError("it does not end")


def test_blue_green_starts_all_moves_once_and_proves() -> None:
    phases = [r.phase for r in run(rollout(), deployment())]
    assert phases == [Phase.STARTING, Phase.SHIFTING, Phase.PROVING, Phase.SUCCEEDED]


def test_no_traffic_moves_while_the_new_version_starts() -> None:
    want = desired(deployment(), rollout(), NOW)
    assert want.weights == {OLD.name: 1}
    assert {v.name: n for v, n in want.replicas} == {OLD.name: 2, NEW.name: 2}


def test_rolling_replaces_one_instance_at_a_time_and_never_has_fewer_than_before() -> None:
    rows = run(rollout(Strategy.ROLLING, version("a", 3)), deployment(version("a", 3)))
    totals = [sum(n for _, n in desired(deployment(version("a", 3)), r, NOW).replicas) for r in rows[:-1]]
    assert rows[-1].phase is Phase.SUCCEEDED
    assert min(totals) >= 2
    shares = [desired(deployment(), r, NOW).weights.get(NEW.name, 0) for r in rows if r.phase is Phase.SHIFTING]
    assert shares == [1, 1]  # one of two, then all


def test_recreate_stops_the_old_version_before_the_new_one_starts() -> None:
    rows = run(rollout(Strategy.RECREATE), deployment())
    assert [r.phase for r in rows][:2] == [Phase.STOPPING, Phase.STARTING]
    for row in rows[:-1]:
        running = {v.name for v, _ in desired(deployment(), row, NOW).replicas}
        assert running != {OLD.name, NEW.name}


def test_recreate_does_not_stop_before_the_old_version_has_gone() -> None:
    row = rollout(Strategy.RECREATE)
    assert decide(row, Seen(old=VersionSeen(running=1)), (), NOW) is row


def test_held_rollouts_wait_for_promote_and_take_an_early_one() -> None:
    row = rollout(hold=True)
    held = decide(row, good(desired(deployment(), row, NOW), row), (), NOW)
    assert held.phase is Phase.HOLDING
    assert decide(held, good(desired(deployment(), held, NOW), held), (), NOW) is held
    promote = Message(id="m", kind=MessageKind.PROMOTE, by="ann", at=NOW)
    assert decide(held, good(desired(deployment(), held, NOW), held), (promote,), NOW).phase is Phase.SHIFTING


def test_a_version_that_cannot_start_fails_at_once_and_moves_no_traffic() -> None:
    row = rollout()
    seen = Seen(new=VersionSeen(failure="exited with code 1", log_tail=("boom",)), weights={OLD.name: 1})
    back = decide(row, seen, (), NOW)
    assert (back.phase, back.undo_as, back.detail) == (Phase.RESTORING, Phase.FAILED, ("boom",))
    assert desired(deployment(), back, NOW).weights == {OLD.name: 1}


def test_a_version_that_is_not_ready_in_time_fails_with_the_reason() -> None:
    row = rollout()
    late = NOW + timedelta(seconds=61)
    seen = Seen(not_ready_because="listens on 9000, not on PORT=21004", weights={OLD.name: 1})
    back = decide(row, seen, (), late)
    assert back.phase is Phase.RESTORING
    assert "within 60 s: listens on 9000" in back.reason


def test_what_became_ready_while_nobody_looked_is_not_undone_for_being_late() -> None:
    row = rollout()
    seen = good(desired(deployment(), row, NOW), row)
    assert decide(row, seen, (), NOW + timedelta(hours=3)).phase is Phase.SHIFTING


def test_drift_takes_the_traffic_back_and_the_operation_keeps_the_disproof() -> None:
    row = rollout(phase=Phase.PROVING, shifted=1, moved=True)
    seen = good(desired(deployment(), row, NOW), row).model_copy(update={"proof": proof(Verdict.DRIFT)})
    assert decide(row, seen, (), NOW) is row
    back = decide(row, seen, (), NOW + timedelta(seconds=9))
    assert back.phase is Phase.RESTORING
    rows = run(back, deployment())
    assert rows[-1].phase is Phase.ROLLED_BACK
    assert rows[-1].proof is not None
    assert rows[-1].proof.verdict is Verdict.DRIFT


def test_what_cannot_be_looked_at_ends_unverifiable_and_not_as_a_match() -> None:
    row = rollout(phase=Phase.PROVING, shifted=1, moved=True)
    seen = good(desired(deployment(), row, NOW), row).model_copy(update={"proof": proof(Verdict.UNVERIFIABLE)})
    end = decide(row, seen, (), NOW + timedelta(seconds=9))
    assert end.phase is Phase.SUCCEEDED
    assert end.proof == proof(Verdict.UNVERIFIABLE)


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.HOLDING, Phase.SHIFTING, Phase.PROVING])
def test_abort_goes_back_from_every_phase_before_the_end(phase: Phase) -> None:
    row = rollout(phase=phase, shifted=int(phase in (Phase.SHIFTING, Phase.PROVING)))
    abort = Message(id="m", kind=MessageKind.ABORT, by="ann", reason="typo", at=NOW)
    back = decide(row, good(desired(deployment(), row, NOW), row), (abort,), NOW)
    assert (back.phase, back.reason) == (Phase.RESTORING, "aborted by ann: typo")
    assert run(back, deployment())[-1].phase is Phase.ROLLED_BACK


def test_a_way_back_that_cannot_be_proven_ends_failed_and_says_so() -> None:
    row = rollout(phase=Phase.REVERTING, shifted=0, reason="it broke")
    end = decide(row, Seen(weights=None), (), NOW + timedelta(seconds=31))
    assert end.phase is Phase.FAILED
    assert "the way back is not proven" in end.reason


def test_success_keeps_the_old_version_warm_for_its_window() -> None:
    done = run(rollout(), deployment())[-1]
    after = settle(deployment(), done, NOW)
    assert (after.live, after.previous) == (NEW, OLD)
    warm = desired(after, None, NOW + timedelta(seconds=599))
    cold = desired(after, None, NOW + timedelta(seconds=601))
    assert {v.name for v, _ in warm.replicas} == {OLD.name, NEW.name}
    assert {v.name for v, _ in cold.replicas} == {NEW.name}
    assert warm.weights == cold.weights == {NEW.name: 1}


def test_a_deploy_of_what_is_live_keeps_the_way_back() -> None:
    live = deployment().after(NEW, NOW, None)
    again = run(rollout(old=NEW), live)[-1]
    assert settle(live, again, NOW).previous == OLD


ACTIONS = st.sampled_from(["ok", "dead", "slow", "deaf", "drift", "blind", "abort", "promote", "late"])


@given(st.sampled_from(Strategy), st.booleans(), st.booleans(), st.lists(ACTIONS, max_size=40))
@settings(max_examples=400, deadline=None)
def test_whatever_happens_a_rollout_ends_and_all_traffic_is_on_one_version(
    strategy: Strategy, first: bool, hold: bool, troubles: list[str]
) -> None:
    live = deployment(None if first else OLD)
    row = rollout(strategy, None if first else OLD, hold=hold)
    now, epochs = NOW, [row.epoch]
    for step in range(400):
        trouble = troubles[step] if step < len(troubles) else ("promote" if step % 2 else "late")
        want = desired(live, row, now)
        assert all(n > 0 for _, n in want.replicas)
        assert set(want.weights) <= {OLD.name, NEW.name}
        if strategy is not Strategy.RECREATE and not first:
            running = {v.name for v, _ in want.replicas}
            assert set(want.weights) <= running, "traffic goes only to versions that are wanted"
            assert want.weights, "somebody always serves"
        seen = good(want, row)
        messages: tuple[Message, ...] = ()
        match trouble:
            case "dead":
                seen = seen.model_copy(update={"new": VersionSeen(failure="it died")})
            case "slow":
                seen = seen.model_copy(update={"new": VersionSeen(running=1)})
            case "deaf":
                seen = seen.model_copy(update={"weights": None})
            case "drift" | "blind":
                verdict = Verdict.DRIFT if trouble == "drift" else Verdict.UNVERIFIABLE
                seen = seen.model_copy(update={"proof": proof(verdict)})
            case "abort":
                messages = (Message(id="m", kind=MessageKind.ABORT, by="ann", at=now),)
            case "promote":
                messages = (Message(id="m", kind=MessageKind.PROMOTE, by="ann", at=now),)
            case "late":
                now += timedelta(days=2)
        after = decide(row, seen, messages, now)
        if after is not row:
            epochs.append(after.epoch)
        row = after
        assert 0 <= progress(row) <= 1
        if row.phase.finished:
            break
    assert row.phase.finished
    assert epochs == list(range(epochs[0], epochs[0] + len(epochs))), "each change raises the epoch by one"
    after_all = settle(live, row, now)
    weights = desired(after_all, None, now).weights
    assert len(weights) == (0 if first and row.phase is not Phase.SUCCEEDED else 1)
    if row.phase is not Phase.SUCCEEDED:
        assert after_all.live == live.live, "the old version never stopped being the live one"


def test_the_way_back_leaves_the_traffic_where_it_is_answered_when_the_old_version_is_dead() -> None:
    row = rollout(phase=Phase.RESTORING, shifted=1, moved=True, reason="DRIFT")
    dead_and_alive = Seen(old=VersionSeen(), new=VersionSeen(running=2, ready=2, healthy=2))
    assert decide(row, dead_and_alive, (), NOW) is row
    late = NOW + timedelta(seconds=61)
    ended = decide(row, dead_and_alive, (), late)
    assert (ended.phase, ended.stranded) == (Phase.FAILED, True)
    assert "all traffic goes to the version that answers" in ended.reason
    after = settle(deployment(), ended, late)
    assert desired(after, None, late).weights == {NEW.name: 1}
    assert after.previous == OLD


def test_the_way_back_goes_on_without_the_new_version_where_nobody_is_healthy() -> None:
    row = rollout(phase=Phase.RESTORING, shifted=1, moved=True)
    assert decide(row, Seen(), (), NOW + timedelta(seconds=61)).phase is Phase.REVERTING


def test_fewer_replicas_of_the_same_version_are_claimed_once_the_traffic_has_been_dealt_with() -> None:
    fewer = OLD.model_copy(update={"replicas": 1})
    for strategy in Strategy:
        row = rollout(strategy, phase=Phase.STARTING, new=fewer)
        assert dict(desired(deployment(), row, NOW).replicas)[fewer] >= 1
        proving = rollout(strategy, phase=Phase.PROVING, new=fewer, shifted=1)
        assert [(v.name, n) for v, n in desired(deployment(), proving, NOW).replicas] == [(OLD.name, 1)]


def test_going_back_from_a_rolling_deploy_starts_no_more_of_the_new_version() -> None:
    for shifted in range(3):
        row = rollout(Strategy.ROLLING, phase=Phase.RESTORING, parts=2, shifted=shifted, moved=shifted > 0)
        counts = {v.name: n for v, n in desired(deployment(), row, NOW).replicas}
        assert counts.get(NEW.name, 0) == shifted


def test_traffic_returns_only_when_the_old_version_is_restored() -> None:
    row = rollout(phase=Phase.RESTORING, shifted=1, moved=True)
    assert desired(deployment(), row, NOW).weights == {NEW.name: 1}
    back = decide(row, Seen(old=VersionSeen(running=2, ready=2, healthy=2)), (), NOW)
    assert back.phase is Phase.REVERTING
    assert desired(deployment(), back, NOW).weights == {OLD.name: 1}


def test_a_deploy_of_what_is_live_is_not_failed_by_an_instance_that_was_given_up_on() -> None:
    row = rollout(phase=Phase.STARTING, new=OLD)
    failed = VersionSeen(running=1, ready=1, healthy=1, failure="exited with code 1")
    assert decide(row, Seen(old=failed, new=failed), (), NOW) is row


def scale(replicas: int) -> Message:
    return Message(id=f"m-{replicas}", kind=MessageKind.SCALE, by="ann", replicas=replicas, at=NOW)


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("count", [1, 3, 7])
def test_a_rollout_that_is_scaled_ends_with_that_many_of_the_new_version(strategy: Strategy, count: int) -> None:
    row, live = rollout(strategy), deployment()
    for _ in range(40):
        if row.phase.finished:
            break
        row = decide(row, good(desired(live, row, NOW), row), (scale(5), scale(count)), NOW)
    assert row.phase is Phase.SUCCEEDED
    after = settle(live, row, NOW)
    counts = {v.name: n for v, n in desired(after, None, NOW).replicas}
    assert counts[NEW.name] == count
    if strategy is Strategy.BLUE_GREEN:
        assert counts[OLD.name] == count, "the way back carries the load too"


def test_a_word_to_scale_comes_too_late_for_what_is_being_proven() -> None:
    row = rollout(phase=Phase.PROVING, shifted=1)
    assert decide(row, Seen(), (scale(9),), NOW) is row


def test_a_held_version_that_was_scaled_is_promoted_once_all_of_it_is_ready() -> None:
    row = rollout(phase=Phase.HOLDING, hold=True, new=NEW.model_copy(update={"replicas": 5}))
    promote = Message(id="p", kind=MessageKind.PROMOTE, by="ann", at=NOW)
    few = Seen(new=VersionSeen(running=5, ready=2, healthy=2))
    assert decide(row, few, (promote,), NOW) is row
    all_of_it = Seen(new=VersionSeen(running=5, ready=5, healthy=5))
    assert decide(row, all_of_it, (promote,), NOW).phase is Phase.SHIFTING


def test_a_rollout_that_goes_back_keeps_the_number_it_was_scaled_to() -> None:
    row = decide(rollout(), Seen(), (scale(4),), NOW)
    back = row.model_copy(update={"phase": Phase.ROLLED_BACK})
    assert [n for _, n in desired(settle(deployment(), back, NOW), None, NOW).replicas] == [4]


PREPARE, INDEX, CHECK = (
    Job(name=name, when=when, command=("run",), timeout_seconds=60)
    for name, when in (("prepare", When.PRE_DEPLOY), ("index", When.PRE_DEPLOY), ("check", When.POST_DEPLOY))
)
NIGHTLY = Job(name="nightly", when=When.SCHEDULED, command=("run",), schedule="0 4 * * *")


def with_jobs(strategy: Strategy = Strategy.BLUE_GREEN, old: Version | None = OLD, **changes: object) -> Rollout:
    new = NEW.model_copy(update={"jobs": (NIGHTLY, CHECK, PREPARE, INDEX)})
    return begin(rollout(strategy, old).model_copy(update={"new": new, "runs_jobs": True}), NOW).model_copy(
        update=changes
    )


def ended(job: Job, state: RunState = RunState.SUCCEEDED, reason: str = "") -> JobRun:
    running = job_run(job, NEW.template, "ro-1", NOW)
    return running if state is RunState.RUNNING else running.ended(state, NOW, reason, ("last words",))


def test_pre_deploy_jobs_come_before_anything_is_stopped_or_started_and_post_deploy_jobs_after_the_proof() -> None:
    row = with_jobs(Strategy.RECREATE)
    assert [job.name for job in row.jobs(row.phase)] == ["prepare", "index"]
    want = desired(deployment(), row, NOW)
    assert (dict(want.replicas), want.weights) == ({OLD: 2}, {OLD.name: 1})
    assert decide(row, Seen(runs=(ended(PREPARE),)), (), NOW) is row
    phases = [row.phase]
    while not row.phase.finished:
        seen = good(desired(deployment(), row, NOW), row)
        row = decide(row, seen.model_copy(update={"runs": (ended(PREPARE), ended(INDEX), ended(CHECK))}), (), NOW)
        phases.append(row.phase)
    assert phases == ["preparing", "stopping", "starting", "shifting", "proving", "finishing", "succeeded"]
    assert row.proof == proof(Verdict.MATCH)


def test_a_pre_deploy_job_that_failed_ends_the_rollout_with_its_words_and_nothing_has_moved() -> None:
    row = with_jobs()
    back = decide(row, Seen(runs=(ended(PREPARE, RunState.FAILED, "exited with code 3"),)), (), NOW)
    assert (back.phase, back.undo_as) == (Phase.RESTORING, Phase.FAILED)
    assert (back.reason, back.detail) == ("the job prepare exited with code 3", ("last words",))
    assert dict(desired(deployment(), back, NOW).replicas) == {OLD: 2}
    assert run(back, deployment())[-1].phase is Phase.FAILED


def test_a_post_deploy_job_that_failed_takes_the_traffic_back() -> None:
    row = with_jobs(phase=Phase.FINISHING, shifted=1, moved=True, proof=proof(Verdict.MATCH))
    assert desired(deployment(), row, NOW).weights == {NEW.name: 1}
    back = decide(row, Seen(runs=(ended(CHECK, RunState.FAILED, "exited with code 1"),)), (), NOW)
    assert back.undo_as is Phase.ROLLED_BACK
    assert run(back, deployment())[-1].phase is Phase.ROLLED_BACK


def test_the_way_back_waits_until_no_job_of_the_rollout_runs() -> None:
    abort = Message(id="m", kind=MessageKind.ABORT, by="ann", at=NOW)
    row = with_jobs()
    back = decide(row, Seen(runs=(ended(PREPARE, RunState.RUNNING),)), (abort,), NOW)
    seen = good(desired(deployment(), back, NOW), back)
    still = seen.model_copy(update={"runs": (ended(PREPARE, RunState.RUNNING),)})
    assert decide(back, still, (), NOW) is back
    stopped = seen.model_copy(update={"runs": (ended(PREPARE, RunState.STOPPED),)})
    assert decide(back, stopped, (), NOW).phase is Phase.REVERTING


def test_jobs_have_the_time_that_their_time_outs_and_attempts_come_to_and_then_it_is_late() -> None:
    row = with_jobs()
    running = Seen(runs=(ended(PREPARE, RunState.RUNNING),))
    assert decide(row, running, (), NOW + timedelta(seconds=2 * 60)) is row
    late = decide(row, running, (), NOW + timedelta(minutes=10))
    assert (late.phase, late.reason) == (Phase.RESTORING, "its jobs did not end in time")


@pytest.mark.parametrize("changes", [{"runs_jobs": False}, {"old": NEW}, {"new": NEW}])
def test_no_job_runs_on_the_way_to_a_former_version_for_more_of_the_same_or_where_there_is_none(
    changes: dict[str, object],
) -> None:
    row = begin(with_jobs().model_copy(update=changes), NOW)
    assert row.phase is Phase.STARTING
    assert all(row.jobs(phase) == () for phase in Phase)


OUTCOMES = st.sampled_from([RunState.SUCCEEDED, RunState.RUNNING, RunState.FAILED, RunState.STOPPED])


@given(st.sampled_from(Strategy), st.booleans(), st.lists(st.tuples(OUTCOMES, OUTCOMES, OUTCOMES), max_size=12))
@settings(max_examples=200, deadline=None)
def test_whatever_becomes_of_its_jobs_no_traffic_moves_before_each_pre_deploy_job_has_succeeded(
    strategy: Strategy, first: bool, outcomes: list[tuple[RunState, RunState, RunState]]
) -> None:
    live, row, now = deployment(None if first else OLD), with_jobs(strategy, None if first else OLD), NOW
    prepared = False
    for states in [*outcomes, *[(RunState.SUCCEEDED,) * 3] * 60]:
        runs = tuple(ended(job, state) for job, state in zip((PREPARE, INDEX, CHECK), states, strict=True))
        prepared = prepared or (row.phase is Phase.PREPARING and set(states[:2]) == {RunState.SUCCEEDED})
        row = decide(row, good(desired(live, row, now), row).model_copy(update={"runs": runs}), (), now)
        if not prepared:
            want = desired(live, row, now)
            assert NEW.name not in want.weights
            assert NEW.name not in {v.name for v, _ in want.replicas}
        if row.phase.finished:
            break
    assert row.phase.finished
    assert prepared or row.phase is Phase.FAILED
