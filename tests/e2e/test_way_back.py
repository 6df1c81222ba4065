"""The way back on a real platform: of configuration, of numbers, to older versions and out of a canary, under load."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from santiago_platform.testing.load import Load
from santiago_platform.testing.running_platform import RunningPlatform

pytestmark = pytest.mark.e2e

WHERE = ("hello", "--env", "production")
HOST = "hello.production.localhost"
CANARY = "strategy: canary\n      canary: {steps: [{weight: 20, approval: true}]}"


async def told(platform: RunningPlatform, *words: str) -> dict[str, Any]:
    answer: dict[str, Any] = await asyncio.to_thread(platform.json, *words)
    return answer


def greeting(platform: RunningPlatform) -> str:
    answer = httpx2.get(f"http://127.0.0.1:{platform.ingress_port}/", headers={"host": HOST}, trust_env=False)
    said: str = answer.json()["greeting"]
    return said


def greet(platform: RunningPlatform, before: str, after: str) -> None:
    platform.replace("santiago.yaml", f"GREETING: {before}", f"GREETING: {after}")


async def test_a_change_of_variables_goes_out_and_comes_back_without_a_failed_request(
    platform: RunningPlatform,
) -> None:
    first = await told(platform, "deploy", *WHERE, "--wait")
    assert first["way_back"] == "none: nothing was live before"
    release = first["release"]
    async with Load(platform.ingress_port, HOST) as tally:
        greet(platform, "Hello from production", "Good night")
        second = await told(platform, "deploy", *WHERE, "--promote", "production", "--wait")
        assert (second["state"], second["release"], greeting(platform)) == ("succeeded", release, "Good night")
        assert second["way_back"].startswith(f"to version {first['version']}, kept warm until ")
        assert "; rehearsed at " in second["way_back"]
        assert second["way_back"].endswith("when 2 of 2 of its instances were healthy")
        back = await told(platform, "rollback", *WHERE, "--wait")
        assert (back["state"], back["version"]) == ("succeeded", first["version"])
        assert greeting(platform) == "Hello from production"
    assert tally.failed == 0, tally.failures
    assert set(tally.versions) == {first["version"], second["version"]}


async def test_an_older_version_comes_back_out_of_a_running_canary_as_it_was_then(platform: RunningPlatform) -> None:
    live = (await told(platform, "deploy", *WHERE, "--wait"))["version"]
    for number in (2, 3):
        platform.set_version(str(number))
        await told(platform, "deploy", *WHERE, "--replicas", "1", "--wait")
    listed = await told(platform, "versions", *WHERE)
    assert [(v["version"], v["standing"]) for v in listed][2] == (live, "kept")
    assert f"{live}  " in platform.santiago("versions", *WHERE).stdout
    platform.replace("santiago.yaml", "strategy: blue_green", CANARY)
    platform.set_version("4")
    async with Load(platform.ingress_port, HOST) as tally:
        canary = await told(platform, "deploy", *WHERE, "--wait")
        assert (canary["state"], canary["phase"]) == ("running", "holding"), canary
        ended = await told(platform, "rollback", *WHERE, "--to", live, "--wait")
        assert (ended["state"], ended["version"]) == ("succeeded", live), ended
        assert greeting(platform) == "Good night"
        number = await told(platform, "scale", *WHERE, "--replicas", "3", "--wait")
        asked = {"action": "rollback", "operation": number["id"]}
        async with platform.client() as client:
            undone = (await client.call_tool("manage_operation", asked)).structured_content["operations"][0]
            wait = {"action": "wait", "operation": undone["id"]}
            undone = (await client.call_tool("manage_operation", wait)).structured_content["operations"][0]
        assert (undone["state"], undone["version"]) == ("succeeded", live), undone
        assert f"instances hello/production {live} = 2 " in " ".join(undone["proof"]["evidence"])
    assert tally.failed == 0, tally.failures
