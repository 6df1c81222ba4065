"""The watch over a version that has just taken over: judged against what the version before it was like. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field

from .judge import GUARD_BUCKETS, GUARD_REQUESTS, RECENT_BUCKETS, Counted, Judge, due_to_store, percent
from .preflight import WITHOUT_HISTORY_SECONDS
from .sequential_test import AbortTest, Bucket, PromotionTest
from .value import Value

RESTARTS_TOO_MANY = 3  # of a new version's instances by themselves: it is taken back, while it is judged and after
WATCHED = "watched after it took over"  # so begins the reason of what a watch takes back
_ERRORS = "errors"
_MARGIN_RATIO = 0.005
# Of its answers: a version that fails so is taken back whether or not there is anything to compare with, unless the
# version before was half as bad.
_FAILS_WHOLE_RATIO = 0.5


def ended_by_themselves(times: int, last_end: str) -> str:
    """In words. last_end: how the last one did."""
    count = "once" if times == 1 else f"{times} times"
    return f"its instances ended by themselves {count}" + (f": the last one {last_end}" if last_end else "")


class Watch(Value):
    """version: the name of what is watched. reference: (requests, errors) of the version before, in buckets of
    `bucket_seconds` of the hour before, oldest first; None until it was asked for, () where nothing is known.
    looks: buckets so far. recent: (requests, errors) of the last ones, those included that had nothing to compare
    with. restarts: of its instances when the watch began. looked_at: when a bucket last ended. failed: why it is to be
    taken back, once it is."""

    version: str
    began_at: datetime
    until: datetime
    bucket_seconds: Annotated[int, Field(ge=1)]
    reference: tuple[tuple[int, int], ...] | None = None
    judge: Judge
    looks: int = 0
    recent: tuple[tuple[int, int], ...] = ()
    restarts: int | None = None
    looked_at: datetime | None = None
    failed: str = ""

    def look(self, requests: int, errors: int, now: datetime) -> Watch:
        """With one more bucket of the version, beside its share of the version before: each bucket of that is used
        once, and again only when all have been. What had no requests tells nothing."""
        if requests == 0:
            return self
        recent = (*self.recent, (requests, errors))[-RECENT_BUCKETS:]
        looked = self.model_copy(update={"recent": recent, "looked_at": now})
        looked = looked._compared(requests, errors, now)
        return looked._failing(looked.judge.failed or looked._fails_whole())

    def _compared(self, requests: int, errors: int, now: datetime) -> Watch:
        busy = [bucket for bucket in self.reference or () if bucket[0] > 0]
        if not busy:
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

    def _fails_whole(self) -> str:
        """A guardrail of its own: that of the judge needs as much to compare with as there is to judge."""
        requests_before, errors_before = (sum(bucket[i] for bucket in self.reference or ()) for i in (0, 1))
        ratio_before = errors_before / requests_before if requests_before else 0.0
        for length in range(GUARD_BUCKETS, len(self.recent) + 1):
            last = self.recent[-length:]
            requests, errors = (sum(counts) for counts in zip(*last, strict=True))
            if requests < GUARD_REQUESTS:
                continue
            whole = all(x > _FAILS_WHOLE_RATIO * n for n, x in last)
            if not whole or errors / requests <= 2 * ratio_before:
                return ""
            said = f"{percent(errors, requests)} of its answers are errors, more than half in each of the last buckets"
            return f"{said}; {requests:,} requests"
        return ""

    def counted_restarts(self, restarts: int, last_end: str = "") -> Watch:
        """restarts: of its instances by now. How many there were before the watch is not its concern. last_end: how
        the last one ended, where that is known."""
        if self.restarts is None:
            return self.model_copy(update={"restarts": restarts})
        ended = restarts - self.restarts
        return self._failing(ended_by_themselves(ended, last_end) if ended >= RESTARTS_TOO_MANY else "")

    def _failing(self, why: str) -> Watch:
        return self.model_copy(update={"failed": why}) if why and not self.failed else self

    def worth_storing(self, stored: Watch) -> bool:
        """Whether the row, as it is stored, lacks something that must outlive a crash."""
        settled = (self.failed, self.reference, self.restarts) != (stored.failed, stored.reference, stored.restarts)
        return settled or due_to_store(stored.looked_at, self.looked_at)

    def after_jump(self, jump: timedelta) -> Watch:
        """After the wall clock has jumped, or nobody could look for so long: it lasts as long as it would have."""
        moved = {"began_at": self.began_at + jump, "until": self.until + jump}
        return self.model_copy(update=moved | ({"looked_at": self.looked_at + jump} if self.looked_at else {}))


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
