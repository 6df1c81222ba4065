"""Workloads with files, volumes and several containers, deployed while traffic flows."""

from __future__ import annotations

import asyncio
import json
import urllib.request

import pytest

from santiago_platform.adapters.local.mounts import namespace
from santiago_platform.testing.load import Load
from santiago_platform.testing.running_platform import RunningPlatform

pytestmark = pytest.mark.e2e
HOST = "hello.production.localhost"
DEPLOY = ("deploy", "hello", "--env", "production", "--wait")
FILES = """\
    files:
      /etc/hello-of-santiago/greeting.txt: {source: greeting.txt}
      /srv-of-santiago/inline.txt: {content: inline}
    volumes:
      /srv-of-santiago/data: {source: "${resources.data}"}
"""
BESIDE = """\
  clerk:
    image: .
    command: ["sh", "-c", "while :; do date >/its-data/seen; echo noted; sleep 0.2; done"]
    volumes:
      /its-data: {source: "${resources.data}"}
    readinessProbe: {exec: {command: ["test", "-e", "/its-data/seen"]}}
    resources: {limits: {memory: 64Mi, cpu: 100m}}
"""


def write(platform: RunningPlatform, version: str, files: str = FILES) -> None:
    """The service of `santiago init` with a greeting from a file, and a container that writes what it can read."""
    folder = platform.root / "services" / "hello"
    score = (folder / "score.yaml").read_text()
    if "clerk" not in score:
        head, _, tail = score.partition("    readinessProbe:")
        score = f"{head}{files}    readinessProbe:{tail}\n{BESIDE}resources:\n  data: {{type: volume}}\n"
        (folder / "score.yaml").write_text(score)
        (folder / "build.yaml").write_text("")
        platform.replace(
            "services/hello/server.py",
            '"/": (200, {"greeting": GREETING,',
            '"/": (200, {"clerk": os.path.exists("/srv-of-santiago/data/seen"), '
            '"greeting": open("/etc/hello-of-santiago/greeting.txt").read(),',
        )
    (folder / "greeting.txt").write_text("${metadata.name} " + version)
    platform.set_version(version)


def answer(platform: RunningPlatform) -> dict[str, object]:
    request = urllib.request.Request(f"http://127.0.0.1:{platform.ingress_port}/", headers={"host": HOST})
    with urllib.request.urlopen(request, timeout=5) as response:
        found: dict[str, object] = json.load(response)
    return found


async def test_files_volumes_and_two_containers_are_rolled_out_without_a_failed_request(
    platform: RunningPlatform,
) -> None:
    if namespace().problem:
        pytest.skip(f"no mount namespaces here: {namespace().problem}")
    write(platform, "one")
    first = await asyncio.to_thread(platform.json, *DEPLOY)
    assert first["state"] == "succeeded", first
    assert await asyncio.to_thread(answer, platform) == {"clerk": True, "greeting": "hello one", "version": "one"}
    async with Load(platform.ingress_port, HOST) as tally:
        write(platform, "two")
        second = await asyncio.to_thread(platform.json, *DEPLOY)
        assert second["state"] == "succeeded", second
        assert (await asyncio.to_thread(answer, platform))["greeting"] == "hello two"
        back = await asyncio.to_thread(platform.json, "rollback", "hello", "--env", "production", "--wait")
    assert back["state"] == "succeeded", back
    assert (await asyncio.to_thread(answer, platform))["greeting"] == "hello one"
    assert tally.failed == 0, tally.failures
    assert set(tally.versions) == {first["version"], second["version"]}
    assert second["proof"]["verdict"] == "MATCH"
    logs = await asyncio.to_thread(platform.json, "logs", "hello", "--env", "production")
    assert any(line["text"] == "[clerk] noted" for line in logs["lines"])


async def test_a_file_that_has_no_place_fails_the_deploy_with_its_path_and_moves_no_traffic(
    platform: RunningPlatform,
) -> None:
    if namespace().problem:
        pytest.skip(f"no mount namespaces here: {namespace().problem}")
    before = await asyncio.to_thread(answer, platform)
    platform.replace("services/hello/score.yaml", "/srv-of-santiago/inline.txt", "/etc/passwd/inline.txt")
    platform.set_version("without a place")
    async with Load(platform.ingress_port, HOST) as tally:
        refused = await asyncio.to_thread(lambda: platform.json(*DEPLOY, check=False))
    assert refused["state"] == "failed", refused
    assert "/etc/passwd/inline.txt cannot be mounted" in refused["reason"]
    assert "choose another path" in refused["reason"]
    assert tally.failed == 0, tally.failures
    assert await asyncio.to_thread(answer, platform) == before
