"""Before a canary is judged: what the history of the stable version says of how it can be judged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from .sequential_test import ABORT_LIMIT, AbortTest, Bucket
from .value import Value

BUCKET_SECONDS = (1, 5, 15, 30, 60, 300)
WITHOUT_HISTORY_SECONDS = 15
WINDOW_MINUTES = 60
_ALARMS_TOO_MANY = 2
_TAIL_RATIO = 0.05


class BucketChoice(Value):
    """seconds: how long a bucket is. may_abort: whether the metric may end a rollout, or only hold it. reason: in
    words."""

    seconds: int
    may_abort: bool = True
    reason: str = ""


def choose_bucket(history: Mapping[int, Sequence[Sequence[Bucket]]], *, shortest_seconds: float) -> BucketChoice:
    """The shortest bucket with which the abort rule is quiet where nothing is wrong (an A/A test).

    history: by bucket seconds, windows of an hour, whose `canary` and `stable` are two halves of the stable version's
    instances. shortest_seconds: how often counters are read. Errors that come in bursts longer than a bucket alarm; the
    next longer one then holds a burst whole.
    """
    allowed = [s for s in BUCKET_SECONDS if s >= shortest_seconds]
    tried = [s for s in allowed if any(any(b.comparable for b in window) for window in history.get(s, ()))]
    if not tried:
        return BucketChoice(
            seconds=next((s for s in allowed if s >= WITHOUT_HISTORY_SECONDS), allowed[-1]),
            reason="stable has no history to test the rule on",
        )
    for seconds in tried:
        alarms = sum(_alarms(window, seconds) for window in history[seconds])
        if alarms < _ALARMS_TOO_MANY:
            words = f"{alarms} false alarms in {len(history[seconds])} hours of stable against itself"
            return BucketChoice(seconds=seconds, reason=words)
    return BucketChoice(
        seconds=tried[-1],
        may_abort=False,
        reason=f"stable against itself still alarms with buckets of {tried[-1]} s: it may hold, and not abort",
    )


def _alarms(window: Sequence[Bucket], seconds: int) -> bool:
    test = AbortTest(horizon_minutes=WINDOW_MINUTES)
    for i, bucket in enumerate(window):
        test = test.look(bucket, i * seconds // 60)
        if test.log_e >= math.log(ABORT_LIMIT):
            return True
    return False


def latency_edge(counts: Mapping[float, int]) -> float | None:
    """The smallest edge that at most 5% of stable's requests are slower than: beyond it a request counts as slow.

    counts: cumulative, by upper edge; the largest one (infinity) counts them all. None without requests, and where
    only infinity would do. It is to be frozen before the canary is looked at: an edge taken from the same interval
    follows the noise.
    """
    whole = max(counts.values(), default=0)
    edges = sorted(edge for edge in counts if math.isfinite(edge))
    return next((edge for edge in edges if whole - counts[edge] <= _TAIL_RATIO * whole), None) if whole else None
