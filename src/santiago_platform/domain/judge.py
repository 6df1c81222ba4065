"""The judge of a canary: whether it is worse than stable, as good, or not known yet. Pure; all of its state is here.

It looks at each bucket of time once. A metric is counted (errors, slow requests: how many of how many), or compared
(a value of each version, from a query, with a direction and a tolerance).

- It fails the canary when the weighted mean of the metrics' e-values reaches `ABORT_LIMIT`, or by the guardrail.
- It passes the canary when every metric's promotion test reaches `PROMOTION_LIMIT`.
- Else it is inconclusive, and says roughly how much is missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from .sequential_test import (
    ABORT_LIMIT,
    PROMOTION_LIMIT,
    AbortTest,
    Bucket,
    PromotionTest,
    SignTest,
    log_mean,
    total,
)
from .value import Value

GUARD_BUCKETS = 4
GUARD_REQUESTS = 30
_GUARD_RATIO = 0.2
_GUARD_TIMES = 10
RECENT_BUCKETS = 120  # that the guardrail may reach back
_LOOKS_STORED_EVERY = timedelta(seconds=5)


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class Judgement(Value):
    """reason: in words, with the figures. requests_needed: roughly, of the canary, until it is settled; None where that
    cannot be said."""

    verdict: Verdict
    reason: str
    requests_needed: int | None = None


class Direction(StrEnum):
    """Which values of a metric are better."""

    LOWER = "lower"
    HIGHER = "higher"


class _Metric(Value):
    """name: in words, of what is bad: "errors", "slower than 250 ms". weight: beside the others in the decision to
    abort. dry_run: it reports and decides nothing. may_abort: whether it may end a rollout, or only hold it."""

    name: str
    weight: Annotated[float, Field(gt=0)] = 1.0
    dry_run: bool = False
    may_abort: bool = True


class Counted(_Metric):
    """recent: the last buckets. whole: all since judging began; at_weight: since the weight changed."""

    abort: AbortTest
    promotion: PromotionTest
    recent: tuple[Bucket, ...] = ()
    whole: Bucket = total(())
    at_weight: Bucket = total(())

    def look(self, bucket: Bucket, minute: int) -> Counted:
        if not bucket.comparable:
            return self
        return self.model_copy(
            update={
                "abort": self.abort.look(bucket, minute),
                "promotion": self.promotion.look(bucket),
                "recent": (*self.recent, bucket)[-RECENT_BUCKETS:],
                "whole": total((self.whole, bucket)),
                "at_weight": total((self.at_weight, bucket)),
            }
        )

    def restarted(self) -> Counted:
        promotion = PromotionTest(margin_ratio=self.promotion.margin_ratio, dispersion=self.promotion.dispersion)
        return self.model_copy(update={"promotion": promotion, "at_weight": total(())})

    def guarded(self) -> Bucket | None:
        """The last buckets together, where all of them are so bad that no test is needed.

        Not under the tests' guarantee: it is for the canary that answers next to nothing, within seconds.
        """
        for length in range(GUARD_BUCKETS, len(self.recent) + 1):
            last = total(self.recent[-length:])
            if last.canary_requests < GUARD_REQUESTS:
                continue
            all_bad = all(b.canary_errors > _GUARD_RATIO * b.canary_requests for b in self.recent[-length:])
            stable = (last.stable_errors + 1) / (last.stable_requests + 1)
            return last if all_bad and last.canary_errors / last.canary_requests > _GUARD_TIMES * stable else None
        return None

    def figures(self, bucket: Bucket) -> str:
        canary = percent(bucket.canary_errors, bucket.canary_requests)
        stable = percent(bucket.stable_errors, bucket.stable_requests)
        return f"canary {canary} {self.name} against {stable}"

    def missing(self) -> str:
        """Why it does not pass yet; empty where it does."""
        if self.promotion.log_e >= math.log(PROMOTION_LIMIT):
            return ""
        if not self.at_weight.canary_requests:
            return f"no requests to judge {self.name} by"
        said = f"{self.figures(self.at_weight)}, e-value {_number(self.promotion.log_e)} of {PROMOTION_LIMIT:g}"
        needed = self.needed()
        if needed is None:
            return f"{said}: at these figures it cannot be settled"
        return f"{said}; roughly {needed:,} more requests of the canary are needed"

    def needed(self) -> int | None:
        return self.promotion.requests_needed(self.at_weight)


class Compared(_Metric):
    """A value of each version. tolerance_ratio: how much worse the canary's may be; 0.1 is a tenth. Worse than that in
    more than half of the buckets is a failure, within it in more than half is a success. values: the last ones."""

    better: Direction
    tolerance_ratio: Annotated[float, Field(ge=0)] = 0.0
    abort: SignTest = SignTest()
    promotion: SignTest = SignTest()
    values: tuple[float, float] | None = None

    def look(self, canary: float, stable: float) -> Compared:
        if not (math.isfinite(canary) and math.isfinite(stable)):
            return self
        worse_by = canary - stable if self.better is Direction.LOWER else stable - canary
        worse = worse_by > self.tolerance_ratio * abs(stable)
        return self.model_copy(
            update={
                "abort": self.abort.look(worse),
                "promotion": self.promotion.look(not worse),
                "values": (canary, stable),
            }
        )

    def restarted(self) -> Compared:
        return self.model_copy(update={"promotion": SignTest()})

    def figures(self) -> str:
        return f"canary {self.name} {self.values[0]:.4g} against {self.values[1]:.4g}" if self.values else self.name

    def missing(self) -> str:
        if self.promotion.log_e >= math.log(PROMOTION_LIMIT):
            return ""
        if self.values is None:
            return f"no values to judge {self.name} by"
        looks = self.promotion.looks_needed(PROMOTION_LIMIT)
        return (
            f"{self.figures()}, e-value {_number(self.promotion.log_e)} of {PROMOTION_LIMIT:g}; "
            f"at least {looks} more looks are needed"
        )

    def needed(self) -> int | None:
        return None


class Judge(Value):
    """counted: the first one is that of errors, which the guardrail watches. failed: why it failed, once it has."""

    counted: Annotated[tuple[Counted, ...], Field(min_length=1)]
    compared: tuple[Compared, ...] = ()
    failed: str = ""

    def look(
        self,
        minute: int,
        counts: Mapping[str, Bucket],
        values: Mapping[str, tuple[float, float]] | None = None,
    ) -> Judge:
        """With one more bucket of each metric, by its name, that ended in this minute since judging began (from 0).

        values: (canary, stable) of the compared metrics. A metric without a bucket here is not looked at. A bucket in
        which a weight changed or a counter began anew is not to be given.
        """
        counted = tuple(m.look(counts[m.name], minute) if m.name in counts else m for m in self.counted)
        given = values or {}
        compared = tuple(m.look(*given[m.name]) if m.name in given else m for m in self.compared)
        after = self.model_copy(update={"counted": counted, "compared": compared})
        return after if after.failed else after.model_copy(update={"failed": after._failure()})

    def at_new_weight(self) -> Judge:
        """The promotion tests begin anew; what speaks against the canary stays."""
        return self.model_copy(
            update={
                "counted": tuple(m.restarted() for m in self.counted),
                "compared": tuple(m.restarted() for m in self.compared),
            }
        )

    @property
    def _metrics(self) -> tuple[Counted | Compared, ...]:
        return (*self.counted, *self.compared)

    def judgement(self) -> Judgement:
        """Whether the canary may take over, at the weight that it has."""
        if self.failed:
            return Judgement(verdict=Verdict.FAIL, reason=self.failed)
        deciding = [m for m in self._metrics if not m.dry_run]
        missing = [m for m in deciding if m.missing()]
        if missing:
            needed = [m.needed() for m in missing]
            known = [n for n in needed if n is not None]
            return Judgement(
                verdict=Verdict.INCONCLUSIVE,
                reason="; ".join(m.missing() for m in missing),
                requests_needed=max(known) if len(known) == len(needed) else None,
            )
        errors = self.counted[0]
        return Judgement(
            verdict=Verdict.PASS,
            reason=f"{errors.figures(errors.at_weight)}, e-value {_number(errors.promotion.log_e)}, "
            f"limit {PROMOTION_LIMIT:g}; {errors.at_weight.canary_requests:,} requests",
        )

    def dry_runs(self) -> tuple[str, ...]:
        """What the metrics that decide nothing say."""
        said = []
        for m in self._metrics:
            if m.dry_run:
                against = "would abort" if m.abort.log_e >= math.log(ABORT_LIMIT) else m.missing() or "would pass"
                said.append(f"{m.name} (dry run): {against}")
        return tuple(said)

    def _failure(self) -> str:
        for m in self.counted:
            last = m.guarded() if m is self.counted[0] and not m.dry_run else None
            if last is not None:
                return (
                    f"{m.figures(last)} in each of the last buckets, beyond the guardrail of "
                    f"{_GUARD_RATIO:.0%}; {last.canary_requests:,} requests"
                )
        voting = [m for m in self._metrics if m.may_abort and not m.dry_run]
        if not voting:
            return ""
        log_e = log_mean([m.abort.log_e for m in voting], [m.weight for m in voting])
        if log_e < math.log(ABORT_LIMIT):
            return ""
        worst = max(voting, key=lambda m: m.abort.log_e + math.log(m.weight))
        said = worst.figures(worst.whole) if isinstance(worst, Counted) else worst.figures()
        requests = self.counted[0].whole.canary_requests
        return f"{said}, e-value {_number(log_e)}, limit {ABORT_LIMIT:g}; {requests:,} requests"


def due_to_store(stored_at: datetime | None, looked_at: datetime | None) -> bool:
    """Whether what was looked at is to be stored, though it has changed no verdict. The moments are of the last look.

    A crash loses at most the looks of these seconds, and the bucket under way: evidence that had not sufficed yet. What
    suffices is stored at once with what follows from it, and no bucket counts twice.
    """
    if looked_at is None or looked_at == stored_at:
        return False
    return stored_at is None or abs(looked_at - stored_at) >= _LOOKS_STORED_EVERY


def percent(part: int, whole: int) -> str:
    """In words."""
    ratio = 100 * part / whole if whole else 0.0
    return f"{ratio:.2f}%" if 0 < ratio < 1 else f"{ratio:.1f}%"


def _number(log_e: float) -> str:
    """An e-value from its logarithm, as people read it."""
    if log_e > math.log(1e6):
        return f"10^{log_e / math.log(10):.0f}"
    e = math.exp(log_e)
    return f"{e:,.0f}" if e >= 10 else f"{e:.2g}"
