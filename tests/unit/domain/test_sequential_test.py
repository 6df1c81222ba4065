from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from santiago_platform.domain.sequential_test import (
    ACCEPTED_RATIO,
    TOLERATED_RATIO,
    AbortTest,
    Bucket,
    PromotionTest,
    SignTest,
    dispersion,
    log_mean,
    votes,
)

ALTERNATIVES = [TOLERATED_RATIO * k for k in (1.2, 1.6, 2.4, 4.0, 8.0, 24.0)]
ROWS = [(1, 3, 20, 180), (0, 1, 22, 170), (2, 2, 19, 185), (3, 4, 25, 160), (0, 0, 0, 200), (4, 1, 30, 150)]


def bucket(x: int, y: int, n_c: int, n_s: int) -> Bucket:
    return Bucket(canary_errors=x, stable_errors=y, canary_requests=n_c, stable_requests=n_s)


ORACLE = {
    "votes only": (
        AbortTest(horizon_minutes=1),
        [0.2608961363, -0.1766641214, 0.373459968, 0.8309009495, 0.8309009495, 1.6989712692],
    ),
    "with the start mixture": (
        AbortTest(horizon_minutes=6),
        [0.1389323957, -0.1179538514, 0.2872910665, 0.6942944631, 0.6942944631, 1.5596617599],
    ),
    "promotion": (
        PromotionTest(margin_ratio=0.005),
        [-0.6445142634, -0.5127428096, -1.4431933437, -2.2052714193, -2.2052714193, -3.1916581418],
    ),
}


@pytest.mark.parametrize("name", ORACLE)
def test_each_test_has_the_figures_of_the_oracle_to_the_last_digit(name: str) -> None:
    test, expected = ORACLE[name]
    seen = []
    for minute, row in enumerate(ROWS):
        test = test.look(bucket(*row), minute) if isinstance(test, AbortTest) else test.look(bucket(*row))
        seen.append(test.log_e)
    assert seen == pytest.approx(expected, abs=5e-11)


def test_the_votes_of_the_first_bucket_are_those_of_the_oracle() -> None:
    expected = (1.025, 1.071591, 1.153125, 1.28125, 1.483553, 1.774038)
    assert votes(bucket(*ROWS[0])) == pytest.approx(expected, abs=5e-7)


counts = st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(1, 5000), st.integers(1, 5000))


@given(counts)
def test_a_burst_counts_no_more_than_what_started_it(row: tuple[int, int, int, int]) -> None:
    x, y, n_c, n_s = row
    twice = bucket(2 * x, 2 * y, n_c, n_s)
    assert votes(twice) == pytest.approx(votes(bucket(*row)), rel=1e-12)


def test_a_single_error_votes_with_its_likelihood_ratio() -> None:
    n_c, n_s = 30, 170
    for x, y in ((1, 0), (0, 1)):
        for vote, r in zip(votes(bucket(x, y, n_c, n_s)), ALTERNATIVES, strict=True):
            canary, tolerated = n_c * r / (n_c * r + n_s), n_c * TOLERATED_RATIO / (n_c * TOLERATED_RATIO + n_s)
            expected = canary / tolerated if x else (1 - canary) / (1 - tolerated)
            assert vote == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("errors", [1, 2, 7, 40])
def test_the_expected_vote_is_one_at_the_tolerated_ratio(errors: int) -> None:
    n_c, n_s = 20, 180
    share = n_c * TOLERATED_RATIO / (n_c * TOLERATED_RATIO + n_s)
    for k in range(len(ALTERNATIVES)):
        expectation = sum(
            math.comb(errors, x) * share**x * (1 - share) ** (errors - x) * votes(bucket(x, errors - x, n_c, n_s))[k]
            for x in range(errors + 1)
        )
        assert expectation == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("p", [0.003, 0.05, 0.2])
@pytest.mark.parametrize("margin", [0.005, 0.02])
def test_the_promotion_factor_has_an_expectation_of_at_most_one_at_the_limit_of_its_null(
    p: float, margin: float
) -> None:
    n_c, n_s = 12, 30
    limit = ACCEPTED_RATIO * p + margin

    def chances(n: int, q: float) -> list[float]:
        return [math.comb(n, x) * q**x * (1 - q) ** (n - x) for x in range(n + 1)]

    canary, stable = chances(n_c, limit), chances(n_s, p)
    expectation = sum(
        canary[x] * stable[y] * math.exp(PromotionTest(margin_ratio=margin).look(bucket(x, y, n_c, n_s)).log_e)
        for x in range(n_c + 1)
        for y in range(n_s + 1)
    )
    assert expectation <= 1 + 1e-9


Looked = AbortTest | PromotionTest


