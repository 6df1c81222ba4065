from __future__ import annotations

from typing import Protocol

from ..domain.signal import LogLine
from ..domain.value import Value


class LogFilter(Value):
    """None and empty mean: any. text: a substring, in any case. regex: of RE2, found anywhere in the line; it takes
    time linear in the text, whatever it is. ids: one of them stands in the line as a word of its own. since, until:
    Unix seconds. before: a cursor from a former answer; lines older than it. services: those that the reader may know.
    access: the ingress's access log too, whose lines count as their service's.
    """

    services: tuple[str, ...] | None = None
    service: str | None = None
    environment: str | None = None
    version: str | None = None
    job: str | None = None
    instance: str | None = None
    level: str | None = None
    text: str | None = None
    regex: str | None = None
    ids: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None
    before: str | None = None
    limit: int = 100
    access: bool = False


class LogPage(Value):
    """Newest first. cursor: for the next, older page; None at the end. partial: a search took too long and stopped at
    the cursor, so that the page has fewer lines than were asked for, and perhaps none."""

    lines: tuple[LogLine, ...]
    cursor: str | None = None
    partial: bool = False


class Logs(Protocol):
    """Reads what instances wrote to stdout and stderr. Never raises for an odd line: junk is shown escaped,
    a line of megabytes cut and marked. Secrets are redacted before the text leaves, and what was redacted cannot be
    searched for."""

    async def read(self, filter: LogFilter) -> LogPage:
        """Takes a few seconds at most. A cancelled call stops reading. Raises PlatformError: INVALID_ARGUMENT for a
        cursor that was never given, an instance that is no name of one, and a bad regular expression."""
