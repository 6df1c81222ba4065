"""The ship's log on disk: appended in groups, each group one write and one sync."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

from ...domain.errors import ErrorCode, PlatformError
from ...domain.ship_log import GENESIS, Anchor, Chain, Draft, Entry, EntryKind, Head, Verification, parse
from ...ports.clock import Clock
from ..group_commit import NO_SPACE, GroupCommit, Outcome
from ..redaction import redacted
from .head_key import HeadKey, signature_holds
from .log_directory import LogDirectory, verify_directory

KEY = "ship-log.key"
LOCK = "ship-log.lock"
TORN_LIMIT = 400

logger = logging.getLogger(__name__)

Write = Callable[[int, memoryview], int]


class FileShipLog:
    """Implements ports.ship_log.ShipLog in `directory` (see log_directory.py), signed by a key in `key_directory`.

    Starting cuts off a torn last line and notes it. A log that does not verify does not keep it from starting: it
    goes on after the last line that can be read, and `verify` keeps naming the flaw. It is the only writer as long
    as it is open. write: `os.write`, or what stands in for it in a test of a full disk. hide: takes known secrets out
    of a text.

    Starting raises PlatformError: CONFLICT where another process writes this log, DATA_CORRUPT where the key is
    none, RESOURCE_EXHAUSTED, UNAVAILABLE.
    """

    def __init__(
        self,
        directory: Path,
        key_directory: Path,
        clock: Clock,
        *,
        write: Write = os.write,
        hide: Callable[[str], str] = lambda text: text,
    ) -> None:
        self._log = LogDirectory(directory)
        self._clock = clock
        self._write = write
        self._hide = hide
        self._file: _DayFile | None = None
        self._notes: list[Draft] = []  # of the log itself; they go in front of the next group
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            key_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _lock(key_directory / LOCK)
            self._key = HeadKey.load(key_directory / KEY)
            if files := self._log.files():
                self._mend(files[-1])
            self._chain, self._head = self._resume()
        except OSError as exc:
            raise _translated(exc, directory) from exc
        try:
            self._append([])
        except PlatformError as exc:
            # A full disk must not keep reads from working: the notes wait, and so do all changes.
            logger.warning("%s %s", exc.message, exc.internal)
        self._group: GroupCommit[Draft, Entry] = GroupCommit("the ship's log", self._append)

    async def append(self, draft: Draft) -> Entry:
        return await self._group.submit(redacted(draft, self._hide))

    async def unfinished(self) -> list[Entry]:
        self._group.check_open()
        return self._chain.unfinished

    async def completed(self) -> list[Entry]:
        self._group.check_open()
        return self._chain.completed

    async def entry(self, seq: int) -> Entry | None:
        self._group.check_open()
        return await asyncio.to_thread(self._log.entry, seq)

    async def head(self) -> Head:
        self._group.check_open()
        return self._head

    async def verify(self, anchors: Sequence[Anchor] | None = None) -> Verification:
        return await asyncio.to_thread(verify_directory, self._log.path, self._key.public, anchors)

    async def close(self) -> None:
        """Writes what was appended before, then lets another process write this log."""
        await self._group.close()
        if self._file is not None:
            self._file.close()
            self._file = None
        self._lock.close()

    def _resume(self) -> tuple[Chain, Head]:
        """The end to go on from, and its head.

        Where the log does not hold what its head signed, it was cut or rewritten while nobody wrote it. It then goes
        on from the head, so that it stays broken at that place for everybody to see; going on from the last line
        would mend it unseen.
        """
        head = self._log.head()
        chain, hashes = Chain(), {0: GENESIS}
        for _, line in self._log.lines():
            if (entry := parse(line)) is not None:
                chain.follow(entry)
                if head is not None and entry.seq == head.seq:
                    hashes[entry.seq] = entry.hash
        last = chain.seq
        if head is None:
            if last:
                self._note("mend_head", problem="the signed head was missing or unreadable")
        elif head.key != self._key.public.hex() or not signature_holds(head.seq, head.hash, head.signature, head.key):
            self._note("mend_head", problem="the head was not signed by this workspace's key", key=head.key[:64])
        elif hashes.get(head.seq) != head.hash:
            self._note("mend_head", problem="the log does not hold what its head signed", signed=head.seq, last=last)
            chain.seq, chain.hash = max(head.seq, last), head.hash
        elif head.seq < last:
            # A crash leaves this, between a group and its head; so does somebody who appends without the key.
            self._note("mend_head", problem="entries follow the signed head", signed=head.seq, last=last)
        return chain, self._key.sign(chain.seq, chain.hash, self._clock.now())

    def _append(self, drafts: Sequence[Draft]) -> Sequence[Outcome[Entry]]:
        """One group: all of its lines are durable, or none is left in the file."""
        now = self._clock.now()
        chain = self._chain.copy()
        outcomes: list[Outcome[Entry]] = []
        try:
            file = self._open(now)
            content = bytearray()
            for note in self._notes:
                content += chain.append(note, now)[1] + b"\n"
            for draft in drafts:
                try:
                    entry, line = chain.append(draft, now)
                except PlatformError as exc:
                    outcomes.append(Outcome(error=exc))
                else:
                    outcomes.append(Outcome(entry))
                    content += line + b"\n"
            file.append(bytes(content))
        except OSError as exc:
            raise _translated(exc, self._log.path) from exc
        self._notes.clear()
        self._chain = chain
        self._head = self._key.sign(chain.seq, chain.hash, now)
        try:
            self._log.write_head(self._head)
        except OSError as exc:
            logger.warning("the head of the ship's log was not written and lags behind: %s", exc)
        return outcomes

    def _open(self, now: datetime) -> _DayFile:
        """The day's file. A clock that was set back does not reopen an older day: the files would lose their order."""
        name = f"{now.astimezone(UTC):%Y-%m-%d}.jsonl"
        if self._file is not None:
            if name <= self._file.path.name and self._file.in_place:
                return self._file
            self._file.close()
            self._file = None
        self._log.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = max([self._log.path / name, *self._log.files()[-1:]])
        if path.exists():
            self._mend(path)
        self._file = _DayFile(path, self._write)
        return self._file

    def _mend(self, path: Path) -> None:
        """Cuts off what follows the last newline: a line that was never answered."""
        with path.open("r+b") as file:
            content = file.read()
            torn = content[content.rfind(b"\n") + 1 :]
            if torn:
                file.truncate(len(content) - len(torn))
                os.fsync(file.fileno())
                text = torn[:TORN_LIMIT].decode(errors="backslashreplace")
                self._note("mend_log", file=path.name, cut_bytes=len(torn), cut=text)

    def _note(self, action: str, **body: Any) -> None:
        self._notes.append(
            redacted(
                Draft(
                    kind=EntryKind.NOTED,
                    action=action,
                    principal="platform",
                    role="platform",
                    tenant="default",
                    subject=str(self._log.path.name),
                    body=body,
                )
            )
        )


