"""A release with a base image: deployed under load, killed, taken back, and pushed to a registry."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from santiago_platform.adapters.process import processes_of
from santiago_platform.testing.base_image import fetch_podman, write_base_image, write_service
from santiago_platform.testing.eventually import eventually
from santiago_platform.testing.lifeline import Lifeline
from santiago_platform.testing.load import Load
from santiago_platform.testing.registry import RunningRegistry
from santiago_platform.testing.running_platform import RunningPlatform, call

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers run where the platform is root"),
]
HOST = "web.production.localhost"
DEPLOY = ("deploy", "web", "--env", "production", "--wait")


@pytest.fixture
def platform(lifeline: Lifeline) -> Iterator[RunningPlatform]:
    fetch_podman()
    made = RunningPlatform(lifeline)
    write_base_image(made.root / "base")
    with (made.root / ".gitignore").open("a") as ignored:
        ignored.write("/base\n")
    publish(made, "1")
    with made:
        yield made
    assert str(made.root) not in Path("/proc/self/mountinfo").read_text()


def publish(platform: RunningPlatform, version: str) -> None:
    write_service(platform.root)
    (platform.root / "services/web/index.html").write_text(f"version {version}\n")
    platform.set_version(version, "web")


def page(platform: RunningPlatform) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{platform.ingress_port}/index.html", headers={"host": HOST})
    with urllib.request.urlopen(request, timeout=5) as response:
        return response.read().decode().strip()


async def test_images_are_deployed_under_load_survive_kills_and_are_taken_back(platform: RunningPlatform) -> None:
    first = await asyncio.to_thread(platform.json, *DEPLOY)
    assert (first["state"], first["proof"]["verdict"]) == ("succeeded", "MATCH"), first
    assert await asyncio.to_thread(page, platform) == "version 1"
    async with Load(platform.ingress_port, HOST, path="/index.html") as tally:
        publish(platform, "2")
        begun = await asyncio.to_thread(platform.json, *DEPLOY[:-1])
        before = set(conmons(platform))
        await eventually(lambda: asyncio.to_thread(conmons, platform), lambda found: set(found) - before)
        await daemon_killed(platform)
        async with platform.client() as client:

            async def followed() -> dict[str, Any]:
                told = await call(client, "manage_operation", {"action": "status", "operation": begun["id"]})
                return dict(told["operations"][0])

            second = await eventually(followed, lambda operation: operation["state"] != "running", 30.0)
        assert second["state"] == "succeeded", second
        assert await asyncio.to_thread(page, platform) == "version 2"
        for victim in conmons(platform):  # containers go on without theirs
            os.kill(victim, signal.SIGKILL)
        back = await asyncio.to_thread(platform.json, "rollback", "web", "--env", "production", "--wait")
    assert back["state"] == "succeeded", back
    assert await asyncio.to_thread(page, platform) == "version 1"
    assert tally.failed == 0, tally.failures
    await asyncio.to_thread(platform.santiago, "down")
    assert list(processes_of(platform.layout.id)) == []


async def test_a_release_is_pushed_under_its_own_digest_and_read_back(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    with RunningRegistry(tmp_path, free_port()) as registry:
        settings = platform.root / "santiago.yaml"
        document = yaml.safe_load(settings.read_text())
        document["releases"] = {"registry": f"{registry.host}/harbour"}
        settings.write_text(yaml.safe_dump(document))
        platform.commit("A registry")
        made = await asyncio.to_thread(platform.json, "release", "web", "--push")
        assert made["pushed"]["proof"]["verdict"] == "MATCH", made
        assert made["pushed"]["image"] == f"{registry.host}/harbour/web@{made['digest']}"
        with urllib.request.urlopen(manifest_request(registry, made), timeout=5) as response:
            assert response.headers["docker-content-digest"] == made["digest"]
        again = await asyncio.to_thread(platform.json, "release", "web", "--push")
        assert again["pushed"]["image"] == made["pushed"]["image"]


def manifest_request(registry: RunningRegistry, made: dict[str, str]) -> urllib.request.Request:
    url = f"http://{registry.host}/v2/harbour/web/manifests/{made['commit'][:12]}"
    return urllib.request.Request(url, headers={"accept": "application/vnd.oci.image.manifest.v1+json"})


def conmons(platform: RunningPlatform) -> list[int]:
    return [process.pid for process in processes_of(platform.layout.id, "conmon")]


async def daemon_killed(platform: RunningPlatform) -> None:
    """And the next one answers."""
    before = platform.platform.supervisor.status("daemon").process
    assert before is not None
    before.send(signal.SIGKILL)
    daemon = platform.platform.supervisor.status

    def answers() -> bool:
        try:
            ready = httpx2.get(f"{platform.url}/readyz", trust_env=False).status_code == 200
        except httpx2.TransportError:
            return False
        return ready and daemon("daemon").process not in (None, before)

    await eventually(lambda: asyncio.to_thread(answers), seconds=20.0)


def free_port() -> int:

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
