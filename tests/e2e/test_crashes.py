"""kill -9 of the daemon in each phase of a rollout, under load: it goes on or goes back, and nobody notices."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest

from santiago_platform.adapters.stores.rows import Rows
from santiago_platform.adapters.workspace.workspace import FileWorkspace
from santiago_platform.domain.canary import Analysis
from santiago_platform.domain.watch import Watch
from santiago_platform.testing.lifeline import Lifeline
from santiago_platform.testing.load import Load
from santiago_platform.testing.running_platform import RunningPlatform, call

pytestmark = pytest.mark.e2e
WHERE = {"service": "hello", "environment": "production"}
HOST = "hello.production.localhost"
CANARY = "    defaults:\n      canary: {bucket_seconds: 1, steps: [{weight: 10, pause_seconds: 2}]}\n"
SERVER = "services/hello/server.py"
T = TypeVar("T")
RIGGED = Path(__file__).with_name("rigged_daemon.py")


def start_rigged(platform: RunningPlatform) -> None:
    addresses = FileWorkspace(platform.root).settings().addresses
    platform.platform.up(addresses, (sys.executable, str(RIGGED), str(platform.root)), lambda _: None)
    platform.platform.wait_ready(lambda: answers(platform))


def answers(platform: RunningPlatform) -> bool:
    try:
        return httpx2.get(f"{platform.url}/readyz", trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


def kill_daemon(platform: RunningPlatform) -> None:
    """So that the next one reads what is rigged."""
    platform.platform.supervisor.control("daemon", "-k")


async def ready(platform: RunningPlatform, but: int = 0) -> int:
    """Waits for a daemon that answers and is not PID `but`; returns its PID."""
    async with asyncio.timeout(30):
        while True:
            pid = next(u.pid for u in platform.platform.units() if u.name == "daemon")
            if pid not in (0, but) and await asyncio.to_thread(answers, platform):
                return pid
            await asyncio.sleep(0.02)


@pytest.fixture
async def rigged(shared: RunningPlatform) -> AsyncIterator[RunningPlatform]:
    """The module's platform, whose daemon is honest again after the test."""
    yield shared
    if (shared.layout.state / "rigged").exists():
        await rig(shared, None)


@pytest.fixture(scope="module")
def shared(lifeline: Lifeline) -> Iterator[RunningPlatform]:
    with RunningPlatform(lifeline, up=False) as running:
        running.replace("santiago.yaml", "  production:\n    defaults:\n", f"  production:\n{CANARY}")
        start_rigged(running)
        yield running


async def rig(platform: RunningPlatform, what: str | None) -> None:
    """Restarts the daemon, rigged so, or honest."""
    before = await ready(platform)
    rigged = platform.layout.state / "rigged"
    if what is None:
        rigged.unlink()
    else:
        rigged.write_text(what)
    kill_daemon(platform)
    await ready(platform, but=before)


async def ask(platform: RunningPlatform, tool: str, **arguments: Any) -> dict[str, Any] | None:
    """A tool's answer, or None where the daemon died before it answered."""
    await ready(platform)
    try:
        async with platform.client(path="/mcp/json") as client:
            return await call(client, tool, arguments)
    except (ExceptionGroup, httpx2.TransportError) as exc:
        group = ExceptionGroup("", [exc])
        if group.split(httpx2.TransportError)[1] is not None:  # something else than the broken connection
            raise
        return None


async def ended(platform: RunningPlatform) -> dict[str, Any]:
    """The newest operation, followed through crashes of the daemon to its end."""
    async with asyncio.timeout(60):
        while True:
            answer = await ask(platform, "manage_operation", action="wait", timeout_seconds=30, **WHERE)
            if answer is not None and answer["operations"][0]["state"] != "running":
                return answer["operations"][0]


async def held(platform: RunningPlatform, **arguments: Any) -> None:
    """Starts a deploy that waits for a person, and returns once it does."""
    await ask(platform, "deploy_service", git_ref="HEAD", **arguments, **WHERE)
    async with asyncio.timeout(60):
        while True:
            answer = await ask(platform, "manage_operation", action="status", **WHERE)
            if answer is not None and answer["operations"][0]["phase"] == "holding":
                return


