"""The watch over a version that has just taken over: judged against what the version before it was like. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field

from .judge import Counted, Judge
from .preflight import WITHOUT_HISTORY_SECONDS
from .sequential_test import AbortTest, Bucket, PromotionTest
from .value import Value

RESTARTS_TOO_MANY = 3  # of a new version's instances by themselves: it is taken back, while it is judged and after
_ERRORS = "errors"
_MARGIN_RATIO = 0.005


def ended_by_themselves(times: int, last_end: str) -> str:
    """In words. last_end: how the last one did."""
    count = "once" if times == 1 else f"{times} times"
    return f"its instances ended by themselves {count}" + (f": the last one {last_end}" if last_end else "")


class Watch(Value):
    """version: the name of what is watched. reference: (requests, errors) of the version before, in buckets of
    `bucket_seconds` of the hour before, oldest first; None until it was asked for, () where nothing is known.
    looks: buckets so far. restarts: of its instances when the watch began."""

    version: str
    began_at: datetime
    until: datetime
    bucket_seconds: Annotated[int, Field(ge=1)]
    reference: tuple[tuple[int, int], ...] | None = None
    judge: Judge
    looks: int = 0
    restarts: int | None = None

    def look(self, requests: int, errors: int, now: datetime) -> Watch:
        """With one more bucket of the version, beside its share of the version before: each bucket of that is used
        once, and again only when all have been. What had no requests tells nothing."""
        busy = [bucket for bucket in self.reference or () if bucket[0] > 0]
        if not busy or requests == 0:
            return self
        # A vote says the more, the more there is to compare with.
        share = max(1, int(len(busy) * self.bucket_seconds // (self.until - self.began_at).total_seconds()))
        stable = [busy[i % len(busy)] for i in range(self.looks * share, (self.looks + 1) * share)]
        bucket = Bucket(
            canary_requests=requests,
            canary_errors=errors,
            stable_requests=sum(n for n, _ in stable),
            stable_errors=sum(x for _, x in stable),
        )
        minute = max(0, int((now - self.began_at).total_seconds() // 60))
        return self.model_copy(update={"judge": self.judge.look(minute, {_ERRORS: bucket}), "looks": self.looks + 1})


def watch(version: str, now: datetime, seconds: float, bucket_seconds: int | None = None) -> Watch:
    """A watch that begins now. bucket_seconds: as the canary was judged, if it was one."""
    minutes = max(1, round(seconds / 60))
    errors = Counted(
        name=_ERRORS, abort=AbortTest(horizon_minutes=minutes), promotion=PromotionTest(margin_ratio=_MARGIN_RATIO)
    )
    return Watch(
        version=version,
        began_at=now,
        until=now + timedelta(seconds=seconds),
        bucket_seconds=bucket_seconds or WITHOUT_HISTORY_SECONDS,
        judge=Judge(counted=(errors,)),
    )
