from __future__ import annotations

import math

from santiago_platform.domain.preflight import choose_bucket, latency_edge
from santiago_platform.domain.sequential_test import Bucket


def half(x: int, y: int, n: int = 500) -> Bucket:
    return Bucket(canary_errors=x, stable_errors=y, canary_requests=n, stable_requests=n)


QUIET = [[half(1, 1)] * 240] * 24
# A burst hits one half for half a minute, so that each shorter bucket in it votes alike.
BURSTS = [([half(20, 0)] * 30 + [half(0, 0)] * 30) * 4] * 24


def test_the_shortest_bucket_that_is_quiet_on_stable_itself_is_chosen() -> None:
    choice = choose_bucket({1: BURSTS, 5: QUIET, 15: QUIET}, shortest_seconds=1)
    assert (choice.seconds, choice.may_abort) == (5, True)
    assert choice.reason == "0 false alarms in 24 hours of stable against itself"


def test_a_bucket_is_never_shorter_than_the_counters_are_read() -> None:
    assert choose_bucket({1: QUIET, 5: QUIET, 15: QUIET}, shortest_seconds=10).seconds == 15


def test_one_alarm_in_a_day_is_borne() -> None:
    assert choose_bucket({1: [*QUIET[1:], BURSTS[0]], 5: QUIET}, shortest_seconds=1).seconds == 1


def test_a_metric_that_alarms_with_every_bucket_may_hold_and_not_abort() -> None:
    choice = choose_bucket({15: BURSTS, 60: BURSTS}, shortest_seconds=1)
    assert (choice.seconds, choice.may_abort) == (60, False)


def test_without_history_a_bucket_is_fifteen_seconds_or_what_can_be_read() -> None:
    empty = [[Bucket(canary_errors=0, stable_errors=0, canary_requests=0, stable_requests=0)]]
    assert choose_bucket({}, shortest_seconds=1).seconds == 15
    assert choose_bucket({1: empty}, shortest_seconds=1).seconds == 15
    assert choose_bucket({}, shortest_seconds=20).seconds == 30


def test_the_latency_edge_is_the_smallest_that_a_twentieth_is_slower_than() -> None:
    assert latency_edge({0.01: 100, 0.1: 949, 0.25: 950, 1.0: 990, math.inf: 1000}) == 0.25


def test_there_is_no_latency_edge_without_requests_or_below_infinity() -> None:
    assert latency_edge({}) is None
    assert latency_edge({0.1: 0, math.inf: 0}) is None
    assert latency_edge({0.1: 10, math.inf: 1000}) is None
