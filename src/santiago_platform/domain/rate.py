"""How often a principal may call."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .value import Value


class RateLimit(Value):
    """A token bucket of `burst` calls that fills by `calls_per_second`."""

    calls_per_second: Annotated[float, Field(gt=0, le=100_000)] = 100
    burst: Annotated[int, Field(ge=1, le=1_000_000)] = 1000

    def admit(self, full_at: float, now: float) -> tuple[float, float]:
        """A call at `now` on a bucket that would be full at `full_at`, both in seconds of one clock.

        Returns when it will be full afterwards, and how many seconds are to be waited first; 0 where the call may go
        on. What has to wait takes nothing. Source: the generic cell rate algorithm, ITU-T I.371, as virtual scheduling.
        """
        after = max(full_at, now) + 1 / self.calls_per_second
        wait = after - now - self.burst / self.calls_per_second
        # What is less than a nanosecond is arithmetic.
        return (after, 0.0) if wait <= 1e-9 else (full_at, wait)
