"""The watch over a version that has just taken over, by what it sees."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from santiago_platform.domain.watch import RESTARTS_TOO_MANY, Watch, watch

NOW = datetime(2026, 1, 1, tzinfo=UTC)
USUAL = ((1000, 2),) * 240


def watched(reference: tuple[tuple[int, int], ...] | None = ()) -> Watch:
    return watch("new", NOW, 600, 15).model_copy(update={"reference": reference})


def looked(begun: Watch, *buckets: tuple[int, int]) -> Watch:
    for i, (requests, errors) in enumerate(buckets):
        begun = begun.look(requests, errors, NOW + timedelta(seconds=15 * (i + 1)))
    return begun


@pytest.mark.parametrize("reference", [None, (), ((2, 0),), ((3, 0), (1, 0))])
def test_what_fails_whole_fails_where_there_is_next_to_nothing_to_compare_with(
    reference: tuple[tuple[int, int], ...] | None,
) -> None:
    after = looked(watched(reference), *[(10, 9)] * 4)
    said = "90.0% of its answers are errors, more than half in each of the last buckets; 40 requests"
    assert after.failed == said


@pytest.mark.parametrize(
    ("reference", "buckets", "why"),
    [
        ((), [(10, 9)] * 3, "three buckets alone"),
        ((), [(7, 7)] * 4, "fewer than 30 requests"),
        ((), [(10, 9), (10, 9), (10, 5), (10, 9)] * 9, "half of a bucket is well"),
        ((), [(10, 3)] * 40, "30% of its answers, and nobody knows whether that is usual"),
        (((10, 6),) * 40, [(10, 9)] * 40, "the version before was bad as well"),
        ((), [(0, 0)] * 40, "nobody asks"),
    ],
)
def test_it_does_not_fail_whole_where(
    reference: tuple[tuple[int, int], ...], buckets: list[tuple[int, int]], why: str
) -> None:
    assert not looked(watched(reference), *buckets).failed, why


def test_what_is_a_little_worse_fails_by_its_history() -> None:
    assert looked(watched(USUAL), *[(1000, 20)] * 40).failed.startswith("canary 2.0% errors against 0.20%")


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), max_size=40), st.booleans())
def test_a_watch_that_has_failed_says_so_for_good_in_the_same_words(
    buckets: list[tuple[int, int]], history: bool
) -> None:
    failed = looked(watched(USUAL if history else ()), *[(50, 50)] * 8)
    assert failed.failed
    after = looked(failed, *[(n, min(n, x)) for n, x in buckets]).counted_restarts(0).counted_restarts(9)
    assert after.failed == failed.failed


def test_instances_that_ended_before_it_began_are_not_counted() -> None:
    begun = watched().counted_restarts(7)
    assert not begun.counted_restarts(7 + RESTARTS_TOO_MANY - 1).failed
    assert begun.counted_restarts(7 + RESTARTS_TOO_MANY).failed == "its instances ended by themselves 3 times"


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_a_jump_of_the_clock_changes_nothing_that_is_judged_and_two_are_as_one(a: int, b: int) -> None:
    first = looked(watched(USUAL), *[(1000, 3)] * 5)
    one, other = timedelta(seconds=a), timedelta(seconds=b)
    twice = first.after_jump(one).after_jump(other)
    assert twice == first.after_jump(one + other)
    at = NOW + timedelta(seconds=90)
    assert first.after_jump(one).look(9, 1, at + one) == first.look(9, 1, at).after_jump(one)


def test_looks_are_stored_every_few_seconds_and_what_they_lead_to_at_once() -> None:
    begun = watched(None).model_copy(update={"bucket_seconds": 1})
    first = begun.look(10, 0, NOW)
    assert first.worth_storing(begun)
    assert not first.worth_storing(first)
    assert not first.look(10, 0, NOW + timedelta(seconds=4)).worth_storing(first)
    assert first.look(10, 0, NOW + timedelta(seconds=5)).worth_storing(first)
    assert first.counted_restarts(0).worth_storing(first)
    assert first.model_copy(update={"reference": ()}).worth_storing(first)
    failed = first.counted_restarts(0).counted_restarts(9)
    assert failed.worth_storing(first.counted_restarts(0))


def test_a_watch_that_was_stored_goes_on_where_it_was() -> None:
    before = looked(watched(USUAL), *[(1000, 5)] * 9)
    assert Watch.model_validate_json(before.stored()) == before
