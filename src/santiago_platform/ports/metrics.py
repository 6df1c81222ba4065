from __future__ import annotations

from typing import Protocol

from ..domain.signal import Series, Signal


class Metrics(Protocol):
    """Reads time series. May take up to its time-out (5 s); a cancellation leaves nothing."""

    async def query(self, expression: str, *, start: float, end: float, step: float, limit: int) -> list[Series]:
        """PromQL over [start, end], Unix seconds, at `step` seconds; at most `limit` series, the first ones.

        start == end asks for one instant. Raises PlatformError: INVALID_ARGUMENT with the server's words for a
        bad expression, UNAVAILABLE where the server does not answer.
        """

    def expression(self, signal: Signal, service: str, environment: str, version: str | None) -> str:
        """The PromQL of a named signal: latency (p95, seconds), errors (ratio), traffic (requests a second),
        saturation (requests in flight)."""
