from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from santiago_platform.adapters.fake.observability import FakeLogs
from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.local import binaries
from santiago_platform.adapters.local.logs import FileLogs
from santiago_platform.adapters.secrets.redactor import Redactor
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.signal import LogLine
from santiago_platform.ports.logs import LogFilter, LogPage
from santiago_platform.testing.logs import LogsContract, Written


class TestFakeLogs(LogsContract):
    @pytest.fixture
    def logs(self) -> FakeLogs:
        return FakeLogs()

    @pytest.fixture
    def write(self, logs: FakeLogs) -> Callable[[list[Written]], None]:
        def write(lines: list[Written]) -> None:
            for at, instance, level, text in lines:
                service, environment, version, *_ = instance.split("__")
                job, of_job, *_ = (*version.split("."), "") if "." in version else ("", version)
                logs.lines.append(
                    LogLine(
                        at=at,
                        instance=instance,
                        service=service,
                        environment=environment,
                        version=of_job,
                        job=job,
                        level=level,
                        text=text,
                    )
                )

        return write


class TestFileLogs(LogsContract):
    """Each unit has three files, as after two rotations."""

    @pytest.fixture
    def logs(self, tmp_path: Path) -> FileLogs:
        return FileLogs(Layout.of(tmp_path))

    @pytest.fixture
    def write(self, tmp_path: Path) -> Callable[[list[Written]], None]:
        def write(lines: list[Written]) -> None:
            for at, instance, _, text in lines:
                directory = Layout.of(tmp_path).logs / instance
                directory.mkdir(parents=True, exist_ok=True)
                current = directory / "current"
                stamp = f"@{(1 << 62) + int(at) + 37:016x}{0:08x}"
                if current.exists() and len(current.read_bytes().splitlines()) >= 15:
                    current.rename(directory / f"{stamp}.s")
                with current.open("a") as file:
                    file.write(f"{stamp} {text}\n")

        return write


UNIT = "web__production__a1__0"


