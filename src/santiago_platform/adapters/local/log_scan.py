"""Goes through the log of one unit, from its newest line back, and finds the lines that a search means."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .log_files import LARGEST_BLOCK_BYTES, LINE_BYTES, STAMP, STAMP_BYTES, Block, LogFile, files
from .log_search import LineSearch

FIRST_BLOCK_BYTES = 32 * 1024  # enough for a page of lines
FIRST_SEARCHED_BYTES = 256 * 1024
GROWTH = 4
BLOCKS_AT_ONCE = 32

_buffers = threading.local()


@dataclass(frozen=True, order=True, slots=True)
class Place:
    """Where a line stands among all; the newest is greatest. file: the stamp of the first line of its file, which it
    keeps when it is rotated. offset: in there, bytes."""

    stamp: str
    instance: str
    file: str
    offset: int


@dataclass(frozen=True, slots=True)
class RawLine:
    """A line as it is in the file, without its stamp. before, after: the lines that s6-log has made of the rest, where
    it was too long."""

    place: Place
    text: bytes
    before: bytes = b""
    after: bytes = b""


class UnitScan:
    """found: lines not taken yet, newest first. reached: all that is newer was looked at, and so was the line there."""

    def __init__(self, directory: Path, search: LineSearch, since: str, newest: str, before: Place | None) -> None:
        """since, newest: stamps of the oldest and the newest line that is wanted. before: only what is older."""
        self.found: deque[RawLine] = deque()
        self.reached = Place("~", directory.name, "", 0)
        self.ended = False
        self._search = search
        self._since, self._newest, self._before = since, newest, before
        self._instance = directory.name
        self._left = deque(files(directory))
        self._file: LogFile | None = None
        self._newer: LogFile | None = None
        self._first, self._end = "", 0
        self._bytes = FIRST_BLOCK_BYTES if search.takes_all else FIRST_SEARCHED_BYTES

    @property
    def head(self) -> Place:
        return self.found[0].place if self.found else self.reached

    def __lt__(self, other: UnitScan) -> bool:
        """The newest comes first in a heap."""
        return self.head > other.head

    def advance(self, going: Callable[[], bool]) -> None:
        """Until something is found, or after some blocks. going: asked between blocks whether to go on."""
        buffer: bytearray | None = getattr(_buffers, "buffer", None)
        if buffer is None:
            buffer = _buffers.buffer = bytearray(LARGEST_BLOCK_BYTES)
        for _ in range(BLOCKS_AT_ONCE):
            while self._end <= 0 and not self.ended:
                self._open_next()
            if self.ended or not going():
                return
            assert self._file is not None  # noqa: S101 - it has not ended
            block = self._file.block(self._end, buffer, self._bytes)
            self._end = min(block.start, self._end - 1) if block is not None else 0
            self._bytes = min(self._bytes * GROWTH, LARGEST_BLOCK_BYTES)
            if block is not None:
                self._take(block)
            if self._end <= 0 and not self._left:
                self.ended = True
            if self.found:
                return

    def _open_next(self) -> None:
        if not self._left:
            self.ended = True
            return
        self._newer, self._file = self._file, self._left.popleft()
        self._first, self._end = self._file.span()
        if self._first > self._newest:
            self._end = 0
        elif self._end and not self._file.rotated_by(self._newest):
            self._end = self._file.end_at(self._newest, self._end)

    def _take(self, block: Block) -> None:
        for start, end in self._search.candidates(block):
            found = bytes(block.data[start : min(start + STAMP_BYTES, end)])
            if STAMP.fullmatch(found) is None:
                continue  # the beginning of a file that lost its own to a crash, or junk
            place = Place(found.decode(), self._instance, self._first, block.offset + start)
            if not self._since <= place.stamp <= self._newest or (self._before is not None and place >= self._before):
                continue
            text = bytes(block.data[start + STAMP_BYTES + 1 : end])
            if self._search.may_show(text.decode("utf-8", "backslashreplace")):
                self.found.append(
                    RawLine(place, text, before=self._older(block, start), after=self._after(block, end, len(text)))
                )
        self._look_back(block)

    def _look_back(self, block: Block) -> None:
        """How far it has come, and whether what is left is too old."""
        for match in STAMP.finditer(block.data, block.begin, block.end):
            if match.start() == block.begin or block.data[match.start() - 1] == 0x0A:
                oldest = match[0].decode()
                self.reached = min(
                    self.reached, Place(oldest, self._instance, self._first, block.offset + match.start())
                )
                if oldest < self._since:
                    self.ended = True
                return

    def _older(self, block: Block, start: int) -> bytes:
        """The line before, if it was cut by the logger."""
        long = LINE_BYTES + STAMP_BYTES + 2
        if block.data.rfind(b"\n", max(block.begin, start - long), max(block.begin, start - 1)) >= 0:
            return b""
        file, offset = self._file, block.offset + start
        if offset == 0 and self._left:
            file, offset = self._left[0], self._left[0].span()[1]
        if file is None or offset < long:
            return b""
        line = file.read(offset - long, long).removesuffix(b"\n").rpartition(b"\n")[2]
        return line[STAMP_BYTES + 1 :] if STAMP.match(line) and len(line) > LINE_BYTES else b""

    def _after(self, block: Block, end: int, size: int) -> bytes:
        """The line behind, where this one was cut by the logger."""
        if size < LINE_BYTES:
            return b""
        length = LINE_BYTES + STAMP_BYTES + 2
        line = self._file.read(block.offset + end + 1, length) if self._file is not None else b""
        if not line and self._newer is not None:
            line = self._newer.read(0, length)
        return line.partition(b"\n")[0][STAMP_BYTES + 1 :]