@pytest.mark.parametrize("begin", [lambda: AbortTest(horizon_minutes=60), lambda: PromotionTest(margin_ratio=0.005)])
def test_a_million_requests_a_bucket_leave_every_figure_finite(begin: Callable[[], Looked]) -> None:
    for row in ((10**6, 0, 10**6, 10**6), (0, 10**6, 10**6, 10**6), (500, 10, 10**6, 9 * 10**6)):
        test = begin()
        for minute in range(200):
            test = test.look(bucket(*row), minute) if isinstance(test, AbortTest) else test.look(bucket(*row))
            assert math.isfinite(test.log_e)


@given(st.lists(counts, min_size=1, max_size=30), st.integers(1, 29))
def test_a_stored_test_goes_on_as_if_it_had_never_stopped(rows: list[tuple[int, int, int, int]], cut: int) -> None:
    through, resumed = AbortTest(horizon_minutes=20), AbortTest(horizon_minutes=20)
    for minute, row in enumerate(rows):
        through = through.look(bucket(*row), minute)
        if minute == cut:
            resumed = AbortTest.model_validate_json(resumed.stored())
        resumed = resumed.look(bucket(*row), minute)
    assert resumed == through


def test_minutes_that_nobody_looked_at_start_what_they_would_have_started() -> None:
    quiet = bucket(0, 0, 10, 90)
    late = AbortTest(horizon_minutes=10).look(quiet, 0).look(quiet, 7)
    often = AbortTest(horizon_minutes=10)
    for minute in range(8):
        often = often.look(quiet, minute)
    assert late.log_e == pytest.approx(often.log_e, abs=1e-12)
    assert late.log_e == pytest.approx(0, abs=1e-12)
    assert late.starts == often.starts == 7


def test_a_bucket_without_requests_of_either_version_is_passed_over() -> None:
    for row in ((0, 3, 0, 100), (3, 0, 100, 0)):
        abort, promotion = AbortTest(horizon_minutes=5), PromotionTest(margin_ratio=0.01)
        assert abort.look(bucket(*row), 3) is abort
        assert promotion.look(bucket(*row)) is promotion


def test_a_late_regression_is_found_faster_than_by_a_test_that_started_once() -> None:
    quiet, bad = bucket(0, 1, 100, 900), bucket(4, 1, 100, 900)

    def minutes_to_find(test: AbortTest) -> int:
        for minute in range(30):
            test = test.look(quiet, minute)
        for minute in range(30, 120):
            test = test.look(bad, minute)
            if test.log_e >= math.log(100):
                return minute - 29
        return 1000

    assert minutes_to_find(AbortTest(horizon_minutes=120)) < minutes_to_find(AbortTest(horizon_minutes=1))


def test_the_requests_still_needed_suffice_when_they_come_as_foreseen() -> None:
    test, seen = PromotionTest(margin_ratio=0.005), bucket(0, 3, 100, 900)
    test = test.look(seen)
    needed = test.requests_needed(seen)
    assert needed is not None
    buckets = math.ceil(needed / 100)
    for _ in range(buckets):
        test = test.look(bucket(0, 3, 100, 900))
    assert test.log_e >= math.log(20)


def test_where_stable_gets_too_little_to_compare_with_no_number_of_requests_is_named() -> None:
    assert PromotionTest(margin_ratio=0.005).requests_needed(bucket(180, 20, 900, 100)) is None
    assert PromotionTest(margin_ratio=0.005).requests_needed(bucket(0, 0, 900, 0)) is None


@given(st.lists(st.booleans(), max_size=200))
def test_a_fair_coin_gains_nothing_in_expectation(seen: list[bool]) -> None:
    test = SignTest()
    for one in seen:
        test = test.look(one)
    up, down = math.exp(test.look(True).log_e), math.exp(test.look(False).log_e)
    assert (up + down) / 2 == pytest.approx(math.exp(test.log_e), rel=1e-9)


def test_a_sign_test_says_how_many_looks_it_needs_at_the_soonest() -> None:
    test = SignTest()
    needed = test.looks_needed(20)
    for _ in range(needed - 1):
        test = test.look(True)
    assert test.log_e < math.log(20) <= test.look(True).log_e


def test_independent_errors_have_a_dispersion_near_one_and_bursts_a_larger_one() -> None:
    even = [[(1000, 10), (1000, 11)] * 10, [(1000, 11), (1000, 10)] * 10]
    bursts = [[(1000, 40), (1000, 0)] * 10, [(1000, 0), (1000, 40)] * 10]
    assert dispersion(even) == 1.0
    assert dispersion(bursts) > 10
    assert dispersion([[(10, 1)], [(10, 0)]]) == 5.0  # too few errors to tell
    assert dispersion([]) == 5.0
    assert dispersion([[(1000, 40), (1000, 60)]]) == 5.0  # one instance says nothing of how they differ


def test_the_mean_of_e_values_takes_their_weights() -> None:
    assert log_mean([math.log(10), math.log(1)], [1, 2]) == pytest.approx(math.log(4))
    assert log_mean([-1e6, 0.0]) == pytest.approx(math.log(0.5))
