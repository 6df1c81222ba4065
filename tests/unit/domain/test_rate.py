from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from santiago_platform.domain.rate import RateLimit

TEN = RateLimit(calls_per_second=10, burst=5)


def test_a_burst_goes_on_at_once_and_the_next_call_waits_for_its_token() -> None:
    full_at = 0.0
    for _ in range(5):
        full_at, wait = TEN.admit(full_at, 0.0)
        assert wait == 0
    after, wait = TEN.admit(full_at, 0.0)
    assert after == full_at, "what waits takes nothing"
    assert wait == pytest.approx(0.1)
    assert TEN.admit(full_at, 0.1)[1] == 0


def test_who_has_paused_has_no_more_than_a_burst() -> None:
    full_at = -1000.0
    admitted = 0
    for _ in range(20):
        full_at, wait = TEN.admit(full_at, 0.0)
        admitted += wait == 0
    assert admitted == 5


@given(st.lists(st.floats(0, 2), max_size=200))
def test_no_pattern_of_calls_gets_more_than_the_rate_and_one_burst(pauses: list[float]) -> None:
    now = full_at = 0.0
    admitted = 0
    for pause in pauses:
        now += pause
        full_at, wait = TEN.admit(full_at, now)
        admitted += wait == 0
    assert admitted <= 10 * now + 5 + 1e-6
