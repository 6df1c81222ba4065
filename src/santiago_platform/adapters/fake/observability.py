from __future__ import annotations

from ...domain.signal import LogLine, Point, Series, Signal
from ...ports.logs import LogFilter, LogPage


class FakeMetrics:
    """Answers every query with one series of one point."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def query(self, expression: str, *, start: float, end: float, step: float, limit: int) -> list[Series]:
        self.asked.append(expression)
        return [Series(labels={"job": "fake"}, points=(Point(at=end, value=1.0),))]

    def expression(self, signal: Signal, service: str, environment: str, version: str | None) -> str:
        return f"{signal}({service},{environment},{version})"


class FakeLogs:
    """Lines in a list, oldest first."""

    def __init__(self) -> None:
        self.lines: list[LogLine] = []

    async def read(self, filter: LogFilter) -> LogPage:
        found = [
            line
            for line in reversed(self.lines)
            if filter.service in (None, line.service)
            and filter.version in (None, line.version)
            and (filter.text or "").lower() in line.text.lower()
        ]
        return LogPage(lines=tuple(found[: filter.limit]))
