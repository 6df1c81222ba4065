"""Feature flags on the real platform: changed by tools and by hand, served without the daemon, and brought back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.local.platform import known_ports
from santiago_platform.adapters.process import processes_of
from santiago_platform.adapters.workspace.workspace import FileWorkspace
from santiago_platform.domain.environment import Addresses
from santiago_platform.testing.eventually import eventually
from santiago_platform.testing.running_platform import RunningPlatform, call

pytestmark = pytest.mark.e2e
RIGGED = Path(__file__).with_name("rigged_daemon.py")


def url(layout: Layout) -> str:
    ports = known_ports(layout)
    assert ports is not None
    return f"http://127.0.0.1:{ports.flags}/production/ofrep/v1/evaluate/flags"


def read(layout: Layout, key: str) -> Any:
    """What a client gets of a flag; None where nobody answers."""
    try:
        answer = httpx2.post(f"{url(layout)}/{key}", json={"context": {"targetingKey": "ann"}}, trust_env=False)
    except httpx2.TransportError:
        return None
    return answer.json().get("value", answer.json().get("reason", answer.json().get("errorCode")))


async def until(layout: Layout, key: str, expected: Any, seconds: float = 10) -> None:
    async def look() -> Any:
        return read(layout, key)

    await eventually(look, lambda seen: seen == expected, seconds)


def unit(platform: RunningPlatform, name: str) -> int:
    return next((u.pid for u in platform.platform.units() if u.name == name), 0)


def by_hand(platform: RunningPlatform, change: Callable[[dict[str, Any]], None]) -> None:
    file = platform.root / "flags.json"
    content = json.loads(file.read_text())
    change(content["flags"])
    file.write_text(json.dumps(content, indent=2))


async def test_a_flag_through_its_life(platform: RunningPlatform) -> None:
    assert unit(platform, "flags") == 0, "nothing runs for flags where there are none"
    async with platform.client() as client:

        async def change(action: str, **more: Any) -> dict[str, Any]:
            answer = await call(client, "configure_flag", {"action": action, "flag": "new", **more})
            (done,) = answer["changes"]
            assert (done["state"], done["proof"]["verdict"]) == ("succeeded", "MATCH"), done
            return answer

        await change("set", definition={"metadata": {"owner": "web"}})
        assert read(platform.layout, "new") is False
        await change("set", percent=100)
        assert read(platform.layout, "new") is True
        began = time.monotonic()
        await change("kill", environment="production", reason="it fails")
        assert time.monotonic() - began < 3
        assert read(platform.layout, "new") == "DISABLED"
        await change("restore", environment="production")
        assert read(platform.layout, "new") is True
        shown = await change("ramp", percent=0, minutes=60)
        assert "on to 100%" in shown["flags"][0]["serves"]
        await change("rollback")
        await change("rollback")
        history = await call(client, "configure_flag", {"action": "history", "flag": "new"})
        assert [c["what"].partition(" ")[0] for c in history["changes"]][:3] == ["rollback", "rollback", "ramp"]
        await change("delete")
        assert read(platform.layout, "new") == "FLAG_NOT_FOUND"
    assert platform.json("log", "verify")["intact"]


async def test_flags_go_on_without_the_daemon_and_what_is_edited_by_hand_counts(platform: RunningPlatform) -> None:
    platform.santiago("flag", "set", "lamp", "--default", "off")
    await until(platform.layout, "lamp", False)
    os.kill(unit(platform, "daemon"), signal.SIGKILL)
    by_hand(platform, lambda flags: flags["lamp"].update(defaultVariant="on"))
    await until(platform.layout, "lamp", True, seconds=1)
    by_hand(platform, lambda flags: flags["lamp"].update(defaultVariant="maybe"))
    health = url(platform.layout).replace("production/ofrep/v1/evaluate/flags", "healthz")

    async def problem() -> str:
        return str(httpx2.get(health, trust_env=False).json()["problem"])

    assert "there is no variant 'maybe'" in await eventually(problem)
    assert read(platform.layout, "lamp") is True
    await eventually(lambda: asyncio.to_thread(_warnings, platform), seconds=20)
    await eventually(lambda: asyncio.to_thread(platform.santiago, "flag", "list", check=False), _refused, seconds=20)
    os.kill(unit(platform, "flags"), signal.SIGKILL)
    await until(platform.layout, "lamp", True, seconds=15)
    by_hand(platform, lambda flags: flags["lamp"].update(defaultVariant="off"))
    await until(platform.layout, "lamp", False)


def _warnings(platform: RunningPlatform) -> list[str]:
    done = platform.santiago("status", "--json", check=False)
    return [said for said in json.loads(done.stdout or "{}").get("warnings", ()) if "flags go on as they were" in said]


def _refused(done: subprocess.CompletedProcess[str]) -> bool:
    """Once the daemon is back, it says the same."""
    return done.returncode == 1 and "there is no variant 'maybe'" in done.stderr


async def test_a_service_gets_the_address_by_a_resource(platform: RunningPlatform) -> None:
    platform.santiago("flag", "set", "greeting", "--default", "on")
    score = platform.root / "services" / "hello" / "score.yaml"
    before = score.read_text()
    score.write_text(
        before.replace("    variables:\n", "    variables:\n      FLAGS_URL: ${resources.flags.url}\n")
        + "\nresources:\n  flags:\n    type: flags\n"
    )
    platform.commit("It reads flags")
    done = platform.json("deploy", "hello", "--env", "production", "--wait")
    assert done["state"] == "succeeded", done
    (process, *_) = [p for p in processes_of(platform.layout.id) if "FLAGS_URL" in _environment(p.pid)]
    told = _environment(process.pid)["FLAGS_URL"]
    assert f"{told}/ofrep/v1/evaluate/flags" == url(platform.layout)


def _environment(pid: int) -> dict[str, str]:
    try:
        variables = Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0")
    except OSError:
        return {}
    return dict(variable.split("=", 1) for variable in variables if "=" in variable)


async def test_flags_come_back_after_a_cold_boot_and_out_of_a_backup(
    make_platform: Callable[..., RunningPlatform], tmp_path: Path
) -> None:
    with make_platform() as platform:
        platform.santiago("flag", "set", "kept", "--default", "on")
        before = url(platform.layout)
        while left := list(processes_of(platform.layout.id)):
            for process in left:
                process.send(signal.SIGKILL)
        (platform.root / "flags.json").write_text("a machine that went down in between")
        platform.santiago("up", "-d")
        await until(platform.layout, "kept", True)
        assert url(platform.layout) == before
        platform.santiago("backup", str(tmp_path / "backup.tar"))
        platform.santiago("restore", str(tmp_path / "backup.tar"), str(tmp_path / "restored"))
    restored = Layout.of(tmp_path / "restored")
    words = [sys.executable, "-m", "santiago_platform", "--workspace", str(restored.root)]
    try:
        subprocess.run([*words, "up", "-d"], check=True, capture_output=True, timeout=120)
        await until(restored, "kept", True)
    finally:
        subprocess.run([*words, "down"], check=True, capture_output=True, timeout=120)


async def test_a_writer_of_flags_that_says_done_and_does_nothing_is_found_out(
    make_platform: Callable[..., RunningPlatform],
) -> None:
    with make_platform(up=False) as platform:
        (platform.root / "flags.json").write_text('{"flags": {}}')
        platform.layout.state.joinpath("rigged").write_text("lie flags")
        platform.platform.up(_addresses(platform), (sys.executable, str(RIGGED), str(platform.root)), lambda _: None)
        done = await eventually(
            lambda: asyncio.to_thread(platform.santiago, "flag", "set", "new", "--json", check=False), _ended, 60
        )
    (lied,) = json.loads(done.stdout)["changes"]
    assert (lied["state"], lied["proof"]["verdict"], done.returncode) == ("failed", "DRIFT", 1)


def _ended(done: subprocess.CompletedProcess[str]) -> bool:
    return '"changes"' in done.stdout


def _addresses(platform: RunningPlatform) -> Addresses:
    return FileWorkspace(platform.root).settings().addresses
