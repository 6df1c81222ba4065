from __future__ import annotations

from datetime import timedelta
from typing import Any

from santiago_platform.domain.canary import Analysis, Canary, Step
from santiago_platform.domain.change_failure import Change, Harm, deploys
from santiago_platform.domain.dora import Deploy
from santiago_platform.domain.judge import Counted, Judge
from santiago_platform.domain.operation import OperationState
from santiago_platform.domain.phase import Phase
from santiago_platform.domain.sequential_test import AbortTest, Bucket, PromotionTest
from santiago_platform.domain.strategy import Strategy
from santiago_platform.domain.workload import Port
from santiago_platform.testing.rows import START, operation, rollout, version

PORTS = (Port(name="http", target=8080),)  # only a service with a port has canaries


def at(minute: float) -> Any:
    return START + timedelta(minutes=minute)


def live(release: str) -> Any:
    made = version("sha256:" + release * 64)
    return made.model_copy(update={"template": made.template.model_copy(update={"ports": PORTS})})


def change(number: int, old: str | None, new: str, *, kind: str = "deploy_service", **rolled: Any) -> Change:
    """It begins at the minute `number`, gets traffic half a minute later and ends at the next one."""
    phase = rolled.pop("phase", Phase.SUCCEEDED)
    request = rolled.pop("request", {})
    ended = operation(
        number,
        kind=kind,
        request=request,
        state=OperationState(phase),
        reason=rolled.get("reason", ""),
        created_at=at(number),
        updated_at=at(number + 1),
        finished_at=at(number + 1),
    )
    known = {"old": live(old) if old else None, "new": live(new), "phase": phase}
    moved = {"moved": True, "moved_at": at(number + 0.5), "shifted": 1}
    return Change(operation=ended, rollout=rollout(number, **{**known, **moved, **rolled}))


def counted(errors: int) -> Analysis:
    whole = Bucket(canary_requests=100, canary_errors=errors, stable_requests=100, stable_errors=0)
    metric = Counted(
        name="errors", abort=AbortTest(horizon_minutes=10), promotion=PromotionTest(margin_ratio=0.01), whole=whole
    )
    return Analysis(judge=Judge(counted=(metric,)), bucket_seconds=1, began_at=START)


def canary(errors: int | None, weight: int = 5, **fields: Any) -> Change:
    analysis = None if errors is None else counted(errors)
    steps = {"strategy": Strategy.CANARY, "canary": Canary(steps=(Step(weight=weight),)), "parts": 100}
    return change(
        1, "a", "b", **{"phase": Phase.ROLLED_BACK, "shifted": weight, "analysis": analysis, **steps, **fields}
    )


def only(*changes: Change, harms: dict[str, Harm] | None = None) -> Deploy:
    found = deploys(changes, harms=harms)
    assert len(found) == 1
    return found[0]


def test_a_deploy_that_took_over_and_stayed_did_no_harm() -> None:
    found = only(change(1, "a", "b"))
    assert (found.succeeded, found.reached_users, found.failed, found.reached_at) == (True, True, "", at(2))


def test_what_a_rollback_takes_back_has_failed_until_the_rollback_ended() -> None:
    back = change(5, "b", "a", kind="rollback_service", request={"reason": "watched: errors"})
    found = only(change(1, "a", "b"), back)
    assert (found.failed, found.recovered_at) == ("watched: errors", at(6))


def test_a_failure_is_of_the_rollout_that_made_the_version_and_not_of_the_last_one_before_it() -> None:
    scaled = change(3, "b", "b", kind="scale_resources")
    stopped = change(4, "b", "c", phase=Phase.FAILED, moved=False, moved_at=None, shifted=0)
    back = change(6, "b", "a", kind="rollback_service")
    first, second = deploys([change(1, "a", "b"), scaled, stopped, back])
    assert first.failed
    assert not second.failed
    assert not second.reached_users


def test_a_rollback_is_not_blamed_on_a_deploy_that_another_one_had_replaced() -> None:
    first, second = deploys([change(1, "a", "b"), change(3, "b", "c"), change(5, "c", "b", kind="rollback_service")])
    assert (first.failed, second.failed) == ("", "it was rolled back")


def test_going_to_a_version_again_does_not_make_its_first_deploy_fail_twice() -> None:
    again = change(7, "a", "b")
    first, second = deploys([change(1, "a", "b"), change(5, "b", "a", kind="rollback_service"), again])
    assert first.recovered_at == at(6)
    assert not second.failed


def test_a_rollout_that_was_taken_back_after_it_had_traffic_has_failed() -> None:
    found = only(change(1, "a", "b", phase=Phase.ROLLED_BACK, reason="it answers with errors"))
    assert (found.failed, found.reached_at, found.recovered_at) == ("it answers with errors", at(1.5), at(2))
    assert not found.self_aborted


def test_a_rollout_that_failed_before_any_traffic_did_no_harm() -> None:
    found = only(change(1, "a", "b", phase=Phase.FAILED, moved=False, moved_at=None, shifted=0))
    assert (found.reached_users, found.failed) == (False, "")


def test_one_that_kept_the_traffic_since_there_was_no_way_back_has_not_recovered() -> None:
    found = only(change(1, "a", "b", phase=Phase.FAILED, stranded=True, reason="ill"))
    assert (found.failed, found.recovered_at) == ("ill", None)


def test_a_canary_fails_only_where_its_users_saw_errors() -> None:
    assert only(canary(3, reason="more errors")).failed == "more errors"
    unnoticed = only(canary(0))
    assert (unnoticed.failed, unnoticed.self_aborted, unnoticed.reached_users) == ("", True, True)


def test_a_canary_of_which_nobody_counted_errors_counts_as_failed() -> None:
    assert only(canary(None)).failed


def test_a_canary_that_had_copies_of_requests_alone_reached_nobody() -> None:
    found = only(canary(5, weight=0))
    assert (found.reached_users, found.failed) == (False, "")


def test_a_canary_that_had_everything_fails_as_any_rollout_does() -> None:
    found = only(canary(0, shifted=100))
    assert found.failed
    assert not found.self_aborted


def test_an_incident_adds_a_failure_that_the_rollout_does_not_show() -> None:
    found = only(change(1, "a", "b"), harms={"op-1": Harm(why="checkout is slow", until=at(30))})
    assert (found.failed, found.recovered_at) == ("checkout is slow", at(30))


def test_a_failure_lasts_until_its_rollback_and_its_incident_are_over() -> None:
    back = change(5, "b", "a", kind="rollback_service")
    later = only(change(1, "a", "b"), back, harms={"op-1": Harm(why="x", until=at(9))})
    assert later.recovered_at == at(9)
    open_still = only(change(1, "a", "b"), back, harms={"op-1": Harm(why="x")})
    assert open_still.recovered_at is None


def test_only_a_change_of_version_is_a_deploy() -> None:
    assert deploys([change(1, "a", "a"), change(3, "a", "b", kind="rollback_service")]) == ()
