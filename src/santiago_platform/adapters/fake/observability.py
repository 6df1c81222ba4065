from __future__ import annotations

import re
from collections.abc import Sequence

from ...domain.counters import Histogram, Samples
from ...domain.errors import ErrorCode, PlatformError
from ...domain.signal import LogLine, Point, Series, Signal
from ...domain.slo_proposal import Shown
from ...ports.logs import LogFilter, LogPage
from ...ports.metrics import ScrapeTarget


class FakeMetrics:
    """Answers every query with one series of one point: of `values`, else 1. refused: expressions that are errors.
    down: it does not answer. exposing: addresses that expose metrics. scraped: what is collected, `writes` how often
    that changed. samples, measured: what `history` and `latencies` answer of (service, environment, version), whatever
    the time; counted: what `shown` does of (service, environment)."""

    shortest_bucket_seconds = 1.0

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.values: dict[str, float] = {}
        self.refused: set[str] = set()
        self.down = False
        self.exposing: set[str] = set()
        self.scraped: tuple[ScrapeTarget, ...] = ()
        self.writes = 0
        self.samples: dict[tuple[str, str, str], tuple[Samples, ...]] = {}
        self.measured: dict[tuple[str, str, str], Histogram] = {}
        self.counted: dict[tuple[str, str], Shown] = {}

    async def query(self, expression: str, *, start: float, end: float, step: float, limit: int) -> list[Series]:
        self._answer()
        if expression in self.refused:
            raise PlatformError(ErrorCode.INVALID_ARGUMENT, f"parse error in {expression}", "mend it")
        self.asked.append(expression)
        return [Series(labels={"job": "fake"}, points=(Point(at=end, value=self.values.get(expression, 1.0)),))]

    def expression(self, signal: Signal, service: str, environment: str, version: str | None) -> str:
        of_version = f',version="{version}"' if version else ""
        return f'{signal}{{service="{service}",environment="{environment}"{of_version}}}'

    async def history(
        self, service: str, environment: str, version: str, *, start: float, end: float, bucket_seconds: float
    ) -> tuple[Samples, ...]:
        self._answer()
        if bucket_seconds < self.shortest_bucket_seconds or start % bucket_seconds or end % bucket_seconds:
            raise PlatformError(ErrorCode.INVALID_ARGUMENT, "these are no buckets", "align them")
        return self.samples.get((service, environment, version), ())

    async def latencies(self, service: str, environment: str, version: str, *, start: float, end: float) -> Histogram:
        self._answer()
        return self.measured.get((service, environment, version), ())

    async def shown(self, service: str, environment: str, *, start: float, end: float) -> Shown:
        self._answer()
        return self.counted.get((service, environment), Shown(requests=0, errors=0))

    async def scrape(self, targets: Sequence[ScrapeTarget]) -> None:
        self._answer()
        if tuple(targets) != self.scraped:
            self.scraped = tuple(targets)
            self.writes += 1

    async def exposes(self, address: str) -> bool:
        return address in self.exposing

    def _answer(self) -> None:
        if self.down:
            raise PlatformError(ErrorCode.UNAVAILABLE, "the metrics do not answer", "try again")


class FakeLogs:
    """Lines in a list, oldest first. A cursor is the number of lines that are older than the page."""

    def __init__(self) -> None:
        self.lines: list[LogLine] = []

    async def read(self, filter: LogFilter) -> LogPage:
        _check(filter)
        end = self._end(filter.before)
        page: list[LogLine] = []
        for position in range(end - 1, -1, -1):
            if len(page) == filter.limit:
                return LogPage(lines=tuple(page), cursor=str(position + 1))
            if _matches(self.lines[position], filter):
                page.append(self.lines[position])
        return LogPage(lines=tuple(page))

    def _end(self, cursor: str | None) -> int:
        if cursor is None:
            return len(self.lines)
        if not cursor.isdecimal():
            raise PlatformError(ErrorCode.INVALID_ARGUMENT, "that is no cursor", "give none to begin anew")
        return min(int(cursor), len(self.lines))


def _check(filter: LogFilter) -> None:
    try:
        re.compile(filter.regex or "")
    except re.error as exc:
        raise PlatformError(ErrorCode.INVALID_ARGUMENT, "that is no regular expression", "mend it") from exc


def _bears(text: str, ids: Sequence[str]) -> bool:
    words = "|".join(map(re.escape, ids))
    return re.search(rf"(?<![0-9a-z])(?:{words})(?![0-9a-z])", text, re.IGNORECASE) is not None


def _matches(line: LogLine, filter: LogFilter) -> bool:
    return (
        filter.service in (None, line.service)
        and (filter.services is None or line.service in filter.services)
        and filter.environment in (None, line.environment)
        and filter.version in (None, line.version)
        and filter.job in (None, line.job)
        and filter.instance in (None, line.instance)
        and filter.level in (None, line.level)
        and (filter.text or "").lower() in line.text.lower()
        and (filter.regex is None or re.search(filter.regex, line.text) is not None)
        and (not filter.ids or _bears(line.text, filter.ids))
        and (filter.since is None or line.at >= filter.since)
        and (filter.until is None or line.at <= filter.until)
    )
