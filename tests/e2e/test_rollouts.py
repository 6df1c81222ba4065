"""Rollouts on the real platform, through a real MCP client, while traffic flows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from mcp import Client

from santiago_platform.testing.load import Load
from santiago_platform.testing.running_platform import RunningPlatform, call

pytestmark = pytest.mark.e2e
WHERE = {"service": "hello", "environment": "production"}
HOST = "hello.production.localhost"


async def deploy(platform: RunningPlatform, mode: str = "auto", **arguments: Any) -> dict[str, Any]:
    async with platform.client(mode=mode) as client:
        asked = {**WHERE, "git_ref": "HEAD", "wait": True, "timeout_seconds": 90, **arguments}
        return await call(client, "deploy_service", asked)


@pytest.fixture
async def deployed(platform: RunningPlatform) -> str:
    """A good version is live; returns its name."""
    platform.set_version("good")
    return (await deploy(platform))["version"]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("strategy", ["blue_green", "rolling"])
async def test_a_new_version_takes_over_without_a_failed_request(
    platform: RunningPlatform, deployed: str, strategy: str, mode: str
) -> None:
    async with Load(platform.ingress_port, HOST) as tally:
        platform.set_version(f"{strategy}-{mode}")
        ended = await deploy(platform, mode, strategy=strategy)
    assert ended["state"] == "succeeded", ended
    assert ended["proof"]["verdict"] == "MATCH"
    assert ended["previous_version"] == deployed
    assert tally.failed == 0, tally.failures
    assert set(tally.versions) == {deployed, ended["version"]}


async def test_recreate_stops_the_old_version_before_the_new_one_starts(
    platform: RunningPlatform, deployed: str
) -> None:
    platform.set_version("recreated")
    ended = await deploy(platform, strategy="recreate")
    assert ended["state"] == "succeeded", ended
    async with Load(platform.ingress_port, HOST) as tally:
        async with platform.client() as client:
            shown = await call(client, "read_architecture", WHERE)
        versions = {v["version"]: v["instances"] for v in shown["services"][0]["versions"]}
    assert tally.failed == 0, tally.failures
    assert len(versions[ended["version"]]) == 2
    assert deployed not in versions


async def test_a_rollback_is_one_change_of_weights_and_fails_no_request(
    platform: RunningPlatform, deployed: str
) -> None:
    platform.set_version("second")
    second = await deploy(platform)
    async with Load(platform.ingress_port, HOST) as tally:
        back = await asyncio.to_thread(platform.json, "rollback", "hello", "--env", "production", "--wait")
    assert (back["state"], back["version"]) == ("succeeded", deployed)
    assert tally.failed == 0, tally.failures
    assert set(tally.versions) == {second["version"], deployed}


WELL = '"/healthz": (200, {"status": "ok"})'
BROKEN = {
    "it dies at start": ("import json\n", "import json\nraise SystemExit('no database')\n", "exited with code 1"),
    "it listens on the wrong port": ('int(os.environ["PORT"])', "0", "it listens on "),
    "it never becomes ready": (WELL, WELL.replace("200", "503"), "answered 503"),
}


@pytest.mark.parametrize("how", BROKEN)
async def test_a_broken_release_fails_with_the_reason_and_the_old_version_never_stops_serving(
    platform: RunningPlatform, deployed: str, how: str
) -> None:
    before, after, reason = BROKEN[how]
    server = "services/hello/server.py"
    good = (platform.root / server).read_text()
    platform.replace(server, before, after)
    platform.replace("santiago.yaml", "ready_timeout_seconds: 60", "ready_timeout_seconds: 4")
    platform.commit(how)
    try:
        async with Load(platform.ingress_port, HOST) as tally:
            ended = await deploy(platform)
    finally:
        (platform.root / server).write_text(good)
        platform.replace("santiago.yaml", "ready_timeout_seconds: 4", "ready_timeout_seconds: 60")
        platform.commit("mended")
    assert ended["state"] == "failed"
    assert reason in ended["reason"]
    if how == "it dies at start":
        assert any("no database" in line for line in ended["detail"])
    assert tally.failed == 0, tally.failures
    assert set(tally.versions) == {deployed}


async def test_a_build_that_fails_says_its_last_words(platform: RunningPlatform, deployed: str) -> None:
    build = platform.root / "services/hello/build.yaml"
    good = build.read_text()
    build.write_text('command: ["sh", "-c", "echo compiler says no; exit 7"]\n')
    platform.commit("a build that fails")
    ended = await deploy(platform)
    build.write_text(good)
    platform.commit("mended")
    assert ended["state"] == "failed"
    assert "compiler says no" in ended["reason"]


TWO_PORTS = {
    "services/hello/score.yaml": [
        ("containers:\n", "    admin:\n      port: 81\n      targetPort: 9090\ncontainers:\n"),
        ("        path: /healthz\n        port: 8080\n", "        path: /healthz\n        port: 9090\n"),
    ],
    "services/hello/server.py": [
        ('"/healthz": (200, {"status": "ok"}),', "**HEALTHZ.get(self.server.server_port, {}),"),
        (
            "    server = Server(",
            '    HEALTHZ[int(os.environ["PORT_ADMIN"])] = {"/healthz": (200, {"status": "ok"})}\n'
            '    admin = Server(("127.0.0.1", int(os.environ["PORT_ADMIN"])), Handler)\n'
            "    threading.Thread(target=admin.serve_forever, daemon=True).start()\n"
            "    server = Server(",
        ),
        ("stopping = threading.Event()\n", "stopping = threading.Event()\nHEALTHZ = {}\n"),
    ],
}


async def test_a_service_that_tells_its_health_on_a_port_of_its_own_is_asked_there(
    platform: RunningPlatform, deployed: str
) -> None:
    before = {path: (platform.root / path).read_text() for path in TWO_PORTS}
    for path, changes in TWO_PORTS.items():
        for old, new in changes:
            platform.replace(path, old, new)
    platform.commit("health on a port of its own")
    async with Load(platform.ingress_port, HOST) as tally:
        ended = await deploy(platform)
    for path, content in before.items():
        (platform.root / path).write_text(content)
    platform.commit("mended")
    assert ended["state"] == "succeeded", ended
    assert tally.failed == 0, tally.failures


async def test_a_held_version_gets_no_traffic_until_it_is_promoted(platform: RunningPlatform, deployed: str) -> None:
    platform.set_version("held")
    async with platform.client() as client, Load(platform.ingress_port, HOST) as tally:
        held = await call(client, "deploy_service", {**WHERE, "git_ref": "HEAD", "hold": True})
        status = {"action": "status", "operation": held["id"]}
        while (now := (await call(client, "manage_operation", status))["operations"][0])["phase"] != "holding":
            assert now["state"] == "running", now
        assert set(tally.versions) <= {deployed}
        await call(client, "manage_operation", {"action": "promote", "operation": held["id"]})
        wait = {"action": "wait", "operation": held["id"]}
        ended = (await call(client, "manage_operation", wait))["operations"][0]
    assert ended["state"] == "succeeded"
    assert tally.failed == 0, tally.failures


async def _has_traffic(client: Client, asked: dict[str, Any], version: str) -> bool:
    series = (await call(client, "query_metrics", asked))["series"]
    return any(s["last"] > 0 and s["labels"].get("version") == version for s in series)


async def test_metrics_and_logs_tell_of_the_traffic(platform: RunningPlatform, deployed: str) -> None:
    asked = {**WHERE, "signal": "traffic", "window_seconds": 0}
    async with Load(platform.ingress_port, HOST), platform.client() as client:
        async with asyncio.timeout(20):  # Envoys are scraped every two seconds
            while not await _has_traffic(client, asked, deployed):
                await asyncio.sleep(0.1)
        lines = (await call(client, "read_logs", {**WHERE, "version": deployed, "limit": 5}))["lines"]
    assert any('"path": "/"' in line["text"] for line in lines)


async def test_the_ships_log_holds_after_all_that(platform: RunningPlatform) -> None:
    verified = platform.json("log", "verify", "--anchor")
    assert verified["intact"]
    assert verified["anchored"]


async def test_a_service_is_scaled_up_and_down_without_a_failed_request(
    platform: RunningPlatform, deployed: str
) -> None:
    async with platform.client() as client, Load(platform.ingress_port, HOST) as tally:
        for replicas in (4, 1, 2):
            asked = {**WHERE, "replicas": replicas, "wait": True}
            scaled = await call(client, "scale_resources", asked)
            assert scaled["state"] == "succeeded", scaled
            assert f"instances hello/production {deployed} = {replicas} " in " ".join(scaled["proof"]["evidence"])
    assert tally.failed == 0, tally.failures


async def test_a_rollout_under_way_is_scaled_too(platform: RunningPlatform, deployed: str) -> None:
    platform.set_version("scaled while it is held")
    async with platform.client() as client, Load(platform.ingress_port, HOST) as tally:
        held = await call(client, "deploy_service", {**WHERE, "git_ref": "HEAD", "hold": True, "wait": True})
        scaled = await call(client, "scale_resources", {**WHERE, "replicas": 3})
        assert scaled["id"] == held["id"]
        await call(client, "manage_operation", {"action": "promote", "operation": held["id"]})
        wait = {"action": "wait", "operation": held["id"]}
        ended = (await call(client, "manage_operation", wait))["operations"][0]
        assert ended["state"] == "succeeded", ended
        assert f"instances hello/production {ended['version']} = 3 " in " ".join(ended["proof"]["evidence"])
        await call(client, "scale_resources", {**WHERE, "replicas": 2, "wait": True})
    assert tally.failed == 0, tally.failures
