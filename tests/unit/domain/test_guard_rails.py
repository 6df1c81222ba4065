from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from santiago_platform.domain.environment import EnvironmentKind
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.guard_rails import (
    Deploying,
    GuardRails,
    check_cost,
    check_deployment,
    check_exposure,
    check_flag_removal,
    check_replicas,
)
from santiago_platform.domain.strategy import Strategy

RAILS = GuardRails()


def deploying(**fields: Any) -> Deploying:
    known: dict[str, Any] = {
        "environment": "production",
        "kind": EnvironmentKind.PRODUCTION,
        "replicas": None,
        "strategy": None,
        "fixes": False,
        "hold": False,
        "current": 2,
        "configured": 2,
        "usual": Strategy.BLUE_GREEN,
        "first_weight": 5,
        "bake_seconds": 600,
        "usual_bake_seconds": 600,
    }
    return Deploying(**{**known, **fields})


def refused(rails: GuardRails, **fields: Any) -> str:
    with pytest.raises(PlatformError) as caught:
        check_deployment(rails, deploying(**fields))
    assert caught.value.code is ErrorCode.FAILED_PRECONDITION
    return caught.value.message


@pytest.mark.parametrize(
    ("rule", "fields", "off"),
    [
        ("fixes", {"fixes": True}, {"fixes": True}),
        ("hold_first", {"current": 0}, {"hold_first": ()}),
        ("hold_first", {"current": 0, "environment": "live"}, {"hold_first": ()}),
        ("downtime", {"strategy": Strategy.RECREATE}, {"downtime": True}),
        ("canary_weight", {"strategy": Strategy.CANARY, "first_weight": 50}, {"canary_weight": 50}),
        ("skip_canary", {"usual": Strategy.CANARY, "strategy": Strategy.BLUE_GREEN}, {"skip_canary": True}),
        ("bake_seconds", {"bake_seconds": 599, "usual_bake_seconds": 720}, {"bake_seconds": 599}),
        ("growth", {"replicas": 6}, {"growth": 3.0}),
        ("shrink", {"replicas": 1, "current": 4, "configured": 4}, {"shrink": 0.0}),
    ],
)
def test_each_rule_refuses_by_its_name_and_can_be_set_otherwise(
    rule: str, fields: dict[str, Any], off: dict[str, Any]
) -> None:
    assert f"the guard rail {rule} refuses" in refused(RAILS, **fields)
    check_deployment(GuardRails(**off), deploying(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"current": 0, "hold": True},
        {"current": 0, "environment": "staging", "kind": EnvironmentKind.STAGING},
        {"strategy": Strategy.RECREATE, "usual": Strategy.RECREATE},
        {"replicas": 4},
        {"strategy": Strategy.CANARY},
        {"strategy": Strategy.BLUE_GREEN, "usual": Strategy.CANARY, "current": 0, "hold": True},
        {"bake_seconds": 10, "usual_bake_seconds": 10},
        {"bake_seconds": 600, "usual_bake_seconds": 720},
    ],
)
def test_what_is_usual_passes(fields: dict[str, Any]) -> None:
    check_deployment(RAILS, deploying(**fields))


def test_replicas_may_rise_to_twice_what_runs_or_to_what_is_configured_or_to_a_few() -> None:
    check_replicas(RAILS, 20, current=10, configured=1)
    check_replicas(RAILS, 30, current=10, configured=30)
    check_replicas(RAILS, 5, current=1, configured=1)
    check_replicas(RAILS, 1, current=8, configured=1)
    for replicas in (21, 4):
        with pytest.raises(PlatformError):
            check_replicas(RAILS, replicas, current=10, configured=10)


def test_no_proposal_removes_a_flag() -> None:
    with pytest.raises(PlatformError, match="delete_flags"):
        check_flag_removal(RAILS)
    check_flag_removal(GuardRails(delete_flags=True))


@pytest.mark.parametrize(
    ("rule", "request_"),
    [
        ("public", {"spec": {"listen": "0.0.0.0:5432"}}),
        ("privilege", {"spec": {"privileged": True}}),
        ("bypass", {"force": True}),
    ],
)
def test_no_proposal_carries_reach_privilege_or_a_way_round_unless_that_is_set(
    rule: str, request_: dict[str, Any]
) -> None:
    with pytest.raises(PlatformError, match=f"the guard rail {rule} refuses") as caught:
        check_exposure(RAILS, request_)
    assert f"advisors.guard_rails.{rule}" in caught.value.hint
    check_exposure(GuardRails.model_validate({rule: True}), request_)


def test_asking_for_a_proposal_costs_no_more_than_its_ceiling_in_the_worst_case() -> None:
    check_cost(RAILS, Decimal(1), Decimal(2))
    with pytest.raises(PlatformError, match=r"cost_usd .* may cost \$2.1 beside \$1: at most \$3"):
        check_cost(RAILS, Decimal(1), Decimal("2.1"))
