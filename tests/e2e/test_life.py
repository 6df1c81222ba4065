"""The machine's life: a cold boot, a backup and its restoring, another version of the platform, a disk that fills."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.local.disk import LocalDisk
from santiago_platform.adapters.local.platform import LocalPlatform
from santiago_platform.adapters.process import processes_of
from santiago_platform.adapters.workspace.workspace import FileWorkspace
from santiago_platform.domain.environment import Retention
from santiago_platform.domain.errors import PlatformError
from santiago_platform.testing.lifeline import Lifeline
from santiago_platform.testing.load import Load
from santiago_platform.testing.running_platform import RunningPlatform

pytestmark = pytest.mark.e2e
HOST = "hello.production.localhost"
DEPLOY = ("deploy", "hello", "--env", "production")
ROOT = Path(__file__).parents[2]
Make = Callable[..., RunningPlatform]


def pull_the_plug(layout: Layout) -> None:
    """What a machine loses that is switched off: every process, and what lies in /tmp."""
    while left := list(processes_of(layout.id)):
        for process in left:
            process.send(signal.SIGKILL)
    shutil.rmtree(layout.runtime)


def live(platform: RunningPlatform) -> str:
    (service,) = platform.json("status")["architecture"]["services"]
    version: str = service["live"]
    return version


def answered(platform: RunningPlatform, count: int = 20) -> set[str]:
    """The versions that answer, once one does; from then on a request that fails is no answer."""

    async def ask() -> set[str]:
        async with asyncio.timeout(20), httpx2.AsyncClient(trust_env=False) as client:
            # A platform is ready before the services that it brings back are.
            address = f"http://127.0.0.1:{platform.ingress_port}/"
            while (await client.get(address, headers={"host": HOST})).status_code != 200:
                await asyncio.sleep(0.05)
        async with Load(platform.ingress_port, HOST) as tally, asyncio.timeout(20):
            while sum(tally.versions.values()) < count:
                await asyncio.sleep(0.01)
        assert tally.failed == 0, tally.failures
        return set(tally.versions)

    return asyncio.run(ask())


def settled(platform: RunningPlatform) -> dict[str, Any]:
    """The newest operation at its end, or where it is held for a person."""
    arguments = {"action": "wait", "service": "hello", "environment": "production", "timeout_seconds": 60}
    operation: dict[str, Any] = tool(platform, "manage_operation", **arguments)["operations"][0]
    return operation


def tool(platform: RunningPlatform, name: str, **arguments: Any) -> Any:
    answer = httpx2.post(
        f"{platform.url}/api/tools/{name}",
        json=arguments,
        headers={"authorization": f"Bearer {platform.token}"},
        timeout=90,
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


# --- a cold boot


def test_after_a_cold_boot_every_service_and_what_it_kept_comes_back(make_platform: Make) -> None:
    with make_platform() as platform:
        version = platform.json(*DEPLOY, "--wait")["version"]
        home = next((platform.layout.state / "home").iterdir())
        (home / "kept").write_text("state of a service")
        pull_the_plug(platform.layout)
        platform.santiago("up", "-d")
        assert live(platform) == version
        assert answered(platform) == {version}
        assert (home / "kept").read_text() == "state of a service"
        assert platform.json("log", "verify")["intact"]


def test_a_rollout_that_was_held_when_the_machine_went_down_goes_on(make_platform: Make) -> None:
    with make_platform() as platform:
        old = platform.json(*DEPLOY, "--wait")["version"]
        platform.set_version("2")
        held = hold(platform)
        pull_the_plug(platform.layout)
        platform.santiago("up", "-d")
        assert settled(platform)["id"] == held
        assert answered(platform) == {old}
        promoted = promote(platform, held)
        assert (promoted["state"], promoted["proof"]["verdict"]) == ("succeeded", "MATCH")
        assert answered(platform) == {promoted["version"]} != {old}
        assert platform.json("log", "verify")["intact"]


async def test_an_up_that_systemd_follows_may_be_killed_and_the_next_takes_over(make_platform: Make) -> None:
    with make_platform(up=False) as platform:
        words = [sys.executable, "-m", "santiago_platform", "--workspace", str(platform.root), "up"]
        first = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
        await until_it_follows(first)
        await asyncio.to_thread(platform.santiago, *DEPLOY, "--wait")
        async with Load(platform.ingress_port, HOST) as tally:
            units, services = platform.platform.units(), instances(platform)
            first.kill()
            await first.wait()
            second = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
            await until_it_follows(second)
            assert (platform.platform.units(), instances(platform)) == (units, services)
        assert tally.failed == 0, tally.failures
        second.terminate()
        await second.communicate()
        assert list(processes_of(platform.layout.id)) == []


async def until_it_follows(up: asyncio.subprocess.Process) -> None:
    assert up.stdout is not None
    async with asyncio.timeout(30):
        while b"mcpServers" not in (line := await up.stdout.readline()):
            assert line, "it has ended"


# --- what nothing uses


def test_tidying_a_running_platform_takes_nothing_that_it_uses(make_platform: Make) -> None:
    with make_platform() as platform:
        for version in ("1", "2"):
            platform.set_version(version)
            live_version = platform.json(*DEPLOY, "--wait")["version"]
        stale = platform.layout.binaries / ("0" * 16)
        stale.mkdir()
        disk = LocalDisk(platform.layout, now=lambda: time.time() + 7200)
        # No release is named, as if all were removed: what runs is still in use.
        removed = asyncio.run(disk.tidy(Retention(), set()))
        assert removed == [f"bin/{stale.name} (0 bytes)"]
        assert answered(platform) == {live_version}
        pull_the_plug(platform.layout)
        platform.santiago("up", "-d")
        assert live(platform) == live_version
        assert answered(platform) == {live_version}


# --- a backup


def test_a_backup_of_a_running_platform_is_a_whole_workspace_elsewhere(
    make_platform: Make, lifeline: Lifeline, tmp_path: Path
) -> None:
    with make_platform() as platform:
        version = platform.json(*DEPLOY, "--wait")["version"]
        made = platform.json("backup", str(tmp_path / "harbour.tar"))
        assert made["changed"] == []
        assert (tmp_path / "harbour.tar").stat().st_mode & 0o777 == 0o600
        told = platform.json("restore", str(tmp_path / "harbour.tar"), str(tmp_path / "elsewhere"))
        assert told["ship_log"]["intact"]
        assert set(told["moved"]) == {"server_port", "ingress_port"}, "the original still has its own"
        with restored(lifeline, tmp_path / "elsewhere", told["addresses"]) as other:
            other.santiago("up", "-d")
            assert live(other) == version
            assert answered(other) == {version} == answered(platform)
            assert other.json("log", "verify")["intact"]
            log = "".join(path.read_text() for path in other.layout.ship_log.glob("*.jsonl"))
            assert str(platform.layout.root) in log
            assert '"restored"' in log
            other.set_version("2")
            again = other.json(*DEPLOY, "--wait")
            assert (again["state"], again["previous_version"]) == ("succeeded", version)
            assert live(platform) == version
            assert other.layout.state.stat().st_mode & 0o077 == 0


class restored(RunningPlatform):  # noqa: N801 - reads as what it does: `with restored(...)`
    """A workspace that is there already."""

    def __init__(self, lifeline: Lifeline, root: Path, addresses: dict[str, int]) -> None:
        self._lifeline, self.root, self._up = lifeline, root, False
        self.layout = Layout.of(root)
        self.server_port, self.ingress_port = addresses["server_port"], addresses["ingress_port"]


# --- another version of the platform


@pytest.fixture(scope="module")
def other_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of the last tag, else of the last commit."""
    place = tmp_path_factory.mktemp("other-version")
    git = ["git", "-C", str(ROOT)]
    tag = subprocess.run([*git, "describe", "--tags", "--abbrev=0"], capture_output=True, text=True, check=False)
    archive = subprocess.run([*git, "archive", tag.stdout.strip() or "HEAD", "src"], capture_output=True, check=False)
    if archive.returncode != 0:
        pytest.skip("this is no git repository")
    subprocess.run(["tar", "-x", "-C", str(place)], input=archive.stdout, check=True)
    return place / "src"


