from __future__ import annotations

from typing import Protocol

from ..domain.signal import LogLine
from ..domain.value import Value


class LogFilter(Value):
    """None and empty mean: any. text: a substring, case-insensitive. since, until: Unix seconds.

    before: a cursor from a former answer; lines older than it. services: those that the reader may know.
    """

    services: tuple[str, ...] | None = None
    service: str | None = None
    environment: str | None = None
    version: str | None = None
    job: str | None = None
    instance: str | None = None
    level: str | None = None
    text: str | None = None
    since: float | None = None
    until: float | None = None
    before: str | None = None
    limit: int = 100


class LogPage(Value):
    """Newest first. cursor: for the next, older page; None at the end."""

    lines: tuple[LogLine, ...]
    cursor: str | None = None


class Logs(Protocol):
    """Reads what instances wrote to stdout and stderr. Never raises for an odd line: junk is shown escaped,
    a line of megabytes cut and marked. Secrets are redacted before the text leaves."""

    async def read(self, filter: LogFilter) -> LogPage: ...
