"""Follows logs: asks again for what is new, so that it goes through rotations, restarts and new instances."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ...domain.errors import ErrorCode, PlatformError

EVERY_SECONDS = 0.5
LATE_SECONDS = 2.0  # a line may become readable after one of another instance that was stamped later
PAGE_LINES = 500
_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Line = dict[str, Any]
_Key = tuple[float, str, str]  # when, by which instance, and what


def moment(text: str) -> str:
    """A time as tools take it. text: ISO 8601, or how long ago. Raises PlatformError(INVALID_ARGUMENT)."""
    if match := _AGO.fullmatch(text):
        return (datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: float(match[1])})).isoformat()
    try:
        return datetime.fromisoformat(text).astimezone(UTC).isoformat()
    except ValueError as exc:
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT, f"{text[:40]!r} is no time", "give 2026-11-24T12:00:00Z, or 90s, 15m, 2h, 3d"
        ) from exc


def followed(
    read: Callable[..., Any], shown: Sequence[Line], pause: Callable[[float], None] = time.sleep
) -> Iterator[list[Line]]:
    """New lines, oldest first, each once. read: asks read_logs, with other arguments than before. shown: lines that
    were, newest first. Never ends by itself; a daemon that does not answer is asked again."""
    newest = max((line["at"] for line in shown), default=time.time())
    oldest = min((line["at"] for line in shown), default=newest)
    known = Counter(_key(line) for line in shown)
    while True:
        pause(EVERY_SECONDS)
        since = newest - LATE_SECONDS
        try:
            lines = _since(read, since)
        except PlatformError as exc:
            if exc.code is not ErrorCode.UNAVAILABLE:
                raise
            continue
        here = Counter[_Key]()
        new: list[Line] = []
        for line in reversed(lines):
            here[_key(line)] += 1
            if here[_key(line)] > known[_key(line)] and line["at"] >= oldest:
                new.append(line)
        known = here | Counter[_Key]({key: count for key, count in known.items() if key[0] > since})
        newest = max([newest, *(line["at"] for line in lines)])
        yield new


def _since(read: Callable[..., Any], since: float) -> list[Line]:
    """All lines since then, newest first."""
    asked: dict[str, Any] = {"since": datetime.fromtimestamp(since, UTC).isoformat(), "limit": PAGE_LINES}
    page = read(**asked)
    lines = list(page["lines"])
    while page.get("cursor"):
        page = read(**asked, cursor=page["cursor"])
        lines += page["lines"]
    return lines


def _key(line: Line) -> _Key:
    return line["at"], line["instance"], line["text"]
