"""Random faults at random points of random rollouts, under load.

SEED and ROUNDS say which, and how many; FAULT: only those with this in their name.

After each round: no request failed but those that the fault may cost, one version is live, each instance is one process
and nothing else is, the operation has ended, and the ship's log verifies. docs/chaos.md keeps what was found.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from santiago_platform.adapters.workspace.workspace import FileWorkspace
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.entrypoints.cli.app import Daemon
from santiago_platform.testing.faults import FAULTS, Fault, Machine
from santiago_platform.testing.lifeline import Lifeline
from santiago_platform.testing.load import Load, Tally
from santiago_platform.testing.running_platform import RunningPlatform

pytestmark = [pytest.mark.e2e, pytest.mark.chaos, pytest.mark.timeout(3600)]
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(1_000_000))
ROUNDS = int(os.environ.get("ROUNDS") or 4)
CHOICE = [fault for fault in FAULTS if os.environ.get("FAULT", "") in fault.name]
CONNECTIONS = 4
HOST = "hello.production.localhost"
WHERE = {"service": "hello", "environment": "production"}
DAEMON = Path(__file__).with_name("jumping_daemon.py")
DISK_BYTES, STOP_BYTES = 400 << 20, 8 << 20


def start(platform: RunningPlatform) -> None:
    settings = FileWorkspace(platform.root).settings()
    platform.platform.up(settings.addresses, (sys.executable, str(DAEMON), str(platform.root)), lambda _: None)
    platform.platform.wait_ready(Daemon(platform.layout).ready)


def tool(platform: RunningPlatform, name: str, **arguments: Any) -> Any:
    """Asks until a daemon answers that can be written to."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return Daemon(platform.layout).tool(name, **arguments)
        except PlatformError as exc:
            waits = exc.code in (ErrorCode.UNAVAILABLE, ErrorCode.RESOURCE_EXHAUSTED, ErrorCode.UNAUTHENTICATED)
            if not waits or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def ended(platform: RunningPlatform, operation: str) -> dict[str, Any] | None:
    """The operation, once it has ended; None where the database does not know it any more."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            (found,) = tool(platform, "manage_operation", action="status", operation=operation)["operations"]
        except PlatformError as exc:
            if exc.code is not ErrorCode.NOT_FOUND:
                raise
            return None
        if found["state"] != "running":
            return dict(found)
        time.sleep(0.05)
    raise AssertionError("the operation does not end")


def marked(workspace: str) -> dict[str, list[int]]:
    """Living processes of the workspace's instances, by instance id."""
    found: dict[str, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        prefix = b"SANTIAGO_INSTANCE="
        names = [v.removeprefix(prefix).decode() for v in variables if v.startswith(prefix)]
        if names and f"SANTIAGO_WORKSPACE_ID={workspace}".encode() in variables and state not in "ZX":
            found.setdefault(names[0], []).append(int(entry.name))
    return found


def settled(platform: RunningPlatform) -> tuple[str, str]:
    """Waits until all is as desired. Returns the live version, and what is still wrong when it gives up."""
    deadline, wrong = time.monotonic() + 60, "nobody answered"
    while time.monotonic() < deadline:
        shown = platform.santiago("status", "--json", check=False)
        if shown.returncode != 0:
            wrong = shown.stdout + shown.stderr
            continue
        status = json.loads(shown.stdout)
        services = status["architecture"]["services"]
        if len(services) != 1:
            wrong = f"services: {services}"
            continue
        (service,) = services
        down = [u["name"] for u in status["units"] if not u["pid"]]
        traffic = {v["version"]: v.get("traffic_percent") for v in service["versions"] if v.get("traffic_percent")}
        expected = {i["id"]: i["pid"] for v in service["versions"] for i in v["instances"]}
        there = {name: pids for name, pids in marked(platform.layout.id).items() if "__" in name}
        wrong = "; ".join(
            text
            for text, bad in {
                "s6-svscan is gone": platform.platform.supervisor.running is None,
                f"down: {down}": bool(down),
                f"problems: {status['problems']}": bool(status["problems"]),
                f"running: {status['running_operations']}": bool(status["running_operations"]),
                f"drift: {service['drift']}": bool(service["drift"]),
                f"traffic: {traffic}": traffic != {service["live"]: 100.0},
                f"processes {there}, not {expected}": {n: [p] for n, p in expected.items()} != there,
            }.items()
            if bad
        )
        if not wrong:
            return service["live"], ""
    return "", wrong


async def served(tally: Tally) -> str:
    """Waits until requests in a row are answered. Returns what is wrong when it gives up."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        sent, failed = tally.sent, tally.failed
        while tally.sent < sent + 10 * CONNECTIONS and tally.failed == failed and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        if tally.sent >= sent + 10 * CONNECTIONS and tally.failed == failed:
            return ""
        await asyncio.sleep(0.01)
    return f"requests still fail: {tally.failures}"


async def test_random_faults_at_random_points_of_random_rollouts(lifeline: Lifeline) -> None:
    print(f"\nSEED={SEED} ROUNDS={ROUNDS}")
    with RunningPlatform(lifeline, up=False, disk_bytes=DISK_BYTES) as platform:
        platform.replace("santiago.yaml", "rollback_window_seconds: 600", "rollback_window_seconds: 2")
        with (platform.root / "santiago.yaml").open("a") as settings:
            settings.write(f"\ndisk: {{warn_bytes: 0, stop_bytes: {STOP_BYTES}}}\n")
        await asyncio.to_thread(start, platform)
        first = await asyncio.to_thread(platform.json, "deploy", "hello", "--env", "production", "--wait")
        live = first["version"]
        for nth in range(ROUNDS):
            rng = random.Random(f"{SEED} {nth}")
            try:
                live = await one_round(platform, rng, nth, live)
            except BaseException:
                print((platform.layout.logs / "daemon" / "current").read_text(errors="replace")[-8000:])
                raise


async def one_round(platform: RunningPlatform, rng: random.Random, nth: int, live: str) -> str:
    fault = rng.choice(CHOICE)
    strategy, broken, delay = rng.choice(["blue_green", "rolling"]), rng.random() < 0.25, rng.uniform(0, 1.2)
    release = "a broken release" if broken else "a good release"
    told = f"round {nth}: {fault.name} {delay:.2f} s into a {strategy} deploy of {release}"
    if fault.needs_disk and not platform.has_own_disk:
        told += " (nothing is done: this user may mount no disk)"
        fault = Fault("nothing", lambda machine: None)
    began = time.monotonic()
    source = (platform.root / "services/hello/server.py").read_text()
    if broken:
        (platform.root / "services/hello/server.py").write_text("raise SystemExit(1)\n")
    commit = platform.set_version(f"round {nth} of {SEED}")
    machine = Machine(platform, rng)
    async with Load(platform.ingress_port, HOST, connections=CONNECTIONS) as tally:
        asked = await asyncio.to_thread(tool, platform, "deploy_service", git_ref=commit, strategy=strategy, **WHERE)
        await asyncio.sleep(delay)
        await asyncio.to_thread(fault.do, machine)
        operation = await asyncio.to_thread(ended, platform, asked["id"])
        after, wrong = await asyncio.to_thread(settled, platform)
        wrong = wrong or await served(tally)
    (platform.root / "services/hello/server.py").write_text(source)
    state = operation["state"] if operation else "lost"
    print(f"{told}: {state}, {tally.failed} of {tally.sent} failed, {time.monotonic() - began:.1f} s")
    about = f"SEED={SEED}, {told}"
    assert wrong == "", f"{about}: {wrong}"
    check(about, tally, fault)
    if operation is None:
        assert fault.may_lose, f"{about}: the operation {asked['operation']} is gone"
        assert_named(platform, asked["id"], about)
    elif not fault.may_lose:
        expected = operation["version"] if state == "succeeded" else live
        assert after == expected, f"{about}: {operation}"
    verified = await asyncio.to_thread(platform.json, "log", "verify")
    assert verified["intact"], f"{about}: {verified}"
    return after


def check(about: str, tally: Tally, fault: Fault) -> None:
    assert tally.sent > 0
    if fault.may_fail is not None:
        assert tally.failed <= fault.may_fail * CONNECTIONS, f"{about}: {tally.failures}"


def assert_named(platform: RunningPlatform, operation: str, about: str) -> None:
    """That somebody who looks learns of an operation that the database has lost."""
    lines = [
        line for path in sorted(platform.layout.ship_log.glob("*.jsonl")) for line in path.read_text().splitlines()
    ]
    entries = [json.loads(line) for line in lines]
    named = any(e["action"] == "platform.lost" and operation in e["body"]["operations"] for e in entries)
    closed = any(e["operation"] == operation and e["outcome"] == "interrupted" for e in entries)
    assert named or closed, f"{about}: nothing names the lost operation {operation}"