def start_daemon(platform: RunningPlatform, *words: str) -> None:
    """`santiago up` where the daemon's command is another one, as after an upgrade."""
    command = (*words, sys.executable, "-m", "santiago_platform.entrypoints.daemon", str(platform.layout.root))
    platform.platform.up(FileWorkspace(platform.root).settings().addresses, command, lambda _: None)


def daemon_pid(platform: RunningPlatform) -> int:
    return next(u.pid for u in platform.platform.units() if u.name == "daemon")


def other_units(platform: RunningPlatform) -> dict[str, int]:
    return {u.name: u.pid for u in platform.platform.units() if u.name != "daemon"}


async def replaced(platform: RunningPlatform, before: int) -> None:
    """Waits for a daemon other than PID `before` that answers."""
    async with asyncio.timeout(30):
        while daemon_pid(platform) in (0, before) or not await asyncio.to_thread(ready, platform):
            await asyncio.sleep(0.02)


def ready(platform: RunningPlatform) -> bool:
    try:
        return httpx2.get(f"{platform.url}/readyz", trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


async def test_an_upgrade_in_mid_rollout_goes_on_where_the_version_before_was_and_fails_no_request(
    make_platform: Make, other_version: Path
) -> None:
    with make_platform(up=False) as platform:
        await asyncio.to_thread(start_daemon, platform, "env", f"PYTHONPATH={other_version}")
        await replaced(platform, before=0)
        old = (await asyncio.to_thread(platform.json, *DEPLOY, "--wait"))["version"]
        platform.set_version("2")
        async with Load(platform.ingress_port, HOST) as tally:
            held = await asyncio.to_thread(hold, platform)
            before = daemon_pid(platform)
            await asyncio.to_thread(platform.santiago, "up", "-d")
            await replaced(platform, before)
            assert (await asyncio.to_thread(settled, platform))["id"] == held
            assert set(tally.versions) == {old}
            ended = await asyncio.to_thread(promote, platform, held)
        assert (ended["state"], ended["proof"]["verdict"]) == ("succeeded", "MATCH"), ended
        assert tally.failed == 0, tally.failures
        assert tally.versions[ended["version"]] > 0
        assert platform.json("log", "verify")["intact"]


async def test_an_upgrade_that_is_taken_back_in_mid_rollout_disturbs_nothing_that_runs(
    make_platform: Make, other_version: Path
) -> None:
    """The version before goes on with the rollout; or it says which rows it does not know, and touches nothing."""
    with make_platform() as platform:
        await asyncio.to_thread(platform.santiago, *DEPLOY, "--wait")
        platform.set_version("2")
        async with Load(platform.ingress_port, HOST) as tally:
            held = await asyncio.to_thread(hold, platform)
            before, log = daemon_pid(platform), platform.layout.logs / "daemon" / "current"
            services, others = instances(platform), other_units(platform)
            await asyncio.to_thread(start_daemon, platform, "env", f"PYTHONPATH={other_version}")
            async with asyncio.timeout(30):
                while "does not know" not in log.read_text():
                    if daemon_pid(platform) not in (0, before) and await asyncio.to_thread(ready, platform):
                        assert (await asyncio.to_thread(settled, platform))["id"] == held
                        break
                    await asyncio.sleep(0.02)
            assert (instances(platform), other_units(platform)) == (services, others), "the daemon alone is replaced"
            before = daemon_pid(platform)
            await asyncio.to_thread(platform.santiago, "up", "-d")
            await replaced(platform, before)
            ended = await asyncio.to_thread(promote, platform, held)
        assert (ended["state"], ended["proof"]["verdict"]) == ("succeeded", "MATCH"), ended
        assert tally.failed == 0, tally.failures
        assert platform.json("log", "verify")["intact"]


def hold(platform: RunningPlatform) -> str:
    """Deploys and waits until it is held for a person. Returns the operation."""
    platform.santiago(*DEPLOY, "--hold")
    operation = settled(platform)
    assert operation["phase"] == "holding", operation
    return str(operation["id"])


def promote(platform: RunningPlatform, operation: str) -> dict[str, Any]:
    tool(platform, "manage_operation", action="promote", operation=operation)
    return settled(platform)


def instances(platform: RunningPlatform) -> dict[str, int]:
    supervisor = platform.platform.supervisor
    found = {name: supervisor.status(name).process for name in supervisor.names() if "__" in name}
    return {name: process.pid for name, process in found.items() if process is not None}


def test_rows_of_a_newer_version_are_refused_in_words_and_what_runs_goes_on(make_platform: Make) -> None:
    with make_platform() as platform:
        version = platform.json(*DEPLOY, "--wait")["version"]
        with sqlite3.connect(platform.layout.database) as rows:
            known = rows.execute("PRAGMA user_version").fetchone()[0]
            rows.execute(f"PRAGMA user_version = {known + 1}")
        start_daemon(platform, "env", "AGAIN=1")
        with pytest.raises(
            PlatformError, match=f"schema version {known + 1}; this version of the platform knows {known}"
        ):
            LocalPlatform(platform.layout).wait_ready(lambda: False, timeout_seconds=4)
        assert answered(platform) == {version}
        with sqlite3.connect(platform.layout.database) as rows:
            rows.execute(f"PRAGMA user_version = {known}")
        platform.santiago("up", "-d")
        assert live(platform) == version


# --- a disk that fills


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400m,mode=0700", "santiago-test", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("this user may not mount")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_disk_that_fills_warns_then_stops_changes_and_takes_them_again_when_there_is_space(
    make_platform: Make, small_disk: Path
) -> None:
    with make_platform(parent=small_disk, up=False) as platform:
        with (platform.root / "santiago.yaml").open("a") as settings:
            settings.write(f"\ndisk: {{warn_bytes: {100 << 20}, stop_bytes: {50 << 20}}}\n")
        platform.santiago("up", "-d")
        version = platform.json(*DEPLOY, "--wait")["version"]
        assert platform.json("status")["disk"]["level"] == "enough"

        fill(small_disk, leave=80 << 20)
        shown = platform.json("status")
        assert shown["disk"]["level"] == "low"
        assert "the disk is nearly full" in shown["warnings"][0]
        assert platform.json(*DEPLOY, "--wait")["state"] == "succeeded"

        fill(small_disk, leave=30 << 20)
        log = sorted(platform.layout.ship_log.glob("*.jsonl"))
        before = [path.read_bytes().count(b'"opened"') for path in log]
        refused = platform.json(*DEPLOY, check=False)["error"]
        assert refused["code"] == "resource_exhausted"
        assert "free some space" in refused["hint"]
        assert [path.read_bytes().count(b'"opened"') for path in log] == before, "nothing was written"
        assert answered(platform) == {version}
        assert live(platform) == version
        assert "too full for changes" in platform.json("status")["problems"][0]
        platform.santiago("up", "-d")  # it is up all the same

        (small_disk / "filler").unlink()
        assert platform.json(*DEPLOY, "--wait")["state"] == "succeeded"
        assert platform.json("status")["problems"] == []


def fill(disk: Path, leave: int) -> None:
    filler = disk / "filler"
    with filler.open("ab") as file:
        while (free := shutil.disk_usage(disk).free) > leave:
            file.write(os.urandom(min(1 << 20, free - leave + 4096)))
            file.flush()
