"""The store in one SQLite file: one writer with group commit, and readers that never wait for it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from ...domain.errors import ErrorCode, PlatformError
from ...ports.store import Snapshot, Transaction
from ..group_commit import NO_SPACE, GroupCommit, Outcome
from .rows import Rows
from .schema import migrate

T = TypeVar("T")
Unit = Callable[[Transaction], Any]

BUSY_SECONDS = 5  # another process, such as a backup, may hold the database
AHEAD_LIMIT_BYTES = 4 << 20  # of the write-ahead log, where nobody ever rests


class SqliteStore:
    """Implements ports.store.Store in the file `path`, which is made (0600) where it is missing.

    What was written goes from the write-ahead log into the database itself as soon as nobody writes for a moment: if
    that log is ever cut off, no more is lost than what was written since. It is emptied whenever it is read back, since
    a log of which SQLite needs a part only would damage the database where it is cut.

    Opening raises PlatformError: DATA_CORRUPT where the file is no database, FAILED_PRECONDITION where a newer
    version wrote it, RESOURCE_EXHAUSTED, UNAVAILABLE.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ahead = path.with_name(f"{path.name}-wal")
        with self._translated():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            path.chmod(0o600)  # the files that SQLite puts beside it take this mode too
            self._writer = _connect(path, "journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 0")
            with _transaction(self._writer, "BEGIN IMMEDIATE"):
                migrate(self._writer)
            self._checkpoint()
            self._reader = _connect(path, "query_only = ON")
        self._group: GroupCommit[Unit, Any] = GroupCommit("the store", self._commit, self._checkpoint)

    async def read(self, view: Callable[[Snapshot], T]) -> T:
        # In the event loop itself: a look-up takes 0.01 ms and a page of 50 operations 0.2 ms, while writers write
        # too. The way to a thread and back costs 0.1 ms at rest, and 7 ms at p99 where writers keep the interpreter.
        self._group.check_open()
        with self._translated(), _transaction(self._reader, "BEGIN"):
            return view(Rows(self._reader))

    async def write(self, unit: Callable[[Transaction], T]) -> T:
        answer: T = await self._group.submit(unit)
        return answer

    async def close(self) -> None:
        await self._group.close()
        self._reader.close()
        self._writer.close()

    def _commit(self, units: Sequence[Unit]) -> Sequence[Outcome[Any]]:
        with self._translated():
            with _transaction(self._writer, "BEGIN IMMEDIATE"):
                outcomes = [self._run(unit) for unit in units]
            if _size_bytes(self._ahead) > AHEAD_LIMIT_BYTES:
                self._checkpoint(wait_milliseconds=0)
            return outcomes

    def _checkpoint(self, wait_milliseconds: int = 100) -> None:
        """Empties the write-ahead log, unless somebody goes on reading it or the disk has no room: then later."""
        self._writer.execute(f"PRAGMA busy_timeout = {wait_milliseconds}")
        with suppress(sqlite3.Error):
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._writer.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")

    def _run(self, unit: Unit) -> Outcome[Any]:
        self._writer.execute("SAVEPOINT unit")
        try:
            answer = unit(Rows(self._writer))
        except Exception as exc:
            if not self._writer.in_transaction:
                raise  # SQLite gave up all of it, as it does on a full disk: no unit of the group is stored
            self._writer.execute("ROLLBACK TO unit")
            self._writer.execute("RELEASE unit")
            return Outcome(error=_translate(exc, self._path) if isinstance(exc, sqlite3.Error) else exc)
        self._writer.execute("RELEASE unit")
        return Outcome(answer)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as exc:
            raise _translate(exc, self._path) from exc


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _connect(path: Path, *pragmas: str) -> sqlite3.Connection:
    """A connection without transactions of its own accord."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS)
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE}
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_UNREACHABLE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
}


def _translate(exc: Exception, path: Path) -> PlatformError:
    code = getattr(exc, "sqlite_errorcode", None)
    codes = set() if code is None else {code, code & 0xFF}
    if codes & _FULL or (isinstance(exc, OSError) and exc.errno in NO_SPACE):
        return PlatformError(
            ErrorCode.RESOURCE_EXHAUSTED,
            f"the database {path} could not be written: the disk is full or a quota is reached",
            "free some space; nothing of this change was stored, and what is deployed keeps running",
            internal=str(exc),
        )
    if codes & _CORRUPT:
        return PlatformError(
            ErrorCode.DATA_CORRUPT,
            f"{path} is damaged or is not a database",
            "move it aside and restore a backup; what is deployed keeps running",
            internal=str(exc),
        )
    if codes & _UNREACHABLE or isinstance(exc, OSError):
        return PlatformError(
            ErrorCode.UNAVAILABLE,
            f"the database {path} cannot be reached: {exc}",
            "look at its permissions, and whether another program holds it",
            internal=str(exc),
        )
    return PlatformError(ErrorCode.INTERNAL, f"the database {path} refused a statement", internal=str(exc))