class TestRealLogger:
    """What a real s6-log writes."""

    @pytest.fixture
    def say(self, tmp_path: Path, binary: Callable[[str], Path]) -> Callable[[bytes], None]:
        """Gives bytes to the logger of a unit; returns when they are on disk."""
        logger = binary("s6-log")
        found = binaries.find("s6-log")
        directory = Layout.of(tmp_path).logs / UNIT
        libraries = {"LD_LIBRARY_PATH": str(found.libraries)} if found and found.libraries else {}

        def say(text: bytes) -> None:
            directory.mkdir(parents=True, exist_ok=True)
            command = [logger, "-l", "65536", "t", "n20", "s100000", str(directory)]
            subprocess.run(command, input=text, env={**os.environ, **libraries}, check=True, timeout=20)

        return say

    async def read(self, tmp_path: Path, **wanted: object) -> list[LogLine]:
        page = await FileLogs(Layout.of(tmp_path)).read(LogFilter.model_validate({"limit": 5000, **wanted}))
        return list(page.lines)

    async def test_its_time_is_the_time_of_the_clock(self, tmp_path: Path, say: Callable[[bytes], None]) -> None:
        before = time.time()
        say(b"now\n")
        (line,) = await self.read(tmp_path)
        assert before - 0.1 <= line.at <= time.time() + 0.1
        assert await self.read(tmp_path, since=before - 0.1) == [line]
        assert await self.read(tmp_path, until=before - 0.1) == []

    async def test_rotated_files_are_read_to_the_first_line_and_equal_times_lose_nothing(
        self, tmp_path: Path, say: Callable[[bytes], None]
    ) -> None:
        say(b"".join(b"line %d %s\n" % (n, b"." * 60) for n in range(4000)))
        assert len(list((Layout.of(tmp_path).logs / UNIT).glob("@*.s"))) > 1
        assert [int(line.text.split()[1]) for line in await self.read(tmp_path)] == list(range(3999, -1, -1))

    async def test_junk_is_shown_escaped_and_a_line_of_megabytes_is_cut_and_marked(
        self, tmp_path: Path, say: Callable[[bytes], None]
    ) -> None:
        say(b"bin\xff\xfe \x1b[31mred\n" + b"x" * 2_000_000 + b"\nlast\n")
        lines = await self.read(tmp_path)
        assert lines[0].text == "last"
        assert lines[-1].text == r"bin\xff\xfe \x1b[31mred"
        assert all(len(line.text) <= 65536 for line in lines)
        assert lines[-2].truncated
        assert not lines[-1].truncated

    async def test_secrets_are_redacted_and_cannot_be_searched_for(
        self, tmp_path: Path, say: Callable[[bytes], None]
    ) -> None:
        secret = "ghp_" + "a1B2c3D4e5" * 3 + "F6g7h8"
        say(f"token {secret} used\npassword=hunter2secret99\n".encode())
        text = "\n".join(line.text for line in await self.read(tmp_path))
        assert secret not in text
        assert "hunter2secret99" not in text
        assert "used" in text
        assert await self.read(tmp_path, text=secret[:12]) == []

    async def test_known_values_are_hidden_wherever_they_stand_and_cannot_be_searched_for(
        self, tmp_path: Path, say: Callable[[bytes], None]
    ) -> None:
        say(b"it said planted-value twice: planted-value\n")
        logs = FileLogs(Layout.of(tmp_path), Redactor(["planted-value"]).hide)
        (line,) = (await logs.read(LogFilter(limit=10))).lines
        assert line.text == "it said <redacted> twice: <redacted>"
        assert (await logs.read(LogFilter(limit=10, text="planted"))).lines == ()

    @pytest.mark.parametrize("shown", [1, 7, 12])
    async def test_a_value_that_a_line_is_cut_in_is_hidden_on_both_sides(
        self, tmp_path: Path, say: Callable[[bytes], None], shown: int
    ) -> None:
        value = "planted-value"
        first, second = "x" * (65536 - 2 * shown), "y" * 70_000
        say(f"{'x' * (65536 - shown)}{value} and more\n{first} plain {second}\n".encode())
        logs = FileLogs(Layout.of(tmp_path), Redactor([value]).hide)
        lines: list[str] = []
        page = await logs.read(LogFilter(limit=1))
        while page.lines:
            lines[:0] = [page.lines[0].text]
            page = await logs.read(LogFilter(limit=1, before=page.cursor)) if page.cursor else LogPage(lines=())
        assert lines[0] == "x" * (65536 - shown) + "<redacted>"
        assert lines[1] == "<redacted> and more"
        assert "".join(lines[2:]) == f"{first} plain {second}"

    @pytest.mark.parametrize(
        ("text", "level"),
        [
            ('{"level": "warn", "msg": "x"}', "warning"),
            ('{"severity": "ERROR"}', "error"),
            ('{"level": 50}', "error"),
            ('{"level": ', ""),
            ("[1, 2]", ""),
            ("ERROR: it broke", "error"),
            ("INFO:     127.0.0.1 - GET /", "info"),
            ("2026-01-01 12:00:00,123 WARNING slow", "warning"),
            ("2026-01-01T12:00:00Z [fatal] gone", "critical"),
            ("level=debug msg=x", "debug"),
            ("Information about errors", ""),
            ("no error here", ""),
        ],
    )
    async def test_a_level_is_what_the_line_says_of_itself(
        self, tmp_path: Path, say: Callable[[bytes], None], text: str, level: str
    ) -> None:
        say(text.encode() + b"\n")
        assert [line.level for line in await self.read(tmp_path)] == [level]

    @pytest.mark.parametrize("instance", ["../../../etc", "/etc/passwd", "web__production__a1__0/..", "", "a\x00b"])
    async def test_an_instance_that_could_be_a_path_is_refused(self, tmp_path: Path, instance: str) -> None:
        with pytest.raises(PlatformError) as caught:
            await self.read(tmp_path, instance=instance)
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT

    async def test_a_workspace_without_logs_has_no_lines(self, tmp_path: Path) -> None:
        assert await self.read(tmp_path) == []

    async def test_what_is_not_of_an_instance_is_not_read(self, tmp_path: Path, say: Callable[[bytes], None]) -> None:
        say(b"mine\n")
        logs = Layout.of(tmp_path).logs
        (logs / "envoy-a").mkdir()
        (logs / "envoy-a" / "current").write_bytes((logs / UNIT / "current").read_bytes())
        (logs / "web__production__a1__1").symlink_to(logs / UNIT)
        (logs / "web__production__a1__2").write_text("a file")
        assert [line.text for line in await self.read(tmp_path)] == ["mine"]

    async def test_pages_go_on_where_they_ended_although_the_files_were_rotated_meanwhile(
        self, tmp_path: Path, say: Callable[[bytes], None]
    ) -> None:
        say(b"".join(b"old %d\n" % n for n in range(20)))
        logs = FileLogs(Layout.of(tmp_path))
        first = await logs.read(LogFilter(limit=5))
        say(b"".join(b"new %d %s\n" % (n, b"." * 100) for n in range(3000)))
        second = await logs.read(LogFilter(limit=100, before=first.cursor))
        assert [line.text for line in second.lines] == [f"old {n}" for n in range(14, -1, -1)]


def at(seconds: float) -> str:
    return f"@{(1 << 62) + 1_800_000_000 + int(seconds) + 37:016x}{int(seconds % 1 * 1e9):08x}"


