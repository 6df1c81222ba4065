"""Logs of instances, as s6-log keeps them: read backwards from the ends of the files and merged by time, so that a page
costs what it shows, and a search the bytes that it goes through."""

from __future__ import annotations

import asyncio
import base64
import binascii
import heapq
import json
import os
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from os.path import commonprefix

import redact_secret

from ...domain.errors import ErrorCode, PlatformError
from ...domain.log_text import level_of
from ...domain.signal import LogLine
from ...ports.logs import LogFilter, LogPage
from ..layout import ENVOYS, Layout
from .log_files import LINE_BYTES, NEWEST, STAMP, stamp, unix_seconds
from .log_scan import Place, RawLine, UnitScan
from .log_search import LineSearch

SEARCH_SECONDS = 2.0  # for one page; what it did not come to is looked through from its cursor on
READERS = 2  # at once; others wait
SCANNERS = min(4, os.cpu_count() or 1)
SCANS_AT_ONCE = 4 * SCANNERS

# SERVICE__ENVIRONMENT__VERSION__INDEX of an instance, SERVICE__ENVIRONMENT__JOB.VERSION.KEY of a run of a job.
_UNIT = re.compile(
    r"(?P<service>[a-z0-9-]+)__(?P<environment>[a-z0-9-]+)__"
    r"(?:(?P<version>[A-Za-z0-9.-]+)__\d+|(?P<job>[a-z0-9-]+)\.(?P<job_version>[a-z0-9]+)\.[a-z0-9-]+)"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_CUT = "<redacted>"  # a part of a secret
_Origin = tuple[str, str, str, str]  # service, environment, version, and job or nothing


class FileLogs:
    """Implements ports.logs.Logs over the files of s6-log."""

    def __init__(
        self,
        layout: Layout,
        hide: Callable[[str], str] = lambda text: text,
        *,
        search_seconds: float = SEARCH_SECONDS,
    ) -> None:
        """hide: takes known secrets out of a text."""
        self._logs = layout.logs
        self._hide = hide
        self._search_seconds = search_seconds
        self._readers = ThreadPoolExecutor(READERS, "logs")
        self._scanners = ThreadPoolExecutor(SCANNERS, "log-scan")

    async def read(self, filter: LogFilter) -> LogPage:
        given_up = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, filter, given_up)
        finally:
            given_up.set()

    def _read(self, filter: LogFilter, given_up: threading.Event) -> LogPage:
        before = _place(filter.before) if filter.before else None
        if filter.instance is not None and not _is_unit(filter.instance):
            raise PlatformError(
                ErrorCode.INVALID_ARGUMENT,
                f"{filter.instance[:100]!r} is not the id of an instance",
                "ids look like SERVICE__ENVIRONMENT__VERSION__INDEX, or ..__JOB.VERSION.KEY; each log line bears one",
            )
        search = LineSearch(filter)
        since = stamp(filter.since) if filter.since is not None else ""
        newest = stamp(filter.until) if filter.until is not None else NEWEST
        if before is not None:
            newest = min(newest, before.stamp)
        until = time.monotonic() + self._search_seconds

        def going() -> bool:
            return not given_up.is_set() and time.monotonic() < until

        scans = [UnitScan(self._logs / unit, search, since, newest, before) for unit in self._units(filter)]
        self._advance(scans, lambda: not given_up.is_set())
        return self._page(filter, search, scans, going)

    def _units(self, filter: LogFilter) -> list[str]:
        """Names come from the directory and never from the filter."""
        if not self._logs.is_dir():
            return []
        return [
            entry.name
            for entry in os.scandir(self._logs)
            if filter.instance in (None, entry.name)
            and (
                _is_wanted(filter, _named(unit)) if (unit := _UNIT.fullmatch(entry.name)) else _is_asked(filter, entry)
            )
            and entry.is_dir(follow_symlinks=False)
        ]

    def _advance(self, scans: list[UnitScan], going: Callable[[], bool]) -> None:
        if len(scans) > 1:
            list(self._scanners.map(lambda scan: scan.advance(going), scans))
        elif scans:
            scans[0].advance(going)

    def _page(self, filter: LogFilter, search: LineSearch, scans: list[UnitScan], going: Callable[[], bool]) -> LogPage:
        page: list[LogLine] = []
        heap = [scan for scan in scans if scan.found or not scan.ended]
        heapq.heapify(heap)
        last: Place | None = None
        while heap:
            if last is not None and (len(page) >= filter.limit or not going()):
                return LogPage(lines=tuple(page), cursor=_cursor(last), partial=len(page) < filter.limit)
            top = heap[0]
            if top.found:
                raw = top.found.popleft()
                last = raw.place
                if (line := self._line(raw, filter, search)) is not None:
                    page.append(line)
                if top.found or not top.ended:
                    heapq.heapreplace(heap, top)
                else:
                    heapq.heappop(heap)
                continue
            behind = [heapq.heappop(heap)]
            while heap and not heap[0].found and len(behind) < SCANS_AT_ONCE:
                behind.append(heapq.heappop(heap))
            last = behind[0].reached
            self._advance(behind, going)
            for scan in behind:
                if scan.found or not scan.ended:
                    heapq.heappush(heap, scan)
        return LogPage(lines=tuple(page))

    def _line(self, raw: RawLine, filter: LogFilter, search: LineSearch) -> LogLine | None:
        """None where it is not one that is looked for."""
        plain = _decoded(raw.text)
        if (of := _origin(raw.place.instance, plain)) is None:
            return None
        if not _is_wanted(filter, of):
            return None
        known = _hidden(raw, self._hide)
        if len(raw.text) > LINE_BYTES:  # after it was looked at whole
            known = known[:LINE_BYTES]
        safe = redact_secret.scan_and_redact(known, policy=lambda finding, context: "redact").text
        if not search.shows(safe):
            return None
        service, environment, version, job = of
        return LogLine(
            at=unix_seconds(raw.place.stamp),
            instance=raw.place.instance,
            service=service,
            environment=environment,
            version=version,
            job=job,
            level=level_of(plain),
            text=_CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", safe),
            truncated=len(raw.text) >= LINE_BYTES,
        )


