from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from santiago_platform.adapters.fake.store import FakeStore
from santiago_platform.adapters.stores import schema
from santiago_platform.adapters.stores.sqlite import SqliteStore
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.phase import Phase
from santiago_platform.testing.eventually import eventually
from santiago_platform.testing.rows import next_of, operation, rollout
from santiago_platform.testing.store import StoreContract
from santiago_platform.testing.store_alert import AlertRowsContract
from santiago_platform.testing.store_incidents import IncidentRowsContract
from santiago_platform.testing.store_mail import MailRowsContract


class TestFakeStore(StoreContract, MailRowsContract, IncidentRowsContract, AlertRowsContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[FakeStore]:
        store = FakeStore()
        yield store
        await store.close()


class TestSqliteStore(StoreContract, MailRowsContract, IncidentRowsContract, AlertRowsContract):
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "state" / "platform.db"

    @pytest.fixture
    async def store(self, path: Path) -> AsyncIterator[SqliteStore]:
        store = SqliteStore(path)
        yield store
        await store.close()

    async def test_what_200_writers_were_answered_is_there_after_reopening(
        self, store: SqliteStore, path: Path
    ) -> None:
        await asyncio.gather(*(store.write(lambda tx, n=n: tx.save_operation(operation(n))) for n in range(200)))
        await store.close()
        again = SqliteStore(path)
        found = await again.read(lambda v: v.operations(limit=1000))
        await again.close()
        assert [o.id for o in found] == [f"op-{n}" for n in reversed(range(200))]

    async def test_what_was_submitted_before_the_close_is_still_written(self, store: SqliteStore, path: Path) -> None:
        writing = [asyncio.create_task(store.write(lambda tx, n=n: tx.save_operation(operation(n)))) for n in range(50)]
        await asyncio.sleep(0)
        await store.close()
        await asyncio.gather(*writing)
        again = SqliteStore(path)
        assert len(await again.read(lambda v: v.operations(limit=100))) == 50
        await again.close()

    async def test_a_caller_that_is_cancelled_does_not_harm_the_others(self, store: SqliteStore) -> None:
        writing = [asyncio.create_task(store.write(lambda tx, n=n: tx.save_operation(operation(n)))) for n in range(50)]
        await asyncio.sleep(0)
        for task in writing[::2]:
            task.cancel()
        outcomes = await asyncio.gather(*writing, return_exceptions=True)
        assert all(outcome is None for outcome in outcomes[1::2])
        stored = {o.id for o in await store.read(lambda v: v.operations(limit=100))}
        assert stored >= {f"op-{n}" for n in range(1, 50, 2)}

    async def test_all_its_files_are_private(self, store: SqliteStore, path: Path) -> None:
        await store.write(lambda tx: tx.save_operation(operation()))
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        assert modes == {"platform.db": 0o600, "platform.db-wal": 0o600, "platform.db-shm": 0o600}
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    async def test_a_read_cannot_write(self, store: SqliteStore) -> None:
        with pytest.raises(PlatformError):
            await store.read(lambda view: view.save_operation(operation()))  # type: ignore[attr-defined]
        assert await store.read(lambda v: v.operations()) == []

    async def test_the_database_itself_holds_one_active_rollout(self, store: SqliteStore, path: Path) -> None:
        await store.write(lambda tx: tx.add_rollout(rollout()))
        columns = "operation_id, service, environment, active, epoch, document"
        with sqlite3.connect(path) as raw, pytest.raises(sqlite3.IntegrityError):
            raw.execute(f"INSERT INTO rollout (id, {columns}) SELECT 'ro-2', {columns} FROM rollout")

    async def test_a_value_that_json_cannot_hold_is_refused_and_the_next_one_stored(self, store: SqliteStore) -> None:
        with pytest.raises(PlatformError) as caught:
            await store.write(lambda tx: tx.save_operation(operation(request={"text": "\ud800"})))
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT
        await store.write(lambda tx: tx.save_operation(operation()))

    async def test_a_row_of_a_newer_version_is_a_clear_error_and_not_lost(self, store: SqliteStore, path: Path) -> None:
        await store.write(lambda tx: tx.save_operation(operation()))
        with sqlite3.connect(path) as raw:
            raw.execute("UPDATE operation SET document = json_set(document, '$.invented', 1)")
        with pytest.raises(PlatformError, match="invented") as caught:
            await store.read(lambda v: v.operation("op-1"))
        assert caught.value.code is ErrorCode.FAILED_PRECONDITION
        assert "newer version" in caught.value.hint

    async def test_a_row_without_fields_that_were_added_later_is_read_with_their_defaults(
        self, store: SqliteStore, path: Path
    ) -> None:
        await store.write(lambda tx: tx.save_operation(operation()))
        with sqlite3.connect(path) as raw:
            raw.execute("UPDATE operation SET document = json_remove(document, '$.detail', '$.logged')")
        assert await store.read(lambda v: v.operation("op-1")) == operation()

    async def test_a_damaged_row_is_data_corrupt(self, store: SqliteStore, path: Path) -> None:
        await store.write(lambda tx: tx.save_operation(operation()))
        with sqlite3.connect(path) as raw:
            raw.execute("UPDATE operation SET document = substr(document, 1, 20)")
        with pytest.raises(PlatformError) as caught:
            await store.read(lambda v: v.operation("op-1"))
        assert caught.value.code is ErrorCode.DATA_CORRUPT

    def test_a_file_that_is_no_database_is_data_corrupt_and_left_as_it_is(self, path: Path) -> None:
        path.parent.mkdir()
        path.write_bytes(b"no database at all " * 100)
        with pytest.raises(PlatformError) as caught:
            SqliteStore(path)
        assert caught.value.code is ErrorCode.DATA_CORRUPT
        assert "backup" in caught.value.hint
        assert path.read_bytes() == b"no database at all " * 100

    async def test_a_database_of_a_newer_version_is_refused(self, store: SqliteStore, path: Path) -> None:
        await store.close()
        with sqlite3.connect(path) as raw:
            raw.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")
        with pytest.raises(PlatformError, match="schema version") as caught:
            SqliteStore(path)
        assert caught.value.code is ErrorCode.FAILED_PRECONDITION

    async def test_an_older_database_is_brought_forward_with_its_rows(
        self, store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await store.write(lambda tx: tx.save_operation(operation()))
        await store.close()
        added = ("ALTER TABLE operation ADD COLUMN cost INTEGER NOT NULL DEFAULT 0",)
        monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, added))
        again = SqliteStore(path)
        assert await again.read(lambda v: v.operation("op-1")) == operation()
        await again.close()
        with sqlite3.connect(path) as raw:
            assert raw.execute("SELECT cost FROM operation").fetchall() == [(0,)]
            assert raw.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)

    async def test_a_migration_that_fails_leaves_the_database_as_it_was(
        self, store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await store.write(lambda tx: tx.save_operation(operation()))
        await store.close()
        broken = ("ALTER TABLE operation ADD COLUMN cost INTEGER", "ALTER TABLE missing ADD COLUMN cost INTEGER")
        with monkeypatch.context() as patch:
            patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, broken))
            with pytest.raises(PlatformError):
                SqliteStore(path)
        again = SqliteStore(path)
        assert await again.read(lambda v: v.operation("op-1")) == operation()
        await again.close()

    async def test_a_full_disk_refuses_writes_and_reads_go_on(self, path: Path) -> None:
        limited = run(path, FULL_DISK)
        assert limited.returncode == 0, limited.stderr
        words = limited.stdout.split()
        assert words[0] == "resource_exhausted"
        assert words[1:] == ["ok", "op-1"], "what was stored before is read, and nothing of the refused unit"
        again = SqliteStore(path)
        await again.write(lambda tx: tx.save_operation(operation(2)))
        assert [o.id for o in await again.read(lambda v: v.operations())] == ["op-2", "op-1"]
        await again.close()

    async def test_after_kill_9_all_that_was_answered_is_there(self, path: Path) -> None:
        answered = kill_after(path, ENDLESS_WRITER, lines=150)
        again = SqliteStore(path)
        stored = {o.id: o for o in await again.read(lambda v: v.operations(limit=100_000))}
        assert answered <= stored.keys()
        for id in stored:
            found = await again.read(lambda v, id=id: v.rollout_of(id))
            assert found is not None, "all of a unit is there or nothing"
            assert found.phase is Phase.SUCCEEDED
        await again.write(lambda tx: tx.add_rollout(rollout(0)))
        await again.write(lambda tx: tx.save_rollout(next_of(rollout(0), Phase.SUCCEEDED)))
        await again.close()

    async def test_a_write_ahead_log_that_is_cut_off_anywhere_leaves_a_whole_beginning_of_what_was_answered(
        self, path: Path
    ) -> None:
        kill_after(path, ENDLESS_WRITER, lines=150)
        ahead = path.with_name(f"{path.name}-wal")
        content, database = ahead.read_bytes(), path.read_bytes()
        assert len(content) > 100_000
        before = 0
        for part in range(1, 11):
            path.write_bytes(database)
            ahead.write_bytes(content[: len(content) * part // 10 - 7])
            again = SqliteStore(path)
            numbers = await again.read(lambda v: sorted(int(o.id[3:]) for o in v.operations(limit=100_000)))
            for number in numbers:
                found = await again.read(lambda v, n=number: v.rollout_of(f"op-{n}"))
                assert found is not None, "all of a unit is there or nothing"
            await again.close()
            assert numbers == list(range(1, len(numbers) + 1))
            assert len(numbers) >= before
            before = len(numbers)
        assert before > 0

    async def test_what_was_written_before_a_rest_is_in_the_database_itself(
        self, store: SqliteStore, path: Path
    ) -> None:
        ahead = path.with_name(f"{path.name}-wal")
        await store.write(lambda tx: tx.save_operation(operation(1)))
        assert ahead.stat().st_size > 0

        async def size_bytes() -> int:
            return ahead.stat().st_size

        assert await eventually(size_bytes, lambda size: size == 0) == 0
        assert b"op-1" in path.read_bytes()


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from santiago_platform.adapters.stores.sqlite import SqliteStore
from santiago_platform.domain.errors import PlatformError
from santiago_platform.testing.rows import operation

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.write(lambda tx: tx.save_operation(operation(1)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    big = {"text": "x" * 400_000}
    try:
        await store.write(lambda tx: tx.save_operation(operation(2, request=big)))
    except PlatformError as exc:
        print(exc.code)
    print("ok", *[o.id for o in await store.read(lambda v: v.operations())])
    await store.close()

asyncio.run(main())
"""

ENDLESS_WRITER = """
import asyncio, itertools, sys
from pathlib import Path
from santiago_platform.adapters.stores.sqlite import SqliteStore
from santiago_platform.domain.phase import Phase
from santiago_platform.testing.rows import next_of, operation, rollout

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    numbers = itertools.count(1)

    async def writer():
        for n in numbers:
            def unit(tx):
                tx.save_operation(operation(n))
                tx.add_rollout(rollout(n))
                tx.save_rollout(next_of(rollout(n), Phase.SUCCEEDED))
            await store.write(unit)
            print(f"op-{n}", flush=True)

    await asyncio.gather(*(writer() for _ in range(20)))

asyncio.run(main())
"""


def run(path: Path, program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60, check=False
    )


def kill_after(path: Path, program: str, lines: int) -> set[str]:
    """Runs a program that prints what was answered, kills it after `lines` of them, and returns all whole lines."""
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        try:
            seen = [writer.stdout.readline() for _ in range(lines)]
        finally:
            os.kill(writer.pid, signal.SIGKILL)
        seen += writer.stdout.readlines()
    assert len(seen) >= lines
    assert all(seen[:lines]), "the writer ended by itself"
    return {line.strip() for line in seen if line.endswith("\n")}