class TestFilesAsTheyMayBe:
    """Files written by hand: odd ones, long ones, and ones that change while they are read."""

    @pytest.fixture
    def unit(self, tmp_path: Path) -> Path:
        directory = Layout.of(tmp_path).logs / UNIT
        directory.mkdir(parents=True)
        return directory

    @pytest.fixture
    def logs(self, tmp_path: Path) -> FileLogs:
        return FileLogs(Layout.of(tmp_path))

    @staticmethod
    async def all(logs: FileLogs, **wanted: object) -> list[str]:
        """Of all pages."""
        texts: list[str] = []
        cursor: str | None = None
        while True:
            page = await logs.read(LogFilter.model_validate({"limit": 500, **wanted, "before": cursor}))
            texts += [line.text for line in page.lines]
            cursor = page.cursor
            if cursor is None:
                return texts

    @pytest.mark.parametrize("wanted", [{}, {"text": "ERE"}, {"regex": "^here"}, {"level": ""}, {"since": 1.8e9}])
    async def test_a_line_of_10_megabytes_and_junk_lose_none_of_the_others(
        self, unit: Path, logs: FileLogs, wanted: dict[str, object]
    ) -> None:
        rng = random.Random(1)
        parts = [
            f"{at(1)} here 1\n".encode(),
            f"{at(2)} here ".encode() + b"x" * 10_000_000 + b"\n",
            f"{at(3)} here 3\n".encode(),
            rng.randbytes(300_000).replace(b"@", b"") + b"\n",
            b"\0" * 3_000_000 + b"\n\n\n",
            f"{at(4)} here 4\n".encode(),
            b"@40000000\n",
            f"{at(5)}\n".encode(),
            f"{at(6)} here 6 unfinished".encode(),
        ]
        (unit / "current").write_bytes(b"".join(parts))
        texts = await self.all(logs, **wanted)
        assert [text[:6] for text in texts if text] == ["here 6", "here 4", "here 3", "here x", "here 1"]
        assert max(map(len, texts)) <= 65536

    @pytest.mark.parametrize("seconds", [0, 1, 2_000, 19_998.5, 19_999, 30_000])
    async def test_a_time_is_found_by_bisection_in_a_large_file(
        self, unit: Path, logs: FileLogs, seconds: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (unit / "current").write_text("".join(f"{at(n)} {n} {'x' * (n % 300)}\n" for n in range(20_000)))
        got: list[int] = []
        real = os.preadv
        monkeypatch.setattr(os, "preadv", lambda *a: got.append(real(*a)) or got[-1])
        page = await logs.read(LogFilter(until=1_800_000_000 + seconds, limit=3))
        last = min(int(seconds), 19_999)
        assert [int(line.text.split()[0]) for line in page.lines] == [n for n in range(last, last - 3, -1) if n >= 0]
        assert sum(got) < 100_000

    async def test_a_file_that_is_cut_or_removed_while_it_is_read_loses_none_of_the_others(
        self, unit: Path, logs: FileLogs
    ) -> None:
        for n in range(4):
            name = "current" if n == 3 else f"{at(10_000 * (n + 1))}.s"
            lines = [f"{at(10_000 * n + i)} file {n} {'x' * 80}\n" for i in range(9_000)]
            (unit / name).write_text("".join(lines))
        first = await logs.read(LogFilter(limit=10))
        os.truncate(unit / "current", 500)
        (unit / f"{at(20_000)}.s").unlink()
        os.truncate(unit / f"{at(30_000)}.s", 0)
        texts = await self.all(logs)
        assert len(first.lines) == 10
        assert len([text for text in texts if text.startswith("file 0")]) == 9_000
        assert {text[:6] for text in texts} == {"file 0", "file 3"}

    async def test_writing_and_rotating_meanwhile_loses_and_doubles_nothing(self, unit: Path, logs: FileLogs) -> None:
        done = threading.Event()

        def write() -> None:
            n = 0
            while not done.is_set() and n < 200_000:
                with (unit / "current").open("a") as file:
                    for _ in range(50):
                        file.write(f"{at(n)} line {n}\n")
                        n += 1
                if n % 500 == 0:
                    (unit / "current").rename(unit / "previous")
                    (unit / "previous").rename(unit / f"{at(n)}.s")

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(40):
                numbers = [int(line.text.split()[1]) for line in (await logs.read(LogFilter(limit=700))).lines]
                assert numbers == list(range(numbers[0], numbers[-1] - 1, -1)) if numbers else True
        finally:
            done.set()
            writer.join()

    async def test_a_search_that_takes_too_long_stops_at_a_cursor_and_goes_on_there(
        self, unit: Path, tmp_path: Path
    ) -> None:
        """With no time at all each page looks through one part."""
        for n in range(6):
            lines = [f"{at(10_000 * n + i)} {'needle' if i % 4500 == 7 else 'x' * 200}\n" for i in range(9_000)]
            (unit / (f"{at(10_000 * (n + 1))}.s" if n < 5 else "current")).write_text("".join(lines))
        logs = FileLogs(Layout.of(tmp_path), search_seconds=0.0)
        pages = [await logs.read(LogFilter(text="Needle"))]
        while pages[-1].cursor is not None:
            pages.append(await logs.read(LogFilter(text="Needle", before=pages[-1].cursor)))
        assert len(pages) > 2
        assert pages[0].partial
        assert not pages[-1].partial
        assert len([line for page in pages for line in page.lines]) == 12

    async def test_a_search_that_nobody_waits_for_ends(self, unit: Path, tmp_path: Path) -> None:
        (unit / "current").write_text("".join(f"{at(n)} {'x' * 200}\n" for n in range(50_000)))
        logs = FileLogs(Layout.of(tmp_path), search_seconds=60)
        tasks = [asyncio.create_task(logs.read(LogFilter(text=f"nothing {n}"))) for n in range(200)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(5):
            assert len((await logs.read(LogFilter(limit=1))).lines) == 1

    async def test_an_expression_made_to_hang_others_takes_no_time(self, unit: Path, logs: FileLogs) -> None:
        (unit / "current").write_text("".join(f"{at(n)} {'a' * 20_000}!\n" for n in range(50)))
        async with asyncio.timeout(10):
            assert (await logs.read(LogFilter(regex="^(a+)+$"))).lines == ()
            assert (await logs.read(LogFilter(regex="(a|aa)+b"))).lines == ()

    @pytest.mark.parametrize(
        "wanted",
        [
            {"regex": r"key: (h.*|<redacted>)"},
            {"regex": r"key: \b"},
            {"regex": r"key: [^x]"},
            {"regex": "(?s)key: .+"},
            {"text": "key: <"},
            {"text": "redacted"},
            {"text": "hunter"},
            {"ids": ("hunter2value",)},
        ],
    )
    async def test_no_search_tells_what_is_hidden(self, unit: Path, tmp_path: Path, wanted: dict[str, object]) -> None:
        """Two lines that differ in what is hidden alone are both found, or neither."""
        secrets = ["hunter2value", "-redacted-", "(other one)"]
        (unit / "current").write_text("".join(f"{at(n)} key: {secret}\n" for n, secret in enumerate(secrets)))
        logs = FileLogs(Layout.of(tmp_path), Redactor(secrets).hide)
        assert len(await self.all(logs)) == 3
        assert len(await self.all(logs, **wanted)) in (0, 3)

    async def test_what_stands_beside_the_hidden_is_found(self, unit: Path, tmp_path: Path) -> None:
        (unit / "current").write_text(f"{at(1)} begin planted-value end\n")
        logs = FileLogs(Layout.of(tmp_path), Redactor(["planted-value"]).hide)
        for regex in (r"^begin", r"end$", r"\bend\b", r"n $|x", r"be[g]in "):
            assert len(await self.all(logs, regex=regex)) == (regex != r"n $|x"), regex

    async def test_the_ingress_s_lines_count_as_their_service_s(self, unit: Path, logs: FileLogs) -> None:
        id = "9f8e7d6c-0001-4a5b-8c9d-000000000001"
        (unit / "current").write_text(f"{at(1)} request_id={id} served\n")
        envoy = unit.parent / "envoy-a"
        envoy.mkdir()
        access = {"service": "web", "environment": "production", "version": "a1", "status": 200, "request_id": id}
        (envoy / "current").write_text(
            f"{at(2)} {json.dumps(access)}\n{at(3)} {json.dumps({**access, 'service': 'other'})}\n{at(4)} [info] {id}\n"
        )
        page = await logs.read(LogFilter(ids=(id,), access=True, services=("web",)))
        assert [(line.instance, line.service, line.version) for line in page.lines] == [
            ("envoy-a", "web", "a1"),
            (UNIT, "web", "a1"),
        ]
        assert await self.all(logs, ids=(id,)) == [f"request_id={id} served"]
        assert len(await self.all(logs, instance="envoy-a")) == 2


def test_many_former_versions_do_not_use_up_the_files_that_a_process_may_open(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path)
    for nth in range(300):
        directory = layout.logs / f"web__production__{nth:012x}__0"
        directory.mkdir(parents=True)
        stamp = f"@{(1 << 62) + 1_800_000_000 + nth + 37:016x}{0:08x}"
        (directory / "current").write_text(f"{stamp} line {nth}\n")
    script = (
        "import asyncio, resource, sys\n"
        "from santiago_platform.adapters.layout import Layout\n"
        "from santiago_platform.adapters.local.logs import FileLogs\n"
        "from santiago_platform.ports.logs import LogFilter\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "page = asyncio.run(FileLogs(Layout.of(sys.argv[1])).read(LogFilter(limit=300)))\n"
        "print(len(page.lines), page.lines[0].text, page.lines[-1].text)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stdout == "300 line 299 line 0\n", done.stderr
