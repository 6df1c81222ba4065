from __future__ import annotations

import pytest

from santiago_platform.domain.slo_proposal import Shown, propose


@pytest.mark.parametrize(
    ("requests", "errors", "target"),
    [(100_000, 0, 0.9999), (5_000, 0, 0.9995), (100_000, 40, 0.999), (100_000, 600, 0.98), (100_000, 4_000, 0.9)],
)
def test_the_target_leaves_half_the_budget_for_what_was_not_seen(requests: int, errors: int, target: float) -> None:
    (proposal,) = propose(Shown(requests=requests, errors=errors))
    assert (proposal.indicator, proposal.target) == ("availability", target)


def test_from_few_requests_or_mostly_errors_nothing_is_proposed() -> None:
    assert propose(Shown(requests=999, errors=0)) == ()
    assert propose(Shown(requests=10_000, errors=4_000)) == ()


def test_latency_is_proposed_at_the_first_edge_that_nearly_all_answers_keep() -> None:
    within = ((0.1, 9_000), (0.25, 9_800), (0.5, 9_990), (3600.0, 10_000))
    assert [p.indicator for p in propose(Shown(requests=10_000, errors=0, within=within))] == [
        "availability",
        "latency-250ms",
    ]
