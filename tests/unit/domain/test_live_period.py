from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from santiago_platform.domain.deployment import Version
from santiago_platform.domain.live_period import Ended, live_periods, way_back
from santiago_platform.domain.proof import Proof, Verdict
from santiago_platform.domain.rollout import Phase, Rollout
from santiago_platform.domain.strategy import Strategy
from santiago_platform.domain.workload import Template

START = datetime(2026, 1, 1, tzinfo=UTC)


def ended(minute: int, release: str, phase: Phase = Phase.SUCCEEDED, *, rollback: bool = False, **fields: Any) -> Ended:
    at = START + timedelta(minutes=minute)
    template = Template(service="web", environment="staging", tenant="default", release=release, command=("./run",))
    known: dict[str, Any] = {
        "id": f"ro-{minute}",
        "operation_id": f"op-{minute}",
        "service": "web",
        "environment": "staging",
        "tenant": "default",
        "strategy": Strategy.BLUE_GREEN,
        "new": Version(template=template, replicas=1),
        "phase": phase,
        "started_at": at,
        "phase_since": at,
        "proof": Proof(verdict=Verdict.MATCH, evidence=(), at=at),
    }
    return Ended(rollout=Rollout(**{**known, **fields}), rollback=rollback)


def told(*rollouts: Ended) -> list[tuple[str, int, int | None, bool]]:
    def minute(at: datetime | None) -> int | None:
        return None if at is None else int((at - START).total_seconds() // 60)

    return [(p.release, minute(p.since) or 0, minute(p.until), p.taken_back) for p in live_periods(rollouts)]


def test_a_release_is_live_until_another_takes_over() -> None:
    assert told(ended(0, "a"), ended(30, "b")) == [("a", 0, 30, False), ("b", 30, None, False)]


def test_what_failed_or_was_undone_was_never_live_and_ends_nothing() -> None:
    rollouts = (
        ended(0, "a"),
        ended(5, "b", Phase.FAILED),
        ended(6, "b", Phase.ROLLED_BACK),
        ended(7, "b", Phase.PROVING),
    )
    assert told(*rollouts) == [("a", 0, None, False)]


def test_the_same_release_again_such_as_scaled_goes_on() -> None:
    assert told(ended(0, "a"), ended(10, "a"), ended(20, "b")) == [("a", 0, 20, False), ("b", 20, None, False)]


def test_what_a_rollback_left_was_taken_back() -> None:
    rollouts = (ended(0, "a"), ended(10, "b"), ended(12, "a", rollback=True))
    assert told(*rollouts) == [("a", 0, 10, False), ("b", 10, 12, True), ("a", 12, None, False)]


@pytest.mark.parametrize(
    ("release", "back"), [("a", True), ("b", False), ("c", False), ("d", False), ("e", False), ("unproven", False)]
)
def test_a_way_back_leads_to_what_was_live_and_held(release: str, back: bool) -> None:
    unverifiable = Proof(verdict=Verdict.UNVERIFIABLE, evidence=(), at=START)
    rollouts = [
        ended(0, "a"),
        ended(10, "unproven", proof=unverifiable),
        ended(20, "b"),
        ended(30, "c", rollback=True),  # b was taken back
        ended(40, "d", Phase.FAILED),
    ]
    found = way_back(live_periods(rollouts), release)
    assert (found is not None) is back


def test_what_held_once_and_was_taken_back_later_is_no_way_back() -> None:
    rollouts = [ended(0, "a"), ended(10, "b"), ended(20, "a"), ended(30, "b", rollback=True), ended(40, "c")]
    assert way_back(live_periods(rollouts), "a") is None
    assert way_back(live_periods(rollouts), "b") is not None