async def deploy(platform: RunningPlatform, **arguments: Any) -> dict[str, Any]:
    before = await ask(platform, "manage_operation", action="history")
    await ask(platform, "deploy_service", git_ref="HEAD", **arguments, **WHERE)
    operation = await ended(platform)
    assert before is not None
    assert operation["id"] not in {o["id"] for o in before["operations"]}, "the deploy is lost"
    return operation


# How the rollout goes on which phase of it the daemon is killed.
CASES = [
    *(("good", phase) for phase in ("releasing", "starting", "rehearsing", "shifting", "proving", "succeeded")),
    *(("broken", phase) for phase in ("restoring", "reverting", "failed")),
    *(("rolling", phase) for phase in ("starting", "shifting")),
    ("canary", "analysing"),
    ("recreate", "stopping"),
    ("held", "holding"),
    ("aborted", "rolled_back"),
]


@pytest.mark.parametrize(("how", "phase"), CASES)
async def test_a_daemon_killed_in_a_phase_fails_no_request_and_leaves_one_version_live(
    rigged: RunningPlatform, how: str, phase: str
) -> None:
    rigged.set_version(f"before-{how}-{phase}")
    before = await deploy(rigged)
    assert before["state"] == "succeeded", before
    await rig(rigged, f"crash {phase}")
    rigged.set_version(f"after-{how}-{phase}")
    server = rigged.root / SERVER
    source = server.read_text()
    if how == "broken":
        server.write_text("raise SystemExit(3)\n")
        rigged.commit("broken")
    strategy = how if how in ("rolling", "recreate", "canary") else "blue_green"
    asked = {"strategy": strategy, "hold": how in ("held", "aborted")}
    async with Load(rigged.ingress_port, HOST) as tally:
        if asked["hold"]:
            await held(rigged, **asked)
            await ask(rigged, "manage_operation", action="promote" if how == "held" else "abort", **WHERE)
            after = await ended(rigged)
        else:
            after = await deploy(rigged, **asked)
    server.write_text(source)
    rigged.commit("mended")
    assert not (rigged.layout.state / "rigged").exists(), "the daemon was killed"
    if how != "recreate":  # which is not without downtime
        assert tally.failed == 0, tally.failures
    expected = {"broken": "failed", "aborted": "rolled_back"}.get(how, "succeeded")
    assert after["state"] == expected, after
    live = after["version"] if expected == "succeeded" else before["version"]
    shown = await ask(rigged, "read_architecture", **WHERE)
    assert shown is not None
    assert shown["services"][0]["live"] == live
    assert {v["version"] for v in shown["services"][0]["versions"] if v["traffic_percent"]} == {live}
    assert rigged.json("log", "verify")["intact"]


async def read(platform: RunningPlatform, view: Callable[[Rows], T | None]) -> T:
    """What the database says, as soon as it does, whether or not the daemon lives."""
    async with asyncio.timeout(60):
        while True:
            with closing(sqlite3.connect(f"file:{platform.layout.database}?mode=ro", uri=True)) as connection:
                found = view(Rows(connection))
            if found is not None:
                return found
            await asyncio.sleep(0.02)


async def test_what_the_judge_has_seen_outlives_the_daemon(rigged: RunningPlatform) -> None:
    rigged.set_version("before the judge")
    before = await deploy(rigged)
    server = rigged.root / SERVER
    source = server.read_text()
    server.write_text(source.replace('"/": (200,', '"/": (500 if __import__("random").random() < 0.1 else 200,'))
    rigged.replace("santiago.yaml", "pause_seconds: 2}", "pause_seconds: 60}")
    rigged.set_version("a tenth of its answers are errors")

    def looked(view: Rows, since: Analysis | None = None) -> Analysis | None:
        rollout = next((r for o in view.operations(limit=1) if (r := view.rollout_of(o.id))), None)
        analysis = rollout.analysis if rollout else None
        return analysis if analysis and analysis.looked_at != (since.looked_at if since else None) else None

    async with Load(rigged.ingress_port, HOST) as tally:
        await ask(rigged, "deploy_service", git_ref="HEAD", strategy="canary", **WHERE)
        pid, first = await ready(rigged), await read(rigged, looked)
        kill_daemon(rigged)
        await ready(rigged, but=pid)
        then = await read(rigged, lambda view: looked(view, first))
        after = await ended(rigged)
    server.write_text(source)
    rigged.replace("santiago.yaml", "pause_seconds: 60}", "pause_seconds: 2}")
    rigged.commit("mended")
    was, now = first.judge.counted[0], then.judge.counted[0]
    assert was.whole.canary_requests > 0
    assert now.whole.canary_requests > was.whole.canary_requests
    assert now.whole.canary_errors >= was.whole.canary_errors
    assert now.abort.log_e >= was.abort.log_e, "errors of the canary alone never speak for it"
    assert then.began_at == first.began_at
    assert after["state"] == "rolled_back", after
    assert "errors against 0.0%" in after["reason"]
    assert after["previous_version"] == before["version"]
    assert set(tally.failures) <= {"status 500"}, "but for the canary's own answers nothing failed"


