"""Two workspaces on one machine: neither sees, stops or answers for the other."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from santiago_platform.adapters.process import processes_at_home, processes_of
from santiago_platform.testing.load import Load
from santiago_platform.testing.running_platform import RunningPlatform

pytestmark = pytest.mark.e2e
HOST = "hello.production.localhost"
Make = Callable[..., RunningPlatform]


async def test_no_response_ever_crosses_between_two_workspaces_and_the_end_of_one_leaves_the_other(
    make_platform: Make,
) -> None:
    with make_platform() as left, make_platform() as right:
        versions = {}
        for name, platform in (("left", left), ("right", right)):
            platform.set_version(name)
            versions[name] = platform.json("deploy", "hello", "--env", "production", "--wait")["version"]
        assert versions["left"] != versions["right"]
        async with Load(left.ingress_port, HOST) as to_left, Load(right.ingress_port, HOST) as to_right:
            left.set_version("left again")
            deploy = ("deploy", "hello", "--env", "production", "--wait")
            again = (await asyncio.to_thread(left.json, *deploy))["version"]
        assert set(to_left.versions) <= {versions["left"], again}
        assert set(to_right.versions) == {versions["right"]}
        assert (to_left.failed, to_right.failed) == (0, 0), (to_left.failures, to_right.failures)

        bystander = left.platform.supervisor.running
        async with Load(right.ingress_port, HOST) as to_right:
            await asyncio.to_thread(left.santiago, "down")
        assert bystander is not None
        assert not bystander.alive
        assert list(processes_of(left.layout.id)) == []
        assert to_right.failed == 0, to_right.failures
        assert to_right.sent > 0


def test_a_port_of_another_workspace_is_refused_by_its_name_and_nothing_is_started(make_platform: Make) -> None:
    with make_platform() as first, make_platform(up=False) as second:
        second.replace("santiago.yaml", f"ingress_port: {second.ingress_port}", f"ingress_port: {first.ingress_port}")
        refused = second.santiago("up", "-d", check=False)
        assert refused.returncode == 1
        assert f"port {first.ingress_port} belongs to the workspace {first.layout.root}" in refused.stderr
        assert list(processes_of(second.layout.id)) == []
        assert first.json("status")["problems"] == []


def test_what_ran_comes_back_after_down_and_up(make_platform: Make) -> None:
    with make_platform() as platform:
        platform.santiago("deploy", "hello", "--env", "production", "--wait")
        before = platform.json("status")
        platform.santiago("down")
        assert list(processes_of(platform.layout.id)) == []
        platform.santiago("up", "-d")
        after = platform.json("status")
    live = [s["live"] for s in before["architecture"]["services"]]
    assert [s["live"] for s in after["architecture"]["services"]] == live
    assert {u["pid"] for u in before["units"]}.isdisjoint({u["pid"] for u in after["units"]})


def test_up_is_idempotent_and_touches_nothing_that_runs(make_platform: Make) -> None:
    with make_platform() as platform:
        before = platform.json("status")["units"]
        platform.santiago("up", "-d")
        assert platform.json("status")["units"] == before


def test_state_and_secrets_are_private(make_platform: Make) -> None:
    with make_platform() as platform:
        state = platform.layout.state
        assert state.stat().st_mode & 0o077 == 0
        assert platform.layout.runtime.stat().st_mode & 0o077 == 0
        for secret in (platform.layout.owner_token, platform.layout.database, *platform.layout.keys.glob("*.key")):
            assert secret.stat().st_mode & 0o077 == 0, secret
            assert secret.stat().st_uid == os.getuid()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_in_the_foreground_follows_the_daemon_and_an_interrupt_takes_all_down(
    make_platform: Make, number: signal.Signals
) -> None:
    with make_platform(up=False) as platform:
        words = [sys.executable, "-m", "santiago_platform", "--workspace", str(platform.root), "up"]
        up = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert up.stdout is not None
        while "mcpServers" not in up.stdout.readline():
            assert up.poll() is None
        assert list(processes_of(platform.layout.id))
        up.send_signal(number)
        up.communicate(timeout=60)
        assert list(processes_of(platform.layout.id)) == []


def test_a_build_does_not_outlive_a_daemon_that_was_killed(make_platform: Make) -> None:
    with make_platform() as platform:
        (platform.root / "services/hello/build.yaml").write_text('command: ["sh", "-c", "setsid sleep 600"]\n')
        platform.commit("a build that takes long")
        platform.santiago("deploy", "hello", "--env", "production")
        deadline = time.monotonic() + 20
        while not (building := list(processes_at_home(platform.layout.builds))):
            assert time.monotonic() < deadline
        platform.platform.supervisor.control("daemon", "-k")
        while any(process.alive for process in building):
            assert time.monotonic() < deadline
