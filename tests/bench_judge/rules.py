"""The rules that are compared: ours as the platform runs it, and those of others as their documentation says.

Each takes what happened, bucket by bucket, and says in which minute it aborted or promoted; None where it did not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from santiago_platform.domain.sequential_test import (
    ABORT_LIMIT,
    PROMOTION_LIMIT,
    AbortTest,
    Bucket,
    PromotionTest,
    total,
)

Happened = Iterable[tuple[int, Bucket]]
PEER_LIMIT = 0.01  # 99% success, as in the examples of all of them


def ours(happened: Happened, seconds: int, horizon_minutes: int = 60) -> float | None:
    """Minutes until the abort test alarms."""
    test = AbortTest(horizon_minutes=horizon_minutes)
    for i, (minute, bucket) in enumerate(happened):
        test = test.look(bucket, minute)
        if test.log_e >= math.log(ABORT_LIMIT):
            return (i + 1) * seconds / 60
    return None


def ours_promotes(happened: Happened, seconds: int, margin_ratio: float) -> float | None:
    test = PromotionTest(margin_ratio=margin_ratio)
    for i, (_, bucket) in enumerate(happened):
        test = test.look(bucket)
        if test.log_e >= math.log(PROMOTION_LIMIT):
            return (i + 1) * seconds / 60
    return None


def by_minute(happened: Happened, seconds: int) -> list[Bucket]:
    buckets = [bucket for _, bucket in happened]
    each = 60 // seconds
    return [total(buckets[i : i + each]) for i in range(0, len(buckets), each)]


def flagger(minutes: list[Bucket], threshold: int, steps: int = 10) -> float | None:
    """A check a minute: `threshold` failed ones roll back, `steps` good ones promote."""
    failed = passed = 0
    for i, bucket in enumerate(minutes):
        if _above_limit(bucket):
            failed += 1
        else:
            passed += 1
        if failed >= threshold:
            return i + 1.0
        if passed >= steps:
            return None
    return None


def argo(minutes: list[Bucket], count: int = 10, failure_limit: int = 0) -> float | None:
    """`count` measurements, one a minute: more than `failure_limit` failed ones abort."""
    failed = 0
    for i, bucket in enumerate(minutes[:count]):
        failed += _above_limit(bucket)
        if failed > failure_limit:
            return i + 1.0
    return None


def kayenta(minutes: list[Bucket]) -> float | None:
    """One Mann-Whitney test over the points of an hour, at 98% confidence. Its baseline is as large as the canary:
    here stable's own rate is taken, which is kinder."""
    canary = np.array([b.canary_errors / b.canary_requests for b in minutes if b.comparable])
    stable = np.array([b.stable_errors / b.stable_requests for b in minutes if b.comparable])
    return float(len(minutes)) if _mann_whitney(canary, stable) < 0.01 else None


def _above_limit(bucket: Bucket) -> bool:
    return bucket.canary_requests == 0 or bucket.canary_errors > PEER_LIMIT * bucket.canary_requests


def _mann_whitney(high: np.ndarray, low: np.ndarray) -> float:
    """One-sided p-value that `high` is not larger, by the normal approximation with ties corrected."""
    n, m = len(high), len(low)
    both = np.concatenate([high, low])
    _, inverse, ties = np.unique(both, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[inverse]
    statistic = ranks[:n].sum() - n * (n + 1) / 2
    whole = n + m
    variance = n * m / 12 * (whole + 1 - (ties**3 - ties).sum() / (whole * (whole - 1)))
    if variance <= 0:
        return 1.0
    return 0.5 * math.erfc((statistic - n * m / 2 - 0.5) / math.sqrt(2 * variance))
