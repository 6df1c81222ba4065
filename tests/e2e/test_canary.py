"""Canaries on the real platform, under load: a good release takes over, and each bad one ends as it should."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from santiago_platform.testing.load import Load
from santiago_platform.testing.running_platform import RunningPlatform, call

pytestmark = pytest.mark.e2e
WHERE = {"service": "hello", "environment": "production"}
HOST = "hello.production.localhost"
SERVER = "services/hello/server.py"
STEPS = "[{weight: 10, pause_seconds: 8}, {weight: 50, analysis: true}]"
CANARY = f"    defaults:\n      canary: {{bucket_seconds: 1, max_wait_seconds: 40, otherwise: abort, steps: {STEPS}}}\n"
ANSWER = '    def answer(self):\n        if self.path == "/healthz":\n            return self.greet()\n'

# What `/` does before it greets, and what the operation's reason then says.
BAD = {
    "5% of its answers are errors": ("if random.random() < 0.05: return self.fail()", "errors against"),
    "half of its answers are errors": ("if random.random() < 0.5: return self.fail()", "errors against"),
    "it is 300 ms slower": ("time.sleep(0.3)", "slower than"),
    "it fails in bursts": ("if time.time() % 4 < 1: return self.fail()", "errors against"),
    "it is well at first": ("if time.time() - STARTED > 6: return self.fail()", "errors against"),
    "it breaks off its answers": ("if random.random() < 0.2: return self.connection.shutdown(2)", "errors against"),
    "it ends again and again": ("if random.random() < 0.02: os._exit(3)", ""),
}


async def deploy(platform: RunningPlatform, **arguments: Any) -> dict[str, Any]:
    async with platform.client() as client:
        asked = {**WHERE, "git_ref": "HEAD", "wait": True, "timeout_seconds": 120, **arguments}
        return await call(client, "deploy_service", asked)


def write(platform: RunningPlatform, good: str, behaviour: str, name: str) -> None:
    """The server with something to do before each greeting."""
    server = good.replace("import json\n", "import json\nimport random\n", 1)
    server = server.replace(
        "    def answer(self):\n", f"{ANSWER}        {behaviour}\n        self.greet()\n\n    def greet(self):\n"
    )
    server = server.replace("stopping = threading", "STARTED = time.time()\nstopping = threading", 1)
    server = server.replace(
        "    def greet(self):\n",
        '    def fail(self):\n        self.send_response(500)\n        self.send_header("Content-Length", "0")\n'
        "        self.end_headers()\n\n    def greet(self):\n",
        1,
    )
    (platform.root / SERVER).write_text(server)
    platform.set_version(name)


@pytest.fixture(scope="module")
def good(platform: RunningPlatform) -> str:
    """A good version is live, and canaries are quick. Returns the text of its server."""
    text = (platform.root / SERVER).read_text()
    settings = (platform.root / "santiago.yaml").read_text()
    before, _, after = settings.partition("  production:\n    defaults:\n")
    (platform.root / "santiago.yaml").write_text(f"{before}  production:\n{CANARY}{after}")
    write(platform, text, "pass", "good")
    platform.santiago("deploy", "hello", "--env", "production", "--wait")
    return text


@pytest.fixture
async def load(platform: RunningPlatform, good: str) -> AsyncIterator[Load]:
    load = Load(platform.ingress_port, HOST, connections=6, pause_seconds=0.01)
    async with load:
        await asyncio.to_thread(platform.santiago, "status")  # the load is on meanwhile
        yield load


async def answered(load: Load, more: int) -> None:
    """Until that many more answers came, whatever they were."""
    until = len(load.tally.seconds) + more
    async with asyncio.timeout(30):
        while len(load.tally.seconds) < until:
            await asyncio.sleep(0.01)


async def test_a_good_release_takes_over_by_steps_without_a_failed_request(
    platform: RunningPlatform, good: str, load: Load
) -> None:
    write(platform, good, "pass", "better")
    ended = await deploy(platform, strategy="canary")
    assert ended["state"] == "succeeded", ended
    assert ended["proof"]["verdict"] == "MATCH"
    assert load.tally.failed == 0, load.tally.failures
    assert set(load.tally.versions) == {ended["previous_version"], ended["version"]}


@pytest.mark.parametrize("how", BAD)
async def test_a_bad_release_is_taken_back_by_the_judge(
    platform: RunningPlatform, good: str, load: Load, how: str
) -> None:
    behaviour, reason = BAD[how]
    write(platform, good, behaviour, how.replace(" ", "-").replace("%", ""))
    ended = await deploy(platform, strategy="canary")
    assert ended["state"] == "rolled_back", ended
    assert reason in ended["reason"]
    await answered(load, 100)  # what was in flight
    load.tally.failed = 0
    load.tally.versions.clear()
    await answered(load, 200)
    assert load.tally.failed == 0, load.tally.failures
    assert set(load.tally.versions) == {ended["previous_version"]}
