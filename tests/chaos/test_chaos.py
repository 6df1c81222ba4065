"""Random faults at random points of random rollouts, under load. SEED and ROUNDS say which, and how many.

After each round: no request failed but those in flight at a killed Envoy, one version is live, each instance is one
process and nothing else is, the operation has ended, and the ship's log verifies. docs/chaos.md keeps what was found.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from santiago_platform.domain.errors import PlatformError
from santiago_platform.entrypoints.cli.app import Daemon
from santiago_platform.testing.lifeline import Lifeline
from santiago_platform.testing.load import Load, Tally
from santiago_platform.testing.running_platform import RunningPlatform

pytestmark = [pytest.mark.e2e, pytest.mark.chaos, pytest.mark.timeout(1800)]
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(1_000_000))
ROUNDS = int(os.environ.get("ROUNDS") or 4)
CONNECTIONS = 4
HOST = "hello.production.localhost"
SYSTEM = ("daemon", "envoy-a", "envoy-b", "prometheus", "alertmanager")


class Machine:
    """What there is to break. rng: of the round, so that a seed breaks the same things."""

    def __init__(self, platform: RunningPlatform, rng: random.Random) -> None:
        self.platform = platform
        self.rng = rng

    def pid(self, unit: str) -> int:
        process = self.platform.platform.supervisor.status(unit).process
        return process.pid if process else 0

    def instances(self) -> list[str]:
        return [name for name in self.platform.platform.supervisor.names() if "__" in name]

    def some_unit(self) -> str:
        return self.rng.choice([*SYSTEM, *self.instances()])

    def some_instance(self) -> str:
        return self.rng.choice(self.instances() or ["daemon"])

    def supervisor_of(self, unit: str) -> int:
        return parent(self.pid(unit))

    def logger_of(self, unit: str) -> int:
        wanted = str(self.platform.layout.logs / unit).encode()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"s6-log") and wanted in words:
                return int(entry.name)
        return 0


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def send(pid: int, number: signal.Signals) -> None:
    if pid > 1:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return


def pause(pid: int, seconds: float) -> None:
    send(pid, signal.SIGSTOP)
    time.sleep(seconds)
    send(pid, signal.SIGCONT)


def corrupt_routes(machine: Machine) -> None:
    """As an editor would that writes half a file in place of the whole."""
    path = machine.platform.layout.xds / "rds.json"
    partial = path.with_suffix(".broken")
    partial.write_text(path.read_text()[: machine.rng.randrange(1, 200)])
    partial.rename(path)


def kill(*units: str) -> Callable[[Machine], None]:
    def fault(machine: Machine) -> None:
        for unit in units:
            send(machine.pid(unit), signal.SIGKILL)

    return fault


def kill_twice(machine: Machine) -> None:
    before = machine.pid("daemon")
    send(before, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while machine.pid("daemon") in (0, before) and time.monotonic() < deadline:
        time.sleep(0.02)
    send(machine.pid("daemon"), signal.SIGKILL)


# Name -> (what is done, how many requests in flight may fail; None where all Envoys are gone for a moment).
FAULTS: dict[str, tuple[Callable[[Machine], None], int | None]] = {
    "nothing": (lambda machine: None, 0),
    "kill -9 daemon": (kill("daemon"), 0),
    "kill -9 daemon twice": (kill_twice, 0),
    "kill -9 an instance": (lambda m: send(m.pid(m.some_instance()), signal.SIGKILL), 0),
    "kill -9 envoy-a": (kill("envoy-a"), CONNECTIONS),
    "kill -9 envoy-b": (kill("envoy-b"), CONNECTIONS),
    "kill -9 both Envoys": (kill("envoy-a", "envoy-b"), None),
    "kill -9 Prometheus": (kill("prometheus"), 0),
    "kill -9 Alertmanager": (kill("alertmanager"), 0),
    "kill -9 a logger": (lambda m: send(m.logger_of(m.some_unit()), signal.SIGKILL), 0),
    "kill -9 the s6-supervise of an instance": (
        lambda m: send(m.supervisor_of(m.some_instance()), signal.SIGKILL),
        0,
    ),
    "pause the daemon": (lambda m: pause(m.pid("daemon"), 2), 0),
    "pause an Envoy": (lambda m: pause(m.pid(m.rng.choice(["envoy-a", "envoy-b"])), 1.5), 0),
    "pause an instance": (lambda m: pause(m.pid(m.some_instance()), 1.5), 0),
    "a corrupt xDS file": (corrupt_routes, 0),
}


def ended(platform: RunningPlatform, known: set[str]) -> dict[str, Any]:
    """The operation that is not among `known`, once it has ended; asks again while no daemon answers."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        asked = platform.santiago("status", "--json", check=False)
        if asked.returncode == 0:
            history = operations(platform)
            new = [o for o in history if o["id"] not in known]
            if new and new[0]["state"] != "running":
                return new[0]
    raise AssertionError("the operation does not end")


