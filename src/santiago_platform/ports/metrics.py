from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..domain.counters import Histogram, Samples
from ..domain.signal import Series, Signal
from ..domain.slo_proposal import Shown
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
    cancellation leaves nothing that the next call does not mend.

    shortest_bucket_seconds: of `history`; it is how often instances are counted.
    """

    shortest_bucket_seconds: float

    async def query(self, expression: str, *, start: float, end: float, step: float, limit: int) -> list[Series]:
        """PromQL over [start, end], Unix seconds, at `step` seconds; at most `limit` series, the first ones.

        start == end asks for one instant. Raises PlatformError: INVALID_ARGUMENT with the server's words for a
        bad expression, UNAVAILABLE where the server does not answer.
        """

    def expression(self, signal: Signal, service: str, environment: str, version: str | None) -> str:
        """The PromQL of a named signal: latency (p95, seconds), errors (ratio), traffic (requests a second),
        saturation (requests in flight). One series for each version, labelled `version`."""

    async def history(
        self, service: str, environment: str, version: str, *, start: float, end: float, bucket_seconds: float
    ) -> tuple[Samples, ...]:
        """Raw counts of each instance of a version at start, start + bucket_seconds and so on until end (Unix seconds).

        Each is as it was at its moment or up to twice shortest_bucket_seconds before. domain.counters.buckets makes
        the differences. Ask for an hour of short buckets at a time. Raises PlatformError: INVALID_ARGUMENT for a bucket
        that is too short, a time that is no multiple of it, or too much at once (11,000 moments; 16 MiB), UNAVAILABLE
        where the collector does not answer.
        """

    async def latencies(self, service: str, environment: str, version: str, *, start: float, end: float) -> Histogram:
        """How many answers of a version took at most so long, by edge: about, since it lies between two looks.

        Empty where there was none. Raises PlatformError(UNAVAILABLE) where the collector does not answer.
        """

    async def shown(self, service: str, environment: str, *, start: float, end: float) -> Shown:
        """What users were answered between two moments, by all versions together; nothing where nobody asked.

        Raises PlatformError(UNAVAILABLE) where the collector does not answer.
        """

    async def scrape(self, targets: Sequence[ScrapeTarget]) -> None:
        """Makes the collector scrape exactly these instances. Idempotent: equal targets write nothing.

        Raises PlatformError: UNAVAILABLE where the collector does not answer, FAILED_PRECONDITION where it refuses
        its configuration; a repeated call tries again.
        """

    async def exposes(self, address: str) -> bool:
        """Whether `GET /metrics` on `HOST:PORT` answers in Prometheus' text format within a second. Never raises."""
