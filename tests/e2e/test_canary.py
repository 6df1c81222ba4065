"""Canaries on the real platform, under load: a good release takes over, and each bad one ends as it should."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from santiago_platform.testing.eventually import eventually
from santiago_platform.testing.load import Load, Tally
from santiago_platform.testing.running_platform import RunningPlatform, call

pytestmark = pytest.mark.e2e
WHERE = {"service": "hello", "environment": "production"}
HOST = "hello.production.localhost"
SERVER = "services/hello/server.py"
STEPS = "[{weight: 10, pause_seconds: 8}, {weight: 50, analysis: true}]"
CANARY = f"""\
    defaults:
      watch_seconds: 60
      canary: {{bucket_seconds: 1, max_wait_seconds: 40, otherwise: abort, steps: {STEPS}}}
"""
READY_SECONDS = 8
PATIENCE_SECONDS = 2.0  # of the clients

ANSWER = """\
    def answer(self):
        if self.path == "/healthz":
            {health}
        else:
            {answer}
        self.greet()

    def busier_than(self, per_second):
        before, now = RECENT[-per_second] if len(RECENT) >= per_second else 0, time.monotonic()
        RECENT.append(now)
        return now - before < 1

    def hang_after(self, requests):
        if len(RECENT) > requests:
            threading.Event().wait()

    def fail(self):
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def greet(self):
"""


class Release(NamedTuple):
    """A small service that is bad in one way. reason: what the operation's reason says of it. start, health, answer:
    what it does before it listens, before it says that it is well, and before it greets. failed_ratio: which share of
    the answers that clients get may at most be failures, which is the weight at which it is found out."""

    reason: str
    start: str = "pass"
    health: str = "pass"
    answer: str = "pass"
    failed_ratio: float = 0.1


NEVER_FIT = {
    "it dies at start": Release("exited with code 1", start="raise SystemExit('no database')"),
    "it listens on the wrong port": Release("it listens on ", start='os.environ["PORT"] = "0"'),
    "it starts too slowly": Release(f"not ready within {READY_SECONDS} s", start="time.sleep(60)"),
}
TAKEN_BACK = {
    "2% of its answers are errors": Release("errors against", answer="if random.random() < 0.02: return self.fail()"),
    "5% of its answers are errors": Release("errors against", answer="if random.random() < 0.05: return self.fail()"),
    "half of its answers are errors": Release("errors against", answer="if random.random() < 0.5: return self.fail()"),
    "it fails on one route": Release("errors against", answer='if "orders" in self.path: return self.fail()'),
    "it is 300 ms slower": Release("slower than", answer="time.sleep(0.3)", failed_ratio=0),
    "it fails in bursts": Release("errors against", answer="if time.time() % 4 < 1: return self.fail()"),
    "it is well at first": Release(
        "errors against", answer="if time.time() - STARTED > 6: return self.fail()", failed_ratio=0.5
    ),
    "it fails under load": Release(
        "errors against", answer="if self.busier_than({a_third}): return self.fail()", failed_ratio=0.5
    ),
    # Clients see only what four tries in a row broke off: 0.2 ** 4 of the canary's answers.
    "it breaks off its answers": Release(
        " against 0.", answer="if random.random() < 0.2: return self.connection.shutdown(2)", failed_ratio=0.002
    ),
    "it ends again and again": Release("exited with code 3", answer="if random.random() < 0.02: os._exit(3)"),
    "it leaks memory": Release("ran out of memory (limit 128Mi)", answer='RECENT.append(b"x" * 2_000_000)'),
    "it hangs": Release(
        "0 of 1 instances are ready", health="self.hang_after(20)", answer="RECENT.append(0); self.hang_after(20)"
    ),
    "it hangs and says that it is well": Release("given up by their clients against", answer="self.hang_after(-1)"),
    "it flaps": Release("stopped being ready 3 times", health="if time.time() % 4 < 2: return self.fail()"),
}


async def deploy(platform: RunningPlatform, **arguments: Any) -> dict[str, Any]:
    async with platform.client() as client:
        asked = {**WHERE, "git_ref": "HEAD", "strategy": "canary", "wait": True, "timeout_seconds": 120, **arguments}
        return await call(client, "deploy_service", asked)


def write(platform: RunningPlatform, good: str, name: str, release: Release) -> None:
    """The server, bad in that way."""
    server = good
    for before, after in {
        "import json\n": "import json\nimport random\n",
        "    def answer(self):\n": ANSWER.format(health=release.health, answer=release.answer),
        "stopping = threading": "STARTED, RECENT = time.time(), []\nstopping = threading",
        "    server = Server(": f"    {release.start}\n    server = Server(",
    }.items():
        assert before in server
        server = server.replace(before, after, 1)
    (platform.root / SERVER).write_text(server)
    platform.set_version("".join(c if c.isalnum() else "-" for c in name))


@pytest.fixture(scope="module")
def good(platform: RunningPlatform) -> str:
    """A good version is live, and canaries are quick. Returns the text of its server."""
    text = (platform.root / SERVER).read_text()
    settings = (platform.root / "santiago.yaml").read_text()
    before, _, after = settings.partition("  production:\n    defaults:\n")
    after = after.replace("ready_timeout_seconds: 60", f"ready_timeout_seconds: {READY_SECONDS}")
    (platform.root / "santiago.yaml").write_text(f"{before}  production:\n{CANARY}{after}")
    write(platform, text, "good", Release(""))
    platform.santiago("deploy", "hello", "--env", "production", "--wait")
    return text


class Traffic:
    """`async with`: requests for two routes, one of them a seventh of all, for as long as the block lasts."""

    def __init__(self, platform: RunningPlatform) -> None:
        loads = {"/": 6, "/?orders": 1}
        self._loads = [
            Load(platform.ingress_port, HOST, connections=n, path=path, patience_seconds=PATIENCE_SECONDS)
            for path, n in loads.items()
        ]

    async def __aenter__(self) -> Traffic:
        self._stack = AsyncExitStack()
        for load in self._loads:
            await self._stack.enter_async_context(load)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def tally(self) -> Tally:
        """Of both routes together."""
        whole = Tally()
        for tally in (load.tally for load in self._loads):
            whole.sent, whole.failed = whole.sent + tally.sent, whole.failed + tally.failed
            whole.versions.update(tally.versions)
            whole.failed_versions.update(tally.failed_versions)
            whole.failures.update(tally.failures)
        return whole

    async def answers(self, more: int) -> float:
        """Until that many more came, whatever they were. Returns how many that was in a second."""
        began, until = time.monotonic(), self.tally.versions.total() + more
        async with asyncio.timeout(30):
            while self.tally.versions.total() < until:
                await asyncio.sleep(0.01)
        return more / (time.monotonic() - began)


async def test_a_good_release_takes_over_by_steps_without_a_failed_request(
    platform: RunningPlatform, good: str
) -> None:
    write(platform, good, "better", Release(""))
    async with Traffic(platform) as traffic:
        ended = await deploy(platform)
    assert ended["state"] == "succeeded", ended
    assert ended["proof"]["verdict"] == "MATCH"
    assert traffic.tally.failed == 0, traffic.tally.failures
    assert set(traffic.tally.versions) == {ended["previous_version"], ended["version"]}


@pytest.mark.parametrize("how", NEVER_FIT)
async def test_a_release_that_never_gets_ready_fails_before_traffic_moves(
    platform: RunningPlatform, good: str, how: str
) -> None:
    release = NEVER_FIT[how]
    write(platform, good, how, release)
    async with Traffic(platform) as traffic:
        ended = await deploy(platform)
    assert ended["state"] == "failed", ended
    assert release.reason in ended["reason"]
    assert traffic.tally.failed == 0, traffic.tally.failures
    assert set(traffic.tally.versions) == {ended["previous_version"]}


@pytest.mark.parametrize("how", TAKEN_BACK)
async def test_a_bad_release_is_taken_back_and_fails_no_more_than_its_share(
    platform: RunningPlatform, good: str, how: str
) -> None:
    release = TAKEN_BACK[how]
    async with Traffic(platform) as during:
        third = round(await during.answers(300) / 3)
        write(platform, good, how, release._replace(answer=release.answer.format(a_third=third)))
        ended = await deploy(platform)
    assert ended["state"] == "rolled_back", ended
    assert release.reason in ended["reason"]
    old, new = ended["previous_version"], ended["version"]
    assert during.tally.failed_versions[old] == 0
    assert during.tally.failed <= release.failed_ratio * during.tally.sent, during.tally
    assert set(during.tally.versions) <= {old, new}
    async with Traffic(platform) as after:
        await after.answers(200)
    assert after.tally.failed == 0, after.tally.failures
    assert set(after.tally.versions) == {old}


async def test_what_turns_bad_after_it_took_over_is_rolled_back_by_the_watch(
    platform: RunningPlatform, good: str, tmp_path: Path
) -> None:
    late = tmp_path / "it is late"
    turns = f"if os.path.exists({str(late)!r}) and random.random() < 0.2: return self.fail()"
    write(platform, good, "slow to start and bad later", Release("", start="time.sleep(2)", answer=turns))
    platform.replace("santiago.yaml", STEPS, "[{weight: 50, pause_seconds: 1}]")
    try:
        async with Traffic(platform) as traffic:
            ended = await deploy(platform)
            assert ended["state"] == "succeeded", ended
            assert traffic.tally.failed == 0, traffic.tally.failures
            late.touch()
            undone = await rollback(platform)
    finally:
        platform.replace("santiago.yaml", "[{weight: 50, pause_seconds: 1}]", STEPS)
    assert (undone["state"], undone["by"]) == ("succeeded", "platform"), undone
    assert undone["reason"].startswith("watched after it took over: canary ")
    assert "errors against" in undone["reason"]
    assert set(traffic.tally.failed_versions) == {ended["version"]}
    async with Traffic(platform) as after:
        await after.answers(200)
    assert after.tally.failed == 0, after.tally.failures
    assert set(after.tally.versions) == {ended["previous_version"]}


async def rollback(platform: RunningPlatform) -> dict[str, Any]:
    """The newest operation, once it is a rollback that has ended."""
    async with platform.client() as client:

        async def newest() -> dict[str, Any]:
            history = await call(client, "manage_operation", {**WHERE, "action": "history", "limit": 1})
            found: dict[str, Any] = history["operations"][0]
            return found

        return await eventually(newest, lambda o: o["kind"] == "rollback_service" and o["state"] != "running", 40)