def _is_wanted(filter: LogFilter, of: _Origin) -> bool:
    wanted = (filter.service, filter.environment, filter.version, filter.job)
    return (filter.services is None or of[0] in filter.services) and all(
        want in (None, has) for want, has in zip(wanted, of, strict=True)
    )


def _is_asked(filter: LogFilter, entry: os.DirEntry[str]) -> bool:
    """Whether a folder that is no instance's is the ingress's, and its log is wanted."""
    return entry.name in ENVOYS and (filter.access or filter.instance is not None)


def _is_unit(name: str) -> bool:
    return name in ENVOYS or _UNIT.fullmatch(name) is not None


def _named(unit: re.Match[str]) -> _Origin:
    return unit["service"], unit["environment"], unit["version"] or unit["job_version"], unit["job"] or ""


def _origin(instance: str, text: str) -> _Origin | None:
    """Of whom a line is. None for one of the ingress that is no request to a service."""
    if (match := _UNIT.fullmatch(instance)) is not None:
        return _named(match)
    try:
        access = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(access, dict):
        return None
    service, environment, version = (access.get(name) for name in ("service", "environment", "version"))
    if not (isinstance(service, str) and isinstance(environment, str)):
        return None
    return service, environment, version if isinstance(version, str) else "", ""


def _cursor(place: Place) -> str:
    fields = [place.stamp, place.instance, place.file, place.offset]
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()


def _place(cursor: str) -> Place:
    try:
        at, instance, file, offset = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))
        if not (STAMP.fullmatch(at.encode()) and _is_unit(instance) and isinstance(file, str) and type(offset) is int):
            raise ValueError(cursor)
    except (ValueError, TypeError, AttributeError, binascii.Error) as exc:
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT,
            "that cursor is not one of read_logs",
            "give the cursor of the page before, unchanged, or none to begin at the newest line",
        ) from exc
    return Place(at, instance, file, offset)


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _common(one: str, other: str) -> int:
    """How many characters both begin with."""
    return len(commonprefix([one, other]))  # noqa: RUF071 - these are no paths


def _hidden(raw: RawLine, hide: Callable[[str], str]) -> str:
    """The line without known secrets, nor the parts of those that it was cut in: what is hidden with the rest of the
    line, and is not without it, differs at that end."""
    alone = hide(_decoded(raw.text))
    begin, end = 0, len(alone)
    if raw.after:
        end = _common(alone, hide(_decoded(raw.text + raw.after)))
    if raw.before:
        begin = len(alone) - _common(alone[::-1], hide(_decoded(raw.before + raw.text))[::-1])
    return (_CUT if begin else "") + alone[begin:end] + (_CUT if end < len(alone) else "")
