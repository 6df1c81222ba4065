"""The files of a unit's log, as s6-log keeps them: `current` and rotated ones, each line behind a stamp in TAI64N.

They are read backwards in blocks of whole lines. Each block opens its file anew: a rotation moves the file away, and a
search through many units would hold more files than a process may have open.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

STAMP_BYTES = 25  # @ and 24 hex digits
NEWEST = "~"  # greater than any stamp
STAMP = re.compile(rb"@[0-9a-f]{24}")
LINE_BYTES = 65536  # s6-log cuts there (-l), too
LARGEST_BLOCK_BYTES = 1 << 20
_TAI_MINUS_UTC_SECONDS = 37  # s6 counts leap seconds; there was none since 2017
_PROBE_BYTES = 4096


def stamp(unix: float) -> str:
    """unix: seconds; what is out of a stamp's reach becomes the nearest that is not."""
    seconds, fraction = divmod(min(max(unix, 0.0), 1e12), 1)
    return f"@{(1 << 62) + int(seconds) + _TAI_MINUS_UTC_SECONDS:016x}{int(fraction * 1e9):08x}"


def unix_seconds(stamp: str) -> float:
    seconds = int(stamp[1:17], 16) - (1 << 62) - _TAI_MINUS_UTC_SECONDS
    return max(0.0, seconds + int(stamp[17:], 16) / 1e9)


@dataclass(frozen=True)
class Block:
    """Whole lines of a file. data: they lie from `begin` to `end` there, until the next block is read into it.
    offset: of data[0] in the file."""

    data: bytearray
    begin: int
    end: int
    offset: int

    @property
    def start(self) -> int:
        """In the file."""
        return self.offset + self.begin

    def lines(self) -> Iterator[tuple[int, int]]:
        """From where to where in `data` each line goes, without its end, newest first."""
        end = self.end
        if end > self.begin and self.data[end - 1] == 0x0A:
            end -= 1
        while end >= self.begin:
            start = max(self.begin, self.data.rfind(b"\n", self.begin, end) + 1)
            yield start, end
            end = start - 1


@dataclass(frozen=True)
class LogFile:
    """A file as it was when it was listed. It may since have another name, or be gone."""

    directory: Path
    name: str
    inode: int

    def open(self) -> int | None:
        """A descriptor to read from; None where the file is gone."""
        names = [self.name]
        if not self.name.startswith("@"):
            names += [name for name, inode in _entries(self.directory) if inode == self.inode]
        for name in names:
            try:
                descriptor = os.open(self.directory / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except OSError:
                continue  # removed, or renamed by the rotation
            if os.fstat(descriptor).st_ino == self.inode:
                return descriptor
            os.close(descriptor)
        return None

    def rotated_by(self, newest: str) -> bool:
        """Whether it has no line that is newer: the name of a rotated file says when that was."""
        return newest == NEWEST or (self.name.startswith("@") and self.name[:STAMP_BYTES] <= newest)

    def span(self) -> tuple[str, int]:
        """The stamp of its first line, and its size; empty where there is none."""
        if (descriptor := self.open()) is None:
            return "", 0
        try:
            first = os.pread(descriptor, STAMP_BYTES, 0)
            size = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
        return first.decode("ascii", "replace"), size

    def block(self, end: int, buffer: bytearray, most: int) -> Block | None:
        """The lines up to `end`, where one ends: as many as `most` bytes hold, at least one.

        buffer: of `most` bytes or more; of a line that is longer, what it holds of its beginning. None where there is
        nothing more: at the beginning, or in a file that is gone.
        """
        if end <= 0 or (descriptor := self.open()) is None:
            return None
        try:
            begin = max(0, end - most)
            size = _read(descriptor, memoryview(buffer)[: end - begin], begin)
            if begin == 0:
                return Block(buffer, 0, size, 0)
            if cut := buffer.find(b"\n", 0, max(0, size - 1)) + 1:
                return Block(buffer, cut, size, begin)
            start = _line_start(descriptor, begin, buffer)
            size = _read(descriptor, memoryview(buffer)[: end - start], start)
            return Block(buffer, 0, size, start)
        finally:
            os.close(descriptor)

    def end_at(self, newest: str, size: int) -> int:
        """Where the lines end that are not newer than a stamp, by bisection: lines of a file are in order."""
        if (descriptor := self.open()) is None:
            return 0
        low, high = 0, size  # what begins before `low` is not newer, what begins at `high` or behind is
        try:
            while high - low > _PROBE_BYTES:
                middle = (low + high) // 2
                found = _next_line(descriptor, middle, high)
                if found is None or found[1] > newest:
                    high = middle
                else:
                    low = found[0] + STAMP_BYTES
            while (found := _next_line(descriptor, low, size)) and found[1] <= newest:
                low = found[0] + STAMP_BYTES
        finally:
            os.close(descriptor)
        return found[0] if found else size

    def read(self, offset: int, size: int) -> bytes:
        """Fewer bytes where the file is shorter, or gone."""
        if (descriptor := self.open()) is None:
            return b""
        try:
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)


def files(directory: Path) -> list[LogFile]:
    """Newest first. `current` is looked at before the others, so that one that is rotated meanwhile is not missed, and
    none is there twice."""
    listed: dict[int, LogFile] = {}
    for name in ("current", "previous"):
        try:
            inode = os.stat(directory / name, follow_symlinks=False).st_ino
        except OSError:
            continue
        listed.setdefault(inode, LogFile(directory, name, inode))
    for name, inode in sorted(_entries(directory), reverse=True):
        if name.startswith("@") and name.endswith((".s", ".u")):
            listed.setdefault(inode, LogFile(directory, name, inode))
    return list(listed.values())


def _entries(directory: Path) -> list[tuple[str, int]]:
    try:
        with os.scandir(directory) as entries:
            return [(entry.name, entry.inode()) for entry in entries]
    except OSError:
        return []


def _read(descriptor: int, view: memoryview, offset: int) -> int:
    """Bytes read: fewer than the view holds where the file is shorter."""
    done = 0
    while done < len(view):
        got = os.preadv(descriptor, [view[done:]], offset + done)
        if got == 0:
            break
        done += got
    return done


def _line_start(descriptor: int, end: int, buffer: bytearray) -> int:
    """Where the line begins that goes over `end`."""
    while end > 0:
        begin = max(0, end - len(buffer))
        size = _read(descriptor, memoryview(buffer)[: end - begin], begin)
        if (found := buffer.rfind(b"\n", 0, size)) >= 0:
            return begin + found + 1
        end = begin
    return 0


def _next_line(descriptor: int, offset: int, end: int) -> tuple[int, str] | None:
    """The first stamped line that begins at `offset` or behind: where, and its stamp."""
    while offset < end:
        text = os.pread(descriptor, _PROBE_BYTES, max(0, offset - 1))
        base = max(0, offset - 1)
        for match in STAMP.finditer(text):
            at = base + match.start()
            begins = at == 0 or text[max(0, match.start() - 1) : match.start()] == b"\n"
            if begins and at >= offset:
                return (at, match[0].decode()) if at < end else None
        if len(text) < _PROBE_BYTES:
            return None
        offset = base + len(text) - STAMP_BYTES
    return None
