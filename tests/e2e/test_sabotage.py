"""Canaries on the real platform whose writer of routes leaves something out: found out, and taken back.

What is left out in memory is in tests/unit/reconcilers/test_sabotage.py, for every change that there is.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from santiago_platform.adapters.workspace.workspace import FileWorkspace
from santiago_platform.testing.running_platform import RunningPlatform, call

pytestmark = pytest.mark.e2e
RIGGED = Path(__file__).with_name("rigged_daemon.py")
CANARY = """\
      replicas: 1
      canary:
        steps: [{weight: 0, pause_seconds: 1}, {weight: 20, pause_seconds: 1}]
        visitors: [{header: {x-beta: "1"}}]
        sticky: true
        mirror_percent: 50
        bucket_seconds: 1
"""
# A service for each, of that name: what the Envoys do instead of what the daemon says, as they themselves say it.
LIES = {
    "weights": "weights=50.0%",
    "visitors": "sticky; retries stay with their version; copies of 50%",
    "sticky": 'if header x-beta is "1"; retries stay with their version; copies',
    "mirror": "sticky; retries stay with their version",
    "retries": "sticky; copies of 50%",
}


def answers(platform: RunningPlatform) -> bool:
    try:
        return httpx2.get(f"{platform.url}/readyz", trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


def prepare(platform: RunningPlatform) -> None:
    """Services that differ by name alone, and a daemon that lies about five of them."""
    platform.replace("santiago.yaml", "      replicas: 2\n", CANARY)
    hello = platform.root / "services/hello"
    for name in LIES:
        shutil.copytree(hello, hello.with_name(name))
        platform.replace(f"services/{name}/score.yaml", "name: hello", f"name: {name}")
    platform.commit("Services")
    platform.layout.state.joinpath("rigged").write_text("withhold routes")
    addresses = FileWorkspace(platform.root).settings().addresses
    platform.platform.up(addresses, (sys.executable, str(RIGGED), str(platform.root)), lambda _: None)
    platform.platform.wait_ready(lambda: answers(platform))


async def test_what_a_writer_of_routes_leaves_out_of_a_canary_is_found_out_and_the_canary_taken_back(
    make_platform: Callable[..., RunningPlatform],
) -> None:
    with make_platform(up=False) as platform:
        await asyncio.to_thread(prepare, platform)

        async def deploy(service: str, **how: Any) -> dict[str, Any]:
            asked = {"service": service, "environment": "production", "git_ref": "HEAD", "wait": True, **how}
            async with platform.client() as client:
                return await call(client, "deploy_service", {**asked, "timeout_seconds": 90})

        services = ("hello", *LIES)
        for first in await asyncio.gather(*map(deploy, services)):
            assert first["state"] == "succeeded", first
        for service in services:
            platform.set_version("2", service)
        honest, *lied = await asyncio.gather(*(deploy(service, strategy="canary") for service in services))
        assert (honest["state"], honest["proof"]["verdict"]) == ("succeeded", "MATCH"), honest
        for (name, saw), ended in zip(LIES.items(), lied, strict=True):
            assert (ended["state"], ended["proof"]["verdict"]) == ("rolled_back", "DRIFT"), ended
            said = [line for line in ended["proof"]["evidence"] if line.startswith("DRIFT")]
            assert len(said) == 2, "both Envoys say so"
            assert all(saw.replace("weights", ended["version"]) in line for line in said), (name, said)
            asked = {"service": name, "environment": "production"}
            async with platform.client() as client:
                shown = (await call(client, "read_architecture", asked))["services"][0]
            assert {v["version"] for v in shown["versions"] if v["traffic_percent"]} == {ended["previous_version"]}