async def test_a_watch_goes_on_after_the_daemon_and_ends_when_it_would_have(rigged: RunningPlatform) -> None:
    rigged.set_version("before a watch")
    await deploy(rigged)
    rigged.set_version("watched")
    live = await deploy(rigged, strategy="canary")
    assert live["state"] == "succeeded", live

    def watched(view: Rows, since: Watch | None = None) -> Watch | None:
        deployment = view.deployment(**WHERE)
        watch = deployment.watch if deployment else None
        return watch if watch and watch.looked_at != (since.looked_at if since else None) else None

    async with Load(rigged.ingress_port, HOST) as tally:
        pid, first = await ready(rigged), await read(rigged, watched)
        kill_daemon(rigged)
        await ready(rigged, but=pid)
        then = await read(rigged, lambda view: watched(view, first))
    assert (then.version, then.began_at, then.until) == (live["version"], first.began_at, first.until)
    assert then.recent[: len(first.recent)] == first.recent
    assert len(then.recent) > len(first.recent)
    assert then.judge.counted[0].abort.log_e >= first.judge.counted[0].abort.log_e
    assert not then.failed
    assert tally.failed == 0, tally.failures


@pytest.mark.parametrize("liars", ["traffic", "traffic compute"])
async def test_writers_of_a_deploy_that_say_done_and_do_nothing_are_found_out(
    make_platform: Callable[..., RunningPlatform], liars: str
) -> None:
    with make_platform(up=False) as platform:
        platform.layout.state.joinpath("rigged").write_text(f"lie {liars}")
        start_rigged(platform)
        lied = await deploy(platform)
    assert lied["state"] in ("rolled_back", "failed")
    assert lied["proof"]["verdict"] == "DRIFT", lied["proof"]


async def test_a_rollback_that_is_said_and_not_done_is_found_out(rigged: RunningPlatform) -> None:
    versions = []
    for name in ("honest", "honest too"):
        rigged.set_version(name)
        versions.append((await deploy(rigged))["version"])
    await rig(rigged, "lie traffic")
    async with Load(rigged.ingress_port, HOST) as tally:
        await ask(rigged, "manage_operation", action="rollback", **WHERE)
        lied = await ended(rigged)
    assert lied["kind"] == "rollback_service"
    assert lied["state"] == "rolled_back"
    assert lied["proof"]["verdict"] == "DRIFT", lied["proof"]
    assert set(tally.versions) == {versions[1]}
    assert tally.failed == 0, tally.failures


async def test_a_promotion_that_is_said_and_not_done_is_found_out(rigged: RunningPlatform) -> None:
    rigged.set_version("honest before a promotion")
    before = (await deploy(rigged))["version"]
    rigged.set_version("promoted in words")
    await held(rigged, hold=True)
    await rig(rigged, "lie traffic")
    async with Load(rigged.ingress_port, HOST) as tally:
        await ask(rigged, "manage_operation", action="promote", **WHERE)
        lied = await ended(rigged)
    assert lied["state"] == "failed", "the rehearsal finds it out before any traffic moves"
    assert lied["reason"].startswith("the way back could not be rehearsed")
    assert lied["proof"]["verdict"] == "DRIFT", lied["proof"]
    assert set(tally.versions) == {before}
    assert tally.failed == 0, tally.failures
