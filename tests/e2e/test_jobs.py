"""Jobs on the real platform: migrations before the traffic moves, checks after it, and what runs by the clock."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from santiago_platform.adapters.process import processes_of, recorded
from santiago_platform.testing.eventually import eventually
from santiago_platform.testing.load import Load
from santiago_platform.testing.running_platform import RunningPlatform, call

pytestmark = pytest.mark.e2e
WHERE = {"service": "hello", "environment": "production"}
HOST = "hello.production.localhost"
BUILD = "services/hello/build.yaml"

# A database of one file in HOME, and how often each migration was applied to it.
MIGRATE = 'echo "migrating to $VERSION"; echo "$VERSION" >>"$HOME/applied"'


def define(platform: RunningPlatform, version: str, **jobs: dict[str, Any]) -> None:
    """Jobs in build.yaml, committed as another version. JSON is YAML."""
    given = {
        name: {"when": "pre-deploy", **job, "command": ["sh", "-c", job["command"]], "variables": {"VERSION": version}}
        for name, job in jobs.items()
    }
    (platform.root / BUILD).write_text(json.dumps({"jobs": given}))
    platform.set_version(version)


async def deploy(platform: RunningPlatform, **arguments: Any) -> dict[str, Any]:
    async with platform.client() as client:
        return await call(client, "deploy_service", {**WHERE, "git_ref": "HEAD", "wait": True, **arguments})


def applied(platform: RunningPlatform) -> list[str]:
    path = platform.layout.state / "home" / "hello__production" / "applied"
    return path.read_text().split() if path.exists() else []


def logs(platform: RunningPlatform, *words: str) -> list[str]:
    return [line["text"] for line in platform.json("logs", "hello", *words)["lines"]]


@pytest.fixture(scope="module")
def platform(platform: RunningPlatform) -> Iterator[RunningPlatform]:
    """With a version that is live and has no jobs."""
    platform.replace("santiago.yaml", "stop_grace_seconds: 10", "stop_grace_seconds: 1")
    platform.json("deploy", "hello", "--env", "production", "--wait")
    yield platform
    assert list(processes_of(platform.layout.id, "sleep")) == []


async def test_a_migration_runs_once_before_the_traffic_moves_and_a_check_after_it(platform: RunningPlatform) -> None:
    define(
        platform,
        "migrated",
        migrate={"command": MIGRATE},
        index={"command": 'grep -q migrated "$HOME/applied" && echo "after the migration"'},
        check={"command": "echo checked", "when": "post-deploy"},
    )
    async with Load(platform.ingress_port, HOST) as tally:
        ended = await deploy(platform)
    assert ended["state"] == "succeeded", ended
    assert tally.failed == 0, tally.failures
    assert applied(platform).count("migrated") == 1
    assert logs(platform, "--job", "migrate") == ["migrating to migrated"]
    assert logs(platform, "--job", "check") == ["checked"]
    again = await deploy(platform)
    assert again["state"] == "succeeded", again
    assert applied(platform).count("migrated") == 1, "what is live already is not migrated again"


def live(platform: RunningPlatform) -> str:
    (service,) = platform.json("status")["architecture"]["services"]
    version: str = service["live"]
    return version


# How a migration goes wrong, and what the reason then says.
BROKEN = {
    "it fails": ({"command": "echo no such table >&2; exit 3"}, "exited with code 3"),
    "it fails each time": ({"command": "echo no such table; exit 3", "retries": 1}, "exited with code 3 (2 times)"),
    "it hangs": (
        {"command": "echo no such table; trap '' TERM; sleep 300", "timeout_seconds": 1},
        "ran out of time (1 s)",
    ),
    "it is no program": ({"command": "echo no such table; exec ./nothing"}, "exited with code 12"),
}


@pytest.mark.parametrize("how", BROKEN)
async def test_a_migration_that_goes_wrong_moves_no_traffic_and_tells_how_it_ended_and_its_last_lines(
    platform: RunningPlatform, how: str
) -> None:
    job, reason = BROKEN[how]
    before = live(platform)
    define(platform, how, migrate=job)
    async with Load(platform.ingress_port, HOST) as tally:
        ended = await deploy(platform)
    assert ended["state"] == "failed", ended
    assert f"the job migrate {reason}" in ended["reason"]
    assert any("no such table" in line for line in ended["detail"])
    assert tally.failed == 0, tally.failures
    assert set(tally.versions) == {before} == {live(platform)}


async def test_a_migration_that_fails_at_first_is_tried_again(platform: RunningPlatform) -> None:
    flaky = '[ -e "$HOME/$VERSION" ] && exit 0; : >"$HOME/$VERSION"; exit 1'
    define(platform, "flaky", migrate={"command": flaky, "retries": 2})
    ended = await deploy(platform)
    assert ended["state"] == "succeeded", ended
    (job,) = platform.json("jobs", "list", "hello")
    assert (job["job"], job["runs"][0]["state"], job["runs"][0]["attempts"]) == ("migrate", "succeeded", 2)


async def test_a_check_that_fails_takes_the_traffic_back_without_a_failed_request(platform: RunningPlatform) -> None:
    before = live(platform)
    define(platform, "checked", check={"command": "echo it is wrong; exit 1", "when": "post-deploy"})
    async with Load(platform.ingress_port, HOST) as tally:
        ended = await deploy(platform)
    assert (ended["state"], ended["reason"]) == ("rolled_back", "the job check exited with code 1"), ended
    assert tally.failed == 0, tally.failures
    assert live(platform) == before


async def preparing(platform: RunningPlatform) -> str:
    """Starts a deploy and returns its operation once its job sleeps."""
    async with platform.client() as client:
        started = await call(client, "deploy_service", {**WHERE, "git_ref": "HEAD"})

    async def sleeping() -> list[Any]:
        return list(processes_of(platform.layout.id, "sleep"))

    await eventually(sleeping, bool, 30)
    operation: str = started["id"]
    return operation


async def ended_as(platform: RunningPlatform, operation: str) -> dict[str, Any]:
    """The operation as it ended, whatever becomes of the daemon meanwhile."""

    async def status() -> dict[str, Any]:
        body = {"action": "status", "operation": operation}
        headers = {"authorization": f"Bearer {platform.token}"}
        try:
            async with httpx2.AsyncClient(trust_env=False, timeout=5, headers=headers) as client:
                answer = await client.post(f"{platform.url}/api/tools/manage_operation", json=body)
            found: dict[str, Any] = answer.json()["operations"][0]
        except httpx2.HTTPError:
            return {"state": "running"}
        return found

    return await eventually(status, lambda seen: seen["state"] != "running", 60)


async def test_an_abort_ends_the_migration(platform: RunningPlatform) -> None:
    define(platform, "aborted", migrate={"command": "exec sleep 300"})
    operation = await preparing(platform)
    async with platform.client() as client:
        await call(client, "manage_operation", {"action": "abort", "operation": operation})
    assert (await ended_as(platform, operation))["state"] == "rolled_back"
    assert list(processes_of(platform.layout.id, "sleep")) == []


async def test_a_daemon_killed_in_a_migration_goes_on_with_it_and_it_runs_once(platform: RunningPlatform) -> None:
    define(platform, "killed", migrate={"command": f"{MIGRATE}; sleep 3; echo done"})
    async with Load(platform.ingress_port, HOST) as tally:
        operation = await preparing(platform)
        daemon = recorded(platform.layout.units / "daemon" / "process")
        assert daemon is not None
        os.kill(daemon.pid, signal.SIGKILL)
        ended = await ended_as(platform, operation)
    assert ended["state"] == "succeeded", ended
    assert tally.failed == 0, tally.failures
    assert applied(platform).count("killed") == 1
    assert logs(platform, "--job", "migrate", "-n", "1") == ["done"]


async def test_a_job_runs_by_the_clock_and_by_hand_and_a_failed_run_is_seen(platform: RunningPlatform) -> None:
    define(
        platform,
        "scheduled",
        tick={"command": "echo tick", "when": "scheduled", "schedule": "* * * * *"},
        report={"command": "echo no paper; exit 4", "when": "scheduled", "schedule": "0 0 1 1 *"},
    )
    assert (await deploy(platform))["state"] == "succeeded"
    by_hand = platform.santiago(
        "jobs", "run", "hello", "report", "--env", "production", "--wait", "--json", check=False
    )
    assert by_hand.returncode == 1
    run = json.loads(by_hand.stdout)
    assert (run["state"], run["reason"], run["by"]) == ("failed", "exited with code 4", "owner")
    assert "no paper" in run["detail"]
    (service,) = platform.json("status")["architecture"]["services"]
    assert any(line.startswith("report, scheduled: failed") for line in service["jobs"])
    assert "no paper" in platform.santiago("jobs", "list").stdout
    entries = "".join(path.read_text() for path in (platform.root / "ships-logs/platform").glob("*.jsonl"))
    assert '"job.failed"' in entries
    assert '"run_job"' in entries

    async def ticks() -> list[dict[str, Any]]:
        jobs = await asyncio.to_thread(platform.json, "jobs", "list")
        return [run for job in jobs if job["job"] == "tick" for run in job["runs"] if run["state"] == "succeeded"]

    tick = (await eventually(ticks, bool, 75))[0]
    assert logs(platform, "--job", "tick", "-n", "1") == ["tick"]
    assert tick["scheduled_for"].endswith(":00Z")
    assert platform.json("log", "verify")["intact"]