class _DayFile:
    """A file that is appended to, whole groups or nothing."""

    def __init__(self, path: Path, write: Write) -> None:
        self.path = path
        self._write = write
        self._torn_at: int | None = None
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        self._identity = _identity(os.fstat(self._descriptor))
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    @property
    def in_place(self) -> bool:
        """Whether the path still leads to this file: git, for one, replaces files when it changes branches."""
        try:
            return _identity(os.stat(self.path)) == self._identity
        except FileNotFoundError:
            return False

    def append(self, content: bytes) -> None:
        self._cut()
        start = os.fstat(self._descriptor).st_size
        rest = memoryview(content)
        try:
            while rest:
                written = self._write(self._descriptor, rest)
                if written <= 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
                rest = rest[written:]
            os.fdatasync(self._descriptor)
        except OSError:
            self._torn_at = start
            with suppress(OSError):  # tried again before the next group
                self._cut()
            raise

    def close(self) -> None:
        os.close(self._descriptor)

    def _cut(self) -> None:
        if self._torn_at is not None:
            os.ftruncate(self._descriptor, self._torn_at)
            self._torn_at = None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _lock(path: Path) -> FileIO:
    file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        file.close()
        raise PlatformError(
            ErrorCode.CONFLICT,
            f"another process writes the ship's log: it holds {path}",
            "only one daemon may run for a workspace: `santiago status` shows it",
        ) from exc
    return file


def _translated(exc: OSError, directory: Path) -> PlatformError:
    if exc.errno in NO_SPACE:
        return PlatformError(
            ErrorCode.RESOURCE_EXHAUSTED,
            f"the ship's log in {directory} could not be written: the disk is full or a quota is reached",
            "free some space; no change is made until the log can be written",
            internal=str(exc),
        )
    return PlatformError(
        ErrorCode.UNAVAILABLE,
        f"the ship's log in {directory} cannot be written: {exc.strerror}",
        "look at its permissions, and whether the disk is mounted and healthy",
        internal=str(exc),
    )