def operations(platform: RunningPlatform) -> list[dict[str, Any]]:
    while True:
        try:
            answer = Daemon(platform.layout).tool("manage_operation", action="history", limit=5)
        except PlatformError:
            time.sleep(0.1)
            continue
        found: list[dict[str, Any]] = answer["operations"]
        return found


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
            continue
        status = json.loads(shown.stdout)
        (service,) = status["architecture"]["services"]
        down = [u["name"] for u in status["units"] if not u["pid"]]
        traffic = {v["version"]: v.get("traffic_percent") for v in service["versions"] if v.get("traffic_percent")}
        expected = {i["id"]: i["pid"] for v in service["versions"] for i in v["instances"]}
        there = marked(platform.layout.id)
        there = {name: pids for name, pids in there.items() if "__" in name}
        wrong = "; ".join(
            text
            for text, bad in {
                f"down: {down}": bool(down),
                f"problems: {status['problems']}": bool(status["problems"]),
                f"drift: {service['drift']}": bool(service["drift"]),
                f"traffic: {traffic}": traffic != {service["live"]: 100.0},
                f"processes {there}, not {expected}": {n: [p] for n, p in expected.items()} != there,
            }.items()
            if bad
        )
        if not wrong:
            return service["live"], ""
    return "", wrong


async def test_random_faults_at_random_points_of_random_rollouts(lifeline: Lifeline) -> None:
    print(f"\nSEED={SEED} ROUNDS={ROUNDS}")
    with RunningPlatform(lifeline) as platform:
        platform.replace("santiago.yaml", "rollback_window_seconds: 600", "rollback_window_seconds: 2")
        first = await asyncio.to_thread(platform.json, "deploy", "hello", "--env", "production", "--wait")
        live = first["version"]
        for nth in range(ROUNDS):
            rng = random.Random(f"{SEED} {nth}")
            live = await one_round(platform, rng, nth, live)


async def one_round(platform: RunningPlatform, rng: random.Random, nth: int, live: str) -> str:
    name = rng.choice(list(FAULTS))
    fault, allowed = FAULTS[name]
    strategy, broken, delay = rng.choice(["blue_green", "rolling"]), rng.random() < 0.25, rng.uniform(0, 1.2)
    told = f"round {nth}: {name} {delay:.2f} s into a {strategy} deploy of a {'broken' if broken else 'good'} release"
    print(told)
    source = (platform.root / "services/hello/server.py").read_text()
    if broken:
        (platform.root / "services/hello/server.py").write_text("raise SystemExit(1)\n")
    platform.set_version(f"round {nth} of {SEED}")
    machine = Machine(platform, rng)
    async with Load(platform.ingress_port, HOST, connections=CONNECTIONS) as tally:
        known = {o["id"] for o in await asyncio.to_thread(operations, platform)}
        await asyncio.to_thread(platform.santiago, "deploy", "hello", "-e", "production", "--strategy", strategy)
        await asyncio.sleep(delay)
        await asyncio.to_thread(fault, machine)
        operation = await asyncio.to_thread(ended, platform, known)
        after, wrong = await asyncio.to_thread(settled, platform)
    (platform.root / "services/hello/server.py").write_text(source)
    check(told, tally, allowed)
    assert wrong == "", f"SEED={SEED}, {told}: {wrong}"
    expected = {operation["version"]} if operation["state"] == "succeeded" else {live}
    assert {after} == expected, f"SEED={SEED}, {told}: {operation}"
    verified = await asyncio.to_thread(platform.json, "log", "verify")
    assert verified["intact"], f"SEED={SEED}, {told}: {verified}"
    return after


def check(told: str, tally: Tally, allowed: int | None) -> None:
    assert tally.sent > 0
    if allowed is not None:
        assert tally.failed <= allowed, f"SEED={SEED}, {told}: {tally.failures}"
