"""Logs of instances, as s6-log keeps them: `logs/UNIT/current`, rotated files beside it, each line stamped.

Read backwards from the ends of the files and merged by time, so that a page costs what it shows, not what there is.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from os.path import commonprefix
from pathlib import Path
from typing import BinaryIO

import redact_secret

from ...domain.errors import ErrorCode, PlatformError
from ...domain.signal import LogLine
from ...ports.logs import LogFilter, LogPage
from ..layout import Layout

LINE_BYTES = 65536  # s6-log cuts there (-l), too
BLOCK_BYTES = 65536
SCAN_LINES = 200_000  # for one page; a search that finds nothing goes on at the cursor

# SERVICE__ENVIRONMENT__VERSION__INDEX of an instance, SERVICE__ENVIRONMENT__JOB.VERSION.KEY of a run of a job.
_UNIT = re.compile(
    r"(?P<service>[a-z0-9-]+)__(?P<environment>[a-z0-9-]+)__"
    r"(?:(?P<version>[A-Za-z0-9.-]+)__\d+|(?P<job>[a-z0-9-]+)\.(?P<job_version>[a-z0-9]+)\.[a-z0-9-]+)"
)
_STAMP_BYTES = 25  # @ and 24 hex digits, as in TAI64N
_STAMP = re.compile(rb"@[0-9a-f]{24}")
_TAI_MINUS_UTC_SECONDS = 37  # s6 counts leap seconds; there was none since 2017
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

_CUT = "<redacted>"  # a part of a secret
_CONTAINER = re.compile(r"\A\[[a-z0-9-]+\] ")  # of several in one instance
_SYNONYMS = {"warn": "warning", "err": "error", "fatal": "critical", "panic": "critical", "emerg": "critical"}
_NUMBERS = {"10": "trace", "20": "debug", "30": "info", "40": "warning", "50": "error", "60": "critical"}  # pino's
_NAMES = ("trace", "debug", "info", "notice", "warning", "error", "critical")
_LEVELS = {name: name for name in _NAMES} | _SYNONYMS | _NUMBERS
_LEVEL_WORD = re.compile(
    r"(?:[\[(]?[\d:.,/TZ+ -]+[\])]?\s*)?"  # a time of the service's own
    r"(?:level=|severity=)?[\"\[(<]?(trace|debug|info|notice|warning|warn|error|err|fatal|critical|panic|emerg)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _Place:
    """Where a line stands among all. nth: counted from the newest among equal stamps of the instance."""

    stamp: str
    instance: str
    nth: int

    @property
    def age(self) -> tuple[str, str]:
        """Newest is greatest."""
        return self.stamp, self.instance

    def older_than(self, other: _Place) -> bool:
        return self.age < other.age or (self.age == other.age and self.nth > other.nth)

    def text(self) -> str:
        return base64.urlsafe_b64encode(json.dumps([self.stamp, self.instance, self.nth]).encode()).decode()

    @classmethod
    def parse(cls, cursor: str) -> _Place:
        try:
            stamp, instance, nth = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))
            if not (_STAMP.fullmatch(stamp.encode()) and _UNIT.fullmatch(instance) and type(nth) is int):
                raise ValueError(cursor)
        except (ValueError, TypeError, AttributeError, binascii.Error) as exc:
            raise PlatformError(
                ErrorCode.INVALID_ARGUMENT,
                "that cursor is not one of read_logs",
                "give the cursor of the page before, unchanged, or none to begin at the newest line",
            ) from exc
        return cls(stamp, instance, nth)


@dataclass(frozen=True)
class _Raw:
    """A line as it is in the file. before, after: the lines that s6-log has made of the rest, where it was too long."""

    text: bytes
    before: bytes = b""
    after: bytes = b""


class FileLogs:
    """Implements ports.logs.Logs over the files of s6-log."""

    def __init__(self, layout: Layout, hide: Callable[[str], str] = lambda text: text) -> None:
        """hide: takes known secrets out of a text."""
        self._logs = layout.logs
        self._hide = hide

    async def read(self, filter: LogFilter) -> LogPage:
        return await asyncio.to_thread(self._read, filter)

    def _read(self, filter: LogFilter) -> LogPage:
        before = _Place.parse(filter.before) if filter.before else None
        if filter.instance is not None and _UNIT.fullmatch(filter.instance) is None:
            raise PlatformError(
                ErrorCode.INVALID_ARGUMENT,
                f"{filter.instance[:100]!r} is not the id of an instance",
                "ids look like SERVICE__ENVIRONMENT__VERSION__INDEX, or ..__JOB.VERSION.KEY; each log line bears one",
            )
        newest = _stamp(filter.until) if filter.until is not None else None
        if before is not None:
            newest = min(newest or before.stamp, before.stamp)
        with closing(_merged(self._logs, self._units(filter), newest)) as lines:
            return _page(lines, filter, before, self._hide)

    def _units(self, filter: LogFilter) -> list[str]:
        """Names come from the directory and never from the filter."""
        if not self._logs.is_dir():
            return []
        wanted = (filter.service, filter.environment, filter.version, filter.job)
        return [
            entry.name
            for entry in os.scandir(self._logs)
            if (match := _UNIT.fullmatch(entry.name))
            and entry.is_dir(follow_symlinks=False)
            and filter.instance in (None, entry.name)
            and (filter.services is None or match["service"] in filter.services)
            and all(want in (None, has) for want, has in zip(wanted, _named(match), strict=True))
        ]


def _named(unit: re.Match[str]) -> tuple[str, str, str, str]:
    """Service, environment, version, and job or nothing."""
    return unit["service"], unit["environment"], unit["version"] or unit["job_version"], unit["job"] or ""


def _merged(logs: Path, units: list[str], newest: str | None) -> Generator[tuple[_Place, _Raw], None, None]:
    """Lines of all units, newest first, as of now.

    A unit's files are open only from its newest line that is there now to its end: most of the units of many former
    versions are never opened for more than a look.
    """
    waiting = sorted(
        (place for unit in units if (place := _newest_place(logs / unit, unit, newest)) is not None),
        key=lambda place: place.age,
    )
    streams: list[Generator[tuple[_Place, _Raw], None, None]] = []
    heads: list[tuple[_Place, _Raw]] = []
    try:
        while waiting or heads:
            top = max(range(len(heads)), key=lambda i: heads[i][0].age, default=None)
            if top is None or (waiting and waiting[-1].age >= heads[top][0].age):
                latest = waiting.pop()
                stream = _newest_first(logs / latest.instance, latest.instance, newest)
                # What was written since the look is left to the next call.
                first = next((found for found in stream if found[0].age <= latest.age), None)
                if first is not None:
                    streams.append(stream)
                    heads.append(first)
                continue
            yield heads[top]
            if (following := next(streams[top], None)) is not None:
                heads[top] = following
            else:
                del streams[top], heads[top]
    finally:
        for stream in streams:
            stream.close()


def _newest_place(directory: Path, unit: str, newest: str | None) -> _Place | None:
    with closing(_newest_first(directory, unit, newest)) as lines:
        return next((place for place, _ in lines), None)


def _page(
    lines: Iterator[tuple[_Place, _Raw]], filter: LogFilter, before: _Place | None, hide: Callable[[str], str]
) -> LogPage:
    since = _stamp(filter.since) if filter.since is not None else ""
    until = _stamp(filter.until) if filter.until is not None else "~"
    level = _LEVELS.get(filter.level.lower(), filter.level.lower()) if filter.level else None
    text = (filter.text or "").lower()
    page: list[LogLine] = []
    last: _Place | None = None
    scanned = 0
    for place, raw in lines:
        if place.stamp < since:
            break
        if place.stamp > until or (before is not None and not place.older_than(before)):
            continue
        if last is not None and (len(page) >= filter.limit or scanned >= SCAN_LINES):
            return LogPage(lines=tuple(page), cursor=last.text())
        last = place
        scanned += 1
        line = _line(place, raw, hide)
        # What was redacted cannot be searched for: a search must not find out a secret piece by piece.
        if level in (None, line.level) and text in line.text.lower():
            page.append(line)
    return LogPage(lines=tuple(page))


def _line(place: _Place, raw: _Raw, hide: Callable[[str], str]) -> LogLine:
    plain = _decoded(raw.text)
    known = _hidden(raw, hide)
    if len(raw.text) > LINE_BYTES:  # after it was looked at whole
        known = known[:LINE_BYTES]
    safe = redact_secret.scan_and_redact(known, policy=lambda finding, context: "redact").text
    match = _UNIT.fullmatch(place.instance)
    assert match is not None  # noqa: S101 - others are not read
    service, environment, version, job = _named(match)
    return LogLine(
        at=_unix(place.stamp),
        instance=place.instance,
        service=service,
        environment=environment,
        version=version,
        job=job,
        level=_level(plain) or _level(_CONTAINER.sub("", plain)),
        text=_CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", safe),
        truncated=len(raw.text) >= LINE_BYTES,
    )


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _common(one: str, other: str) -> int:
    """How many characters both begin with."""
    return len(commonprefix([one, other]))  # noqa: RUF071 - these are no paths


def _hidden(raw: _Raw, hide: Callable[[str], str]) -> str:
    """The line without known secrets, nor the parts of those that it was cut in: what is hidden with the rest of the
    line, and is not without it, differs at that end."""
    alone = hide(_decoded(raw.text))
    begin, end = 0, len(alone)
    if raw.after:
        end = _common(alone, hide(_decoded(raw.text + raw.after)))
    if raw.before:
        begin = len(alone) - _common(alone[::-1], hide(_decoded(raw.before + raw.text))[::-1])
    return (_CUT if begin else "") + alone[begin:end] + (_CUT if end < len(alone) else "")


def _level(text: str) -> str:
    """What the line says of itself: a field of a JSON object, or a word at its beginning. Else empty."""
    if text.startswith("{"):
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            return ""
        return _LEVELS.get(str(fields.get("level", fields.get("severity", ""))).lower(), "")
    match = _LEVEL_WORD.match(text[:100])
    return _LEVELS[match[1].lower()] if match else ""


def _stamp(unix: float) -> str:
    seconds, fraction = divmod(max(unix, 0.0), 1)
    return f"@{(1 << 62) + int(seconds) + _TAI_MINUS_UTC_SECONDS:016x}{int(fraction * 1e9):08x}"


def _unix(stamp: str) -> float:
    seconds = int(stamp[1:17], 16) - (1 << 62) - _TAI_MINUS_UTC_SECONDS
    return max(0.0, seconds + int(stamp[17:], 16) / 1e9)


def _newest_first(directory: Path, unit: str, newest: str | None) -> Generator[tuple[_Place, _Raw], None, None]:
    """Lines of one unit. newest: files that begin after it are passed over."""
    newer = b""
    with closing(_stamped(directory, unit, newest)) as lines:
        found = next(lines, None)
        while found is not None:
            place, text = found
            found = next(lines, None)
            older = found[1] if found is not None else b""
            yield (
                place,
                _Raw(
                    text,
                    before=older if len(older) >= LINE_BYTES else b"",
                    after=newer if len(text) >= LINE_BYTES else b"",
                ),
            )
            newer = text


def _stamped(directory: Path, unit: str, newest: str | None) -> Generator[tuple[_Place, bytes], None, None]:
    stamp, nth = "", 0
    with ExitStack() as files:
        for file in _open_all(directory, files):
            if newest is not None and _first_stamp(file) > newest:
                continue
            for line in _backwards(file):
                found, text = line[:_STAMP_BYTES], line[_STAMP_BYTES + 1 :]
                if _STAMP.fullmatch(found) is None:
                    continue  # the beginning of a file that lost its own to a crash
                nth = nth + 1 if found.decode() == stamp else 0
                stamp = found.decode()
                yield _Place(stamp, unit, nth), text


def _open_all(directory: Path, files: ExitStack) -> Iterator[BinaryIO]:
    """The files of a unit, newest first.

    `current` is opened before the others are listed, and no file is read twice: one that is rotated meanwhile is
    found under its new name too.
    """
    seen: set[int] = set()

    def opened(name: str) -> BinaryIO | None:
        try:
            file = files.enter_context(open(directory / name, "rb"))  # noqa: SIM115 - closed by `files`
        except (FileNotFoundError, NotADirectoryError):
            return None  # removed by the rotation
        inode = os.fstat(file.fileno()).st_ino
        if inode in seen:
            return None
        seen.add(inode)
        return file

    for name in ("current", "previous"):
        if (file := opened(name)) is not None:
            yield file
    rotated = [name for name in os.listdir(directory) if name.startswith("@") and name.endswith((".s", ".u"))]
    for name in sorted(rotated, reverse=True):
        if (file := opened(name)) is not None:
            yield file


def _first_stamp(file: BinaryIO) -> str:
    file.seek(0)
    return file.read(_STAMP_BYTES).decode("ascii", "replace")


def _backwards(file: BinaryIO) -> Iterator[bytes]:
    """Whole lines from the end. Of a line that is longer than the limit, what is beyond it is not kept."""
    position = file.seek(0, os.SEEK_END)
    rest = b""
    first = True
    while position > 0:
        size = min(BLOCK_BYTES, position)
        position -= size
        file.seek(position)
        pieces = (file.read(size) + rest).split(b"\n")
        rest = pieces[0][: LINE_BYTES + BLOCK_BYTES]
        for line in reversed(pieces[1:]):
            if not (first and not line):
                yield line
            first = False
    if rest:
        yield rest
