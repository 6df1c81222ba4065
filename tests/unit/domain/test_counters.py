from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from santiago_platform.domain.counters import Count, Counters, Delta, Samples, buckets, deltas


def count(version: str = "v1", requests: int = 0, errors: int = 0, *, slow: int = 0, mirrored: bool = False) -> Count:
    within = ((0.1, requests - slow), (1.0, requests - slow), (3600.0, requests))
    return Count(version=version, requests=requests, errors=errors, within=within, mirrored=mirrored)


def reading(*counts: Count, proxy: str = "a", epoch: str = "1") -> Counters:
    return Counters(proxy=proxy, epoch=epoch, counts=counts)


def test_what_happened_is_summed_over_the_proxies() -> None:
    before = [reading(count("v1", 10, 1)), reading(count("v1", 7, 7), proxy="b")]
    after = [reading(count("v1", 14, 2, slow=3)), reading(count("v1", 8, 7), proxy="b")]
    found = deltas(before, after)
    assert found == {"v1": Delta(requests=5, errors=1, within=((0.1, 2), (1.0, 2), (3600.0, 5)))}
    assert (found["v1"].measured, found["v1"].slower(0.1), found["v1"].slower(0.5)) == (5, 3, None)


def test_a_version_that_is_new_counts_from_nothing_and_one_that_has_gone_makes_it_unknown() -> None:
    old, new = reading(count("v1", 3)), reading(count("v1", 3), count("v2", 2))
    found = deltas([old], [new])
    assert found is not None
    assert (found["v1"].requests, found["v2"].requests) == (0, 2)
    assert deltas([new], [old]) is None


def test_copies_are_apart() -> None:
    before = [reading(count("v2", 3), count("v2", 5, mirrored=True))]
    after = [reading(count("v2", 4), count("v2", 9, 1, mirrored=True))]
    live, copied = deltas(before, after), deltas(before, after, mirrored=True)
    assert live
    assert copied
    assert (live["v2"].requests, copied["v2"].requests, copied["v2"].errors) == (1, 4, 1)


@pytest.mark.parametrize(
    "after",
    [
        [],
        [reading(count("v1", 5), epoch="2")],
        [reading(count("v1", 5), proxy="b")],
        [reading(count("v1", 5)), reading(count("v1", 0), proxy="b")],
        [reading(count("v1", 2))],
        [reading(count("v1", 4, 0))],
        [reading(count("v1", 4, 1, slow=3))],
        [reading(Count(version="v1", requests=5, errors=1, within=((0.2, 5), (3600.0, 5))))],
        [reading()],
    ],
    ids=["nobody", "restarted", "replaced", "joined", "fewer", "errors", "latencies", "edges", "forgotten"],
)
def test_an_interval_in_which_counters_began_anew_is_unknown(after: list[Counters]) -> None:
    assert deltas([reading(count("v1", 4, 1))], after) is None


def test_without_a_proxy_nothing_is_known() -> None:
    assert deltas([], []) is None


def test_proxies_of_different_edges_have_no_latencies_in_common() -> None:
    other = Count(version="v1", requests=2, within=((0.5, 2), (3600.0, 2)))
    zeros = [reading(count("v1")), reading(Count(version="v1"), proxy="b")]
    found = deltas(zeros, [reading(count("v1", 1)), reading(other, proxy="b")])
    assert found == {"v1": Delta(requests=3)}


def test_a_failure_that_is_seen_before_its_request_makes_no_more_failures_than_requests() -> None:
    found = deltas([reading(count("v1", 5, 1))], [reading(count("v1", 5, 2))])
    assert found is not None
    assert (found["v1"].requests, found["v1"].errors) == (1, 1)


steps = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.integers(0, 9), st.booleans()), max_size=30)


@given(steps)
def test_differences_add_up_to_what_happened_unless_a_proxy_restarted(
    steps: list[tuple[str, int, int, bool]],
) -> None:
    """Each step: so many successes and failures come through a proxy, which may restart before them."""
    state = {"a": (0, 0, 0), "b": (0, 0, 0)}

    def look() -> list[Counters]:
        return [reading(count("v1", n, x), proxy=p, epoch=str(e)) for p, (e, n, x) in state.items()]

    before, seen, known = look(), Delta(), Delta()
    for proxy, good, bad, restarts in steps:
        epoch, requests, errors = state[proxy]
        state[proxy] = (epoch + 1, good + bad, bad) if restarts else (epoch, requests + good + bad, errors + bad)
        after = look()
        found = deltas(before, after)
        assert (found is None) == restarts
        if found is not None:
            seen = Delta(requests=seen.requests + good + bad, errors=seen.errors + bad)
            gained = found["v1"]
            known = Delta(requests=known.requests + gained.requests, errors=known.errors + gained.errors)
            assert gained.errors <= gained.requests == gained.measured
        before = after
    assert known == seen


def samples(requests: list[int | None], errors: list[int | None] | None = None, proxy: str = "a") -> Samples:
    failed = tuple(errors) if errors is not None else tuple(None if n is None else 0 for n in requests)
    return Samples(instance="i", proxy=proxy, series="1", requests=tuple(requests), errors=failed)


def numbers(found: dict[str, tuple[Delta | None, ...]]) -> list[int | None]:
    return [None if c is None else c.requests for c in found["i"]]


def test_a_bucket_is_what_all_proxies_counted_between_two_moments() -> None:
    found = buckets([samples([1, 3, 3], [0, 1, 1]), samples([5, 5, 9], [0, 0, 2], proxy="b")])
    assert found == {"i": (Delta(requests=2, errors=1), Delta(requests=4, errors=2))}


def test_a_bucket_in_which_a_series_began_ended_or_fell_is_unknown() -> None:
    assert numbers(buckets([samples([None, 0, 4, 1, 2, None, None])])) == [None, 4, None, 1, None, None]


def test_a_proxy_that_is_away_all_the_time_takes_nothing_from_the_others() -> None:
    both = [samples([1, 2, 3, 4]), samples([None, None, 7, 8], proxy="b")]
    assert numbers(buckets(both)) == [1, None, 2]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_buckets_add_up(gains: list[int]) -> None:
    totals = [sum(gains[:n]) for n in range(len(gains) + 1)]
    assert numbers(buckets([samples([*totals])])) == [b - a for a, b in pairwise(totals)]
