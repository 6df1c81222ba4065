from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from santiago_platform.adapters.fake.clock import ManualClock
from santiago_platform.adapters.fake.ship_log import FakeShipLog
from santiago_platform.adapters.secrets.redactor import Redactor
from santiago_platform.adapters.ship_log.log_directory import verify_directory
from santiago_platform.adapters.ship_log.ship_log import FileShipLog
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.ship_log import Chain, Entry, EntryKind, Head, Verification, chain_hash, parse
from santiago_platform.testing.ship_log import ShipLogContract, completed, opened

DAY = "2026-01-01.jsonl"


class TestFakeShipLog(ShipLogContract):
    @pytest.fixture
    def log(self) -> FakeShipLog:
        return FakeShipLog(ManualClock())


class TestFileShipLog(ShipLogContract):
    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        return tmp_path / "ships-logs" / "platform"

    @pytest.fixture
    def keys(self, tmp_path: Path) -> Path:
        return tmp_path / "keys"

    @pytest.fixture
    async def log(self, directory: Path, keys: Path, clock: ManualClock) -> AsyncIterator[FileShipLog]:
        log = FileShipLog(directory, keys, clock)
        yield log
        await log.close()

    async def test_lines_lie_in_one_file_a_day_and_chain_across_them(
        self, log: FileShipLog, directory: Path, clock: ManualClock
    ) -> None:
        await log.append(opened(1))
        clock.advance(86_400)
        await log.append(opened(2))
        clock.advance(-86_400)
        await log.append(opened(3))
        files = {f.name: len(f.read_bytes().splitlines()) for f in directory.glob("*.jsonl")}
        assert files == {DAY: 1, "2026-01-02.jsonl": 2}, "a clock that is set back does not reopen a day"
        assert [getattr(await log.entry(seq), "seq", None) for seq in range(5)] == [None, 1, 2, 3, None]
        assert (await log.verify()).intact

    async def test_known_values_are_hidden_in_a_body_and_what_names_things_stays(
        self, directory: Path, keys: Path, clock: ManualClock
    ) -> None:
        log = FileShipLog(directory, keys, clock, hide=Redactor(["planted"]).hide)
        body = {"detail": ["a planted value"], "nested": {"reason": "planted"}}
        entry = await log.append(opened(1).model_copy(update={"body": body, "subject": "planted/production"}))
        assert entry.body == {"detail": ["a <redacted> value"], "nested": {"reason": "<redacted>"}}
        assert entry.subject == "planted/production"
        await log.close()

    async def test_it_goes_on_after_reopening(
        self, log: FileShipLog, directory: Path, keys: Path, clock: ManualClock
    ) -> None:
        first, second = await log.append(opened(1)), await log.append(opened(2))
        await log.append(completed(first))
        before = await log.head()
        await log.close()
        again = FileShipLog(directory, keys, clock)
        assert (await again.head(), await again.unfinished()) == (before, [second])
        assert (await again.append(completed(second))).seq == 4
        assert (await again.verify()).intact
        await again.close()

    async def test_its_files_and_its_key_are_private(self, log: FileShipLog, directory: Path, keys: Path) -> None:
        await log.append(opened())
        for file in (directory / DAY, directory / "head.json", keys / "ship-log.key", keys / "ship-log.lock"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(keys.stat().st_mode) == 0o700

    async def test_only_one_may_write(self, log: FileShipLog, directory: Path, keys: Path, clock: ManualClock) -> None:
        with pytest.raises(PlatformError, match="another process") as caught:
            FileShipLog(directory, keys, clock)
        assert caught.value.code is ErrorCode.CONFLICT

    async def test_a_closed_log_refuses(self, log: FileShipLog) -> None:
        await log.close()
        for call in (log.append(opened()), log.head(), log.unfinished()):
            with pytest.raises(PlatformError) as caught:
                await call
            assert caught.value.code is ErrorCode.UNAVAILABLE

    async def test_a_torn_last_line_is_cut_off_at_the_start_and_noted(
        self, log: FileShipLog, directory: Path, keys: Path, clock: ManualClock
    ) -> None:
        entry = await log.append(opened())
        await log.close()
        with (directory / DAY).open("ab") as file:
            file.write(b'{"action":"deploy_ser')
        assert verify_directory(directory).intact, "what was never answered is no flaw"
        clock.advance(86_400)
        again = FileShipLog(directory, keys, clock)
        note = lines(directory / "2026-01-02.jsonl")[-1]
        assert (note.kind, note.action, note.prev) == (EntryKind.NOTED, "mend_log", entry.hash)
        assert note.body == {"file": DAY, "cut_bytes": 21, "cut": '{"action":"deploy_ser'}
        assert (await again.verify()).intact
        await again.close()

    @pytest.mark.parametrize(
        ("tamper", "where", "problem"),
        [
            (lambda at: [*at[:2], at[2].replace(b"op-3", b"op-9"), *at[3:]], f"{DAY}:3", "entry 3 was changed"),
            (lambda at: [*at[:2], at[2].replace(b":", b": ", 1), *at[3:]], f"{DAY}:3", "entry 3 was changed"),
            (lambda at: [*at[:2], rehashed(at[2]), *at[3:]], f"{DAY}:4", "entry 4 does not continue entry 3"),
            (lambda at: [*at[:2], *at[3:]], f"{DAY}:3", "entry 4 follows entry 2: lines were removed"),
            (lambda at: at[1:], f"{DAY}:1", "entry 2 follows entry 0: lines were removed"),
            (lambda at: [*at[:3], at[1], *at[3:]], f"{DAY}:4", "entry 2 follows entry 3: lines were inserted"),
            (lambda at: [at[0], at[2], at[1], *at[3:]], f"{DAY}:2", "entry 3 follows entry 1: lines were removed"),
            (lambda at: [*at[:2], b"{}", *at[2:]], f"{DAY}:3", "not an entry"),
            (lambda at: [*at[:2], b"", *at[2:]], f"{DAY}:3", "not an entry"),
            (lambda at: at[:-1], "head.json", "entry 5, which is not there: the log was cut"),
            (lambda at: [*at[:-1], rehashed(at[-1])], "head.json", "entry 5 by another hash"),
            (lambda at: [], "head.json", "entry 5, which is not there: the log was cut"),
        ],
    )
    async def test_tampering_is_named_online_and_offline_and_stays_named(
        self,
        log: FileShipLog,
        directory: Path,
        keys: Path,
        clock: ManualClock,
        tamper: Callable[[list[bytes]], list[bytes]],
        where: str,
        problem: str,
    ) -> None:
        for number in range(1, 6):
            await log.append(opened(number))
        file = directory / DAY
        file.write_bytes(b"".join(line + b"\n" for line in tamper(file.read_bytes().splitlines())))
        for found in (await log.verify(), verify_directory(directory)):
            assert named(found, where, problem)
        await log.close()
        again = FileShipLog(directory, keys, clock)
        assert (await again.append(opened(6))).seq >= 6
        assert not (await again.verify()).intact
        await again.close()
        assert not verify_directory(directory).intact

    async def test_a_head_of_another_key_is_named(
        self, log: FileShipLog, directory: Path, tmp_path: Path, clock: ManualClock
    ) -> None:
        await log.append(opened())
        shutil.copytree(directory, tmp_path / "copy")
        forger = FileShipLog(tmp_path / "copy", tmp_path / "other-keys", clock)
        await forger.close()
        shutil.copy(tmp_path / "copy" / "head.json", directory)
        assert named(await log.verify(), "head.json", "signed by another key")

    async def test_a_false_signature_or_a_missing_head_is_named(self, log: FileShipLog, directory: Path) -> None:
        await log.append(opened())
        head = directory / "head.json"
        signed = Head.model_validate_json(head.read_bytes())
        head.write_text(signed.model_copy(update={"signature": "00" * 64}).model_dump_json())
        assert named(await log.verify(), "head.json", "its signature of entry 1 does not hold")
        head.unlink()
        assert named(await log.verify(), "head.json", "missing")

    async def test_a_lost_head_is_signed_anew_at_the_start_and_that_is_noted(
        self, log: FileShipLog, directory: Path, keys: Path, clock: ManualClock
    ) -> None:
        await log.append(opened())
        await log.close()
        (directory / "head.json").write_bytes(b"")
        again = FileShipLog(directory, keys, clock)
        assert lines(directory / DAY)[-1].action == "mend_head"
        assert (await again.verify()).intact
        await again.close()

    async def test_entries_that_somebody_appended_without_the_key_are_noted_at_the_start(
        self, log: FileShipLog, directory: Path, keys: Path, clock: ManualClock
    ) -> None:
        entry = await log.append(opened(1))
        await log.close()
        forged = Chain(entry.seq, entry.hash).append(opened(2), clock.now())[1]
        with (directory / DAY).open("ab") as file:
            file.write(forged + b"\n")
        again = FileShipLog(directory, keys, clock)
        note = lines(directory / DAY)[-1]
        assert note.body == {"problem": "entries follow the signed head", "signed": 1, "last": 2}
        assert (await again.verify()).intact
        await again.close()

    async def test_a_rewritten_end_stays_named_although_lines_follow_it(
        self, log: FileShipLog, directory: Path, keys: Path, clock: ManualClock
    ) -> None:
        await log.append(opened(1))
        await log.close()
        forged, content = Chain(), b""
        for number in (7, 8, 9):
            content += forged.append(opened(number), clock.now())[1] + b"\n"
        (directory / DAY).write_bytes(content)
        again = FileShipLog(directory, keys, clock)
        await again.append(opened(2))
        assert named(await again.verify(), f"{DAY}:4", "entry 4 does not continue entry 3")
        await again.close()

    async def test_a_file_that_git_put_in_its_place_is_what_is_appended_to(
        self, log: FileShipLog, directory: Path
    ) -> None:
        await log.append(opened(1))
        file, copy = directory / DAY, directory / "copy"
        shutil.copy(file, copy)
        copy.replace(file)
        await log.append(opened(2))
        shutil.rmtree(directory)
        await log.append(opened(3))
        assert [e.operation for e in lines(file)] == ["op-3"]
        assert named(await log.verify(), f"{DAY}:1", "entry 3 follows entry 0: lines were removed")

    async def test_on_a_full_disk_appends_are_refused_and_the_chain_goes_on_when_there_is_space(
        self, directory: Path, keys: Path, clock: ManualClock
    ) -> None:
        disk = Disk(free_bytes=5_000)
        log = FileShipLog(directory, keys, clock, write=disk.write)
        kept: list[Entry] = []

        async def fill() -> None:
            while True:
                kept.append(await log.append(opened(len(kept))))

        with pytest.raises(PlatformError) as caught:
            await fill()
        assert caught.value.code is ErrorCode.RESOURCE_EXHAUSTED
        assert lines(directory / DAY) == kept, "the half-written line is cut off"
        assert (await log.verify()).intact
        assert await log.unfinished() == kept
        disk.free_bytes = 50_000
        assert (await log.append(opened())).prev == kept[-1].hash
        assert (await log.verify()).intact
        await log.close()

    async def test_short_writes_are_written_to_the_end(self, directory: Path, keys: Path, clock: ManualClock) -> None:
        log = FileShipLog(directory, keys, clock, write=lambda file, data: os.write(file, data[:7]))
        await asyncio.gather(*(log.append(opened(n)) for n in range(10)))
        found = await log.verify()
        assert (found.entries, found.intact) == (10, True)
        await log.close()

    async def test_it_starts_on_a_full_disk_and_notes_the_repair_once_there_is_space(
        self, log: FileShipLog, directory: Path, keys: Path, clock: ManualClock
    ) -> None:
        entry = await log.append(opened())
        await log.close()
        with (directory / DAY).open("ab") as file:
            file.write(b"torn")
        disk = Disk(free_bytes=0)
        again = FileShipLog(directory, keys, clock, write=disk.write)
        assert await again.unfinished() == [entry]
        disk.free_bytes = 50_000
        await again.append(completed(entry))
        assert [e.action for e in lines(directory / DAY)] == ["deploy_service", "mend_log", "deploy_service"]
        assert (await again.verify()).intact
        await again.close()

    def test_a_real_limit_of_file_size_is_a_full_disk(self, directory: Path, keys: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-c", LIMITED, str(directory), str(keys)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout.split()) == (0, ["resource_exhausted", "True"]), done.stderr

    def test_after_kill_9_all_that_was_answered_is_there_and_the_log_verifies(
        self, directory: Path, keys: Path
    ) -> None:
        answered: list[str] = []
        for _ in range(3):
            answered += kill_after([str(directory), str(keys)], 200)
            found = verify_directory(directory)
            assert found.flaws == ()
        written = {e.seq: e.hash for f in sorted(directory.glob("*.jsonl")) for e in lines(f)}
        assert len(answered) >= 600
        for seq, hash in (line.split() for line in answered):
            assert written[int(seq)] == hash

    async def test_a_log_in_a_directory_that_is_not_there_is_not_found(self, tmp_path: Path) -> None:
        with pytest.raises(PlatformError) as caught:
            verify_directory(tmp_path / "nowhere")
        assert caught.value.code is ErrorCode.NOT_FOUND

    async def test_a_key_that_others_may_read_is_refused(
        self, log: FileShipLog, directory: Path, keys: Path, clock: ManualClock
    ) -> None:
        await log.close()
        (keys / "ship-log.key").chmod(0o644)
        with pytest.raises(PlatformError, match="read by others") as caught:
            FileShipLog(directory, keys, clock)
        assert caught.value.code is ErrorCode.FAILED_PRECONDITION

    def test_a_key_that_is_none_is_data_corrupt(self, directory: Path, keys: Path, clock: ManualClock) -> None:
        keys.mkdir()
        (keys / "ship-log.key").write_text("no key")
        (keys / "ship-log.key").chmod(0o600)
        with pytest.raises(PlatformError) as caught:
            FileShipLog(directory, keys, clock)
        assert caught.value.code is ErrorCode.DATA_CORRUPT


class Disk:
    """Takes as many bytes as are free, in short writes, then none."""

    def __init__(self, free_bytes: int) -> None:
        self.free_bytes = free_bytes

    def write(self, file: int, data: memoryview) -> int:
        if self.free_bytes == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = os.write(file, data[: min(self.free_bytes, 100)])
        self.free_bytes -= written
        return written


def lines(file: Path) -> list[Entry]:
    found = [parse(line) for line in file.read_bytes().splitlines()]
    assert None not in found
    return [entry for entry in found if entry is not None]


def named(found: Verification, where: str, problem: str) -> bool:
    return any(flaw.where == where and problem in flaw.problem for flaw in found.flaws)


def rehashed(line: bytes) -> bytes:
    """The line with another subject and a hash that fits it."""
    fields = json.loads(line) | {"subject": "other/production"}
    fields["hash"] = chain_hash(fields)
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from santiago_platform.adapters.ship_log.ship_log import FileShipLog
from santiago_platform.adapters.system import SystemClock
from santiago_platform.domain.errors import PlatformError
from santiago_platform.testing.ship_log import opened

async def main():
    log = FileShipLog(Path(sys.argv[1]), Path(sys.argv[2]), SystemClock())
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
    try:
        for number in range(100):
            await log.append(opened(number))
    except PlatformError as exc:
        print(exc.code)
    print((await log.verify()).intact)
    await log.close()

asyncio.run(main())
"""

ENDLESS_WRITER = """
import asyncio, sys
from pathlib import Path
from santiago_platform.adapters.ship_log.ship_log import FileShipLog
from santiago_platform.adapters.system import SystemClock
from santiago_platform.testing.ship_log import opened

async def main():
    log = FileShipLog(Path(sys.argv[1]), Path(sys.argv[2]), SystemClock())

    async def writer():
        while True:
            entry = await log.append(opened())
            print(entry.seq, entry.hash, flush=True)

    await asyncio.gather(*(writer() for _ in range(20)))

asyncio.run(main())
"""


def kill_after(arguments: list[str], count: int) -> list[str]:
    """Runs a writer that prints what was answered, kills it after `count` lines, and returns all whole ones."""
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS_WRITER, *arguments], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        try:
            seen = [writer.stdout.readline() for _ in range(count)]
        finally:
            os.kill(writer.pid, signal.SIGKILL)
        seen += writer.stdout.readlines()
    assert all(seen[:count]), "the writer ended by itself"
    return [line.strip() for line in seen if line.endswith("\n")]
