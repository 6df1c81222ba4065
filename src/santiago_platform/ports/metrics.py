from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..domain.signal import Series, Signal
from ..domain.value import Value


class ScrapeTarget(Value):
    """An instance that exposes /metrics. address: `HOST:PORT`."""

    instance: str
    service: str
    environment: str
    version: str
    address: str


class Metrics(Protocol):
    """Reads time series, and says of which instances they are collected. May take up to its time-out (5 s); a
    cancellation leaves nothing that the next call does not mend."""

    async def query(self, expression: str, *, start: float, end: float, step: float, limit: int) -> list[Series]:
        """PromQL over [start, end], Unix seconds, at `step` seconds; at most `limit` series, the first ones.

        start == end asks for one instant. Raises PlatformError: INVALID_ARGUMENT with the server's words for a
        bad expression, UNAVAILABLE where the server does not answer.
        """

    def expression(self, signal: Signal, service: str, environment: str, version: str | None) -> str:
        """The PromQL of a named signal: latency (p95, seconds), errors (ratio), traffic (requests a second),
        saturation (requests in flight). One series for each version, labelled `version`."""

    async def scrape(self, targets: Sequence[ScrapeTarget]) -> None:
        """Makes the collector scrape exactly these instances. Idempotent: equal targets write nothing.

        Raises PlatformError: UNAVAILABLE where the collector does not answer, FAILED_PRECONDITION where it refuses
        its configuration; a repeated call tries again.
        """

    async def exposes(self, address: str) -> bool:
        """Whether `GET /metrics` on `HOST:PORT` answers in Prometheus' text format within a second. Never raises."""
