"""Simulated traffic of a canary and of stable, bucket by bucket, with counts as real counters would tell them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from santiago_platform.domain.sequential_test import Bucket

Shape = Callable[[float], float]  # by minute, what the base error rate is multiplied with


def flat(_minute: float) -> float:
    return 1.0


def drift(minute: float) -> float:
    return 1 + minute / 30


def spikes(minute: float) -> float:
    return 10.0 if minute % 20 < 2 else 1.0


@dataclass(frozen=True)
class Traffic:
    """per_minute: requests in all. weight: the canary's share. base: stable's error rate. ratio: the canary's to it,
    from minute `onset` on. burst: errors come that many at once, all from one version. burst_seconds: and last so long.
    seconds: of a bucket.
    """

    per_minute: float
    base: float
    ratio: float = 1.0
    weight: float = 0.1
    seconds: int = 15
    minutes: int = 60
    onset: float = 0.0
    burst: int = 1
    burst_seconds: int = 0
    shape: Shape = flat
    weights: tuple[float, ...] = ()

    def weight_at(self, minute: float) -> float:
        """`weights` divide the time evenly, where there are any."""
        return self.weights[int(minute * len(self.weights) / self.minutes)] if self.weights else self.weight

    def but(self, **said: object) -> Traffic:
        return replace(self, **said)  # type: ignore[arg-type]

    def buckets(self, random: np.random.Generator) -> Iterator[tuple[int, Bucket]]:
        """(minute, bucket), as they would be looked at."""
        count = self.minutes * 60 // self.seconds
        minutes = np.arange(count) * self.seconds / 60
        weights = np.array([self.weight_at(m) for m in minutes])
        rate = np.minimum(0.9, self.base * np.array([self.shape(m) for m in minutes]))
        worse = np.minimum(0.95, rate * np.where(minutes >= self.onset, self.ratio, 1.0))
        mean = self.per_minute * self.seconds / 60
        columns = []
        for share, risk in ((weights, worse), (1 - weights, rate)):
            requests = random.poisson(mean * share)
            columns += [requests, self._errors(random, requests, risk)]
        for i, row in enumerate(zip(*columns, strict=True)):
            n_c, x, n_s, y = (int(value) for value in row)
            bucket = Bucket(canary_requests=n_c, canary_errors=x, stable_requests=n_s, stable_errors=y)
            yield int(minutes[i]), bucket

    def _errors(self, random: np.random.Generator, requests: np.ndarray, risk: np.ndarray) -> np.ndarray:
        if self.burst_seconds:  # while one lasts, half of a version's requests fail; as many errors in all
            lasts = max(1, self.burst_seconds // self.seconds)
            begun = random.random(len(requests)) < 2 * risk / lasts
            on = np.convolve(begun, np.ones(lasts))[: len(requests)] > 0
            return random.binomial(requests, np.where(on, 0.5, 0.0))
        if self.burst == 1:
            return random.binomial(requests, risk)
        return np.minimum(requests, self.burst * random.poisson(requests * risk / self.burst))
