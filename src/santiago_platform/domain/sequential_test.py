"""Sequential tests that a canary is judged by: valid however often one looks at them.

Each is an e-process: a value that starts at 1 and, where its null hypothesis holds, exceeds 1/alpha at any time with
probability at most alpha (Ville's inequality). All state is in the value, in logarithms, so it can be stored after each
look and taken up again after a restart.

Sources: Lindon, Sanden, Shirikian, KDD 2022 (arXiv 2205.14762); Howard et al., Annals of Statistics 49(2), 2021;
Vovk, Wang, "E-values", Annals of Statistics 2021; Waudby-Smith, Ramdas, "Estimating means of bounded random variables
by betting", JRSS B 2024.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import Field

from .value import Value

ABORT_LIMIT = 100.0  # alpha = 0.01
PROMOTION_LIMIT = 20.0  # alpha = 0.05

TOLERATED_RATIO = 1.25  # noise that both versions share, but not evenly, looks like a risk ratio near 1
_ALTERNATIVES = tuple(TOLERATED_RATIO * k for k in (1.2, 1.6, 2.4, 4.0, 8.0, 24.0))
_AT_ONCE = 0.5  # the share of the mass that bets on a regression from the first look; the rest on later starts

ACCEPTED_RATIO = 1.5
_SHRINKAGES = (0.05, 0.2, 0.4, 0.6, 0.8)

_STAKES = (0.1, 0.3, 0.5, 0.7, 0.9)

Count = Annotated[int, Field(ge=0)]


class Bucket(Value):
    """What both versions did in the same few seconds: counter deltas, never rates."""

    canary_requests: Count
    canary_errors: Count
    stable_requests: Count
    stable_errors: Count

    @property
    def comparable(self) -> bool:
        return self.canary_requests > 0 and self.stable_requests > 0


def total(buckets: Iterable[Bucket]) -> Bucket:
    """All of them as one."""
    counts = [0, 0, 0, 0]
    for b in buckets:
        for i, count in enumerate((b.canary_requests, b.canary_errors, b.stable_requests, b.stable_errors)):
            counts[i] += count
    return Bucket(
        canary_requests=counts[0], canary_errors=counts[1], stable_requests=counts[2], stable_errors=counts[3]
    )


def votes(bucket: Bucket) -> tuple[float, ...]:
    """The factor of each alternative: how much likelier this bucket's errors are spread as it says than as the null.

    Given that an error happens, it is the canary's with a probability that depends on the risk ratio alone. The ratios
    of a bucket's errors are averaged, not multiplied: one vote a bucket, so a burst counts no more than an error, and
    dependence within the bucket does no harm. The expectation under a risk ratio of `TOLERATED_RATIO` is 1.
    """
    errors = bucket.canary_errors + bucket.stable_errors
    if errors == 0:
        return (1.0,) * len(_ALTERNATIVES)
    n_c, n_s = bucket.canary_requests, bucket.stable_requests
    share = bucket.canary_errors / errors
    tolerated = n_c * TOLERATED_RATIO + n_s
    return tuple((share * r / TOLERATED_RATIO + 1 - share) * tolerated / (n_c * r + n_s) for r in _ALTERNATIVES)


class AbortTest(Value):
    """Against the null that the canary's risk of an error is at most `TOLERATED_RATIO` times that of stable.

    A mixture over risk ratios and over the minute in which the regression started, so that a late one is found about
    as fast as an early one. horizon_minutes: over how long starts are spread; by then nothing is left to start.
    log_masses: by alternative, of what has started; () before the first look. starts: later ones so far.
    """

    horizon_minutes: Annotated[int, Field(ge=1)]
    log_masses: tuple[float, ...] = ()
    starts: Count = 0
    log_e: float = 0.0

    def look(self, bucket: Bucket, minute: int) -> AbortTest:
        """With one more bucket, that ended in this minute since the first one (from 0)."""
        if not bucket.comparable:
            return self
        count = len(_ALTERNATIVES)
        later = self.horizon_minutes - 1
        at_once = _AT_ONCE if later else 1.0
        masses = list(self.log_masses) or [math.log(at_once / count)] * count
        due = min(minute, later)
        if due > self.starts:
            started = math.log((1 - at_once) * (due - self.starts) / later / count)
            masses = [_log_add(mass, started) for mass in masses]
        after = tuple(mass + math.log(vote) for mass, vote in zip(masses, votes(bucket), strict=True))
        starts = max(due, self.starts)
        waiting = (1 - at_once) * (later - starts) / later if later else 0.0
        log_e = log_sum(after)
        if waiting > 0:
            log_e = _log_add(log_e, math.log(waiting))
        return self.model_copy(update={"log_masses": after, "starts": starts, "log_e": log_e})


class PromotionTest(Value):
    """Against the null that the canary's risk of an error is at least `ACCEPTED_RATIO` times that of stable + margin.

    Valid for every risk of stable. margin_ratio: errors per request that are accepted beyond that. dispersion: how much
    more than independent errors vary, at least 1. It begins anew at each weight.
    """

    margin_ratio: Annotated[float, Field(gt=0, lt=1)]
    dispersion: Annotated[float, Field(ge=1)] = 1.0
    sums: tuple[float, ...] = ()
    log_e: float = 0.0

    def look(self, bucket: Bucket) -> PromotionTest:
        if not bucket.comparable:
            return self
        n_c, n_s = bucket.canary_requests, bucket.stable_requests
        gains = (
            _promotion_gain(a, bucket.canary_errors, bucket.stable_errors, n_c / n_s, n_c * self.margin_ratio)
            for a in _SHRINKAGES
        )
        sums = tuple(s + g for s, g in zip(self.sums or (0.0,) * len(_SHRINKAGES), gains, strict=True))
        log_e = log_mean([s / self.dispersion for s in sums])
        return self.model_copy(update={"sums": sums, "log_e": log_e})

    def requests_needed(self, seen: Bucket) -> int | None:
        """Roughly how many more canary requests settle it, if the canary is as good as stable and both go on as in
        `seen`; None where they cannot."""
        requests = seen.canary_requests + seen.stable_requests
        if not seen.comparable:
            return None
        risk = (seen.canary_errors + seen.stable_errors) / requests
        ratio = seen.canary_requests / seen.stable_requests
        gain = max(_promotion_gain(a, risk, risk / ratio, ratio, self.margin_ratio) for a in _SHRINKAGES)
        missing = math.log(PROMOTION_LIMIT) - self.log_e
        return math.ceil(max(0.0, missing) * self.dispersion / gain) if gain > 0 else None


def _promotion_gain(a: float, canary_errors: float, stable_errors: float, ratio: float, margin: float) -> float:
    """ratio: canary requests for each of stable. margin: accepted errors in these requests."""
    return canary_errors * math.log(a) + stable_errors * math.log1p(ACCEPTED_RATIO * ratio * (1 - a)) + margin * (1 - a)


class SignTest(Value):
    """Against the null that something is seen in a bucket with a probability of at most one half, whatever came before.

    A mixture of bettors that stake a fixed share of their capital on each bucket.
    """

    log_capitals: tuple[float, ...] = (0.0,) * len(_STAKES)
    log_e: float = 0.0

    def look(self, seen: bool) -> SignTest:
        sign = 1 if seen else -1
        capitals = tuple(c + math.log1p(sign * stake) for c, stake in zip(self.log_capitals, _STAKES, strict=True))
        return self.model_copy(update={"log_capitals": capitals, "log_e": log_mean(capitals)})

    def looks_needed(self, limit: float) -> int:
        """How many more buckets reach the limit at the soonest."""
        test, looks = self, 0
        while test.log_e < math.log(limit):
            test, looks = test.look(True), looks + 1
        return looks


def dispersion(instances: Sequence[Sequence[tuple[int, int]]]) -> float:
    """How much more the errors of one version's instances vary than independent ones would; at least 1.

    instances: of each, by bucket, (requests, errors). Source: Pearson's chi-square over its degrees of freedom,
    conditional on each bucket's errors. With under 100 errors in all, or one instance, it is at least 5: too
    few to tell.
    """
    squares = variance = 0.0
    errors = 0
    for bucket in zip(*instances, strict=True):
        requests, failed = sum(n for n, _ in bucket), sum(x for _, x in bucket)
        errors += failed
        if requests == 0:
            continue
        for n, x in bucket:
            share = n / requests
            squares += (x - failed * share) ** 2
            variance += failed * share * (1 - share)
    measured = squares / variance if variance > 0 else 0.0
    return max(1.0 if errors >= 100 and variance > 0 else 5.0, measured)


def log_sum(logs: Sequence[float]) -> float:
    """ln of the sum of exp; logs: not empty."""
    highest = max(logs)
    return highest + math.log(sum(math.exp(x - highest) for x in logs))


def log_mean(logs: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """ln of the mean of exp, weighted: the mean of e-values is an e-value under any dependence."""
    given = weights or (1.0,) * len(logs)
    return log_sum([x + math.log(w) for x, w in zip(logs, given, strict=True) if w > 0]) - math.log(sum(given))


def _log_add(a: float, b: float) -> float:
    return log_sum((a, b))
