"""Tool calls: how many a second, against a tool that does nothing on a server of the same SDK."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import httpx2

from .bare_server import BareServer, bare_server
from .figure import Figure
from .stage import WHERE, Stage, pid_of, post
from .transports import AIMED, HEADERS, OTHERS, PLAIN, Transport
from .wrk import Call, Load, load

AGENTS = 100
ROUNDS = 3
ROUND_SECONDS = 2
WARM_SECONDS = 1
LEAST_RATIO = 0.6

ARCHITECTURE = ("read_architecture", {"environment": "production"})
STATUS = ("manage_operation", {**WHERE, "action": "status"})
READS: dict[str, tuple[str, dict[str, Any]]] = {"read_architecture": ARCHITECTURE, "manage_operation status": STATUS}


@dataclass(frozen=True)
class _Target:
    call: Call
    port: int
    server: int
    agents: int = AGENTS

    def load(self) -> Load:
        """After a warm-up, whose last requests the server has done with; a thousand take a second to come and go."""
        if self.agents <= AGENTS:
            load(self.call, self.port, self.server, self.agents, WARM_SECONDS)
        httpx2.get(f"http://127.0.0.1:{self.port}/", trust_env=False, timeout=60)
        return load(self.call, self.port, self.server, self.agents, ROUND_SECONDS if self.agents <= AGENTS else 5)


async def throughput(stage: Stage) -> list[Figure]:
    """In turns with the bare tool, so that a machine that slows down slows both."""
    ours = {"port": stage.platform.server_port, "server": pid_of(stage.platform, "daemon")}
    token = stage.platform.token
    release = post(stage.platform, "read_architecture", **WHERE)["services"][0]["versions"][0]["release"]
    plans: dict[str, tuple[str, dict[str, Any]]] = {
        "deploy_service dry_run of a release": ("deploy_service", {**WHERE, "release": release, "dry_run": True}),
        "deploy_service dry_run of a git ref": ("deploy_service", {**WHERE, "git_ref": "HEAD", "dry_run": True}),
    }

    def targets(
        transport: Transport, bare: BareServer, calls: dict[str, tuple[str, dict[str, Any]]], agents: int = AGENTS
    ) -> dict[str, _Target]:
        noop = transport.call(bare.port, "noop", {}, bare=True, sessions=agents)
        found = {"a bare tool": _Target(noop, bare.port, bare.pid, agents)}
        for name, (tool, arguments) in calls.items():
            call = transport.call(ours["port"], tool, arguments, token, sessions=agents)
            found[name] = _Target(call, **ours, agents=agents)
        return found

    figures: list[Figure] = []
    with bare_server(streams=False) as json_server, bare_server(streams=True) as stream_server:
        figures += _compared(stage, "", targets(AIMED, json_server, READS | plans), ROUNDS)
        for agents in (1, 1000):
            who = f"{agents:,} agent{'s' if agents > 1 else ''}: "
            figures += _compared(stage, who, targets(AIMED, json_server, READS, agents), 1)
        for transport in OTHERS:
            bare = stream_server if transport.streams else json_server
            figures += _compared(stage, f"{transport.name}: ", targets(transport, bare, READS), 1)
    for name, (tool, arguments) in READS.items():
        call = PLAIN.call(ours["port"], tool, arguments, token)
        figures += _alone(stage, f"{PLAIN.name}: {name}", _Target(call, **ours))
    issue = Call("/api/tokens", (*HEADERS.items(), ("Authorization", f"Bearer {token}")), _TOKEN)
    return figures + _alone(stage, "a change: a token is issued", _Target(issue, **ours), "its record and row durable")


_TOKEN = '{"name":"bench","role":"observer","ttl_seconds":60}'


def _compared(stage: Stage, prefix: str, targets: dict[str, _Target], rounds: int) -> list[Figure]:
    loads: dict[str, list[Load]] = {name: [] for name in targets}
    for number in range(1, rounds + 1):
        for name, target in targets.items():
            loads[name].append(target.load())
            rate = loads[name][-1].calls_per_second
            stage.tell(f"{prefix}round {number} of {rounds}: {name}: {rate:,.0f} calls/s")
    bare = loads["a bare tool"]
    figures = []
    for name, measured in loads.items():
        figures.append(_figure(prefix + name, measured, targets[name].agents))
        if name != "a bare tool":
            ratios = [m.calls_per_second / b.calls_per_second for m, b in zip(measured, bare, strict=True)]
            by_cpu = median(b.cpu_milliseconds / m.cpu_milliseconds for m, b in zip(measured, bare, strict=True))
            spread = f"{min(ratios):.2f} to {max(ratios):.2f} in {rounds} rounds, " if rounds > 1 else ""
            # The aim is for this transport and a hundred agents; a git ref is looked up by git itself.
            aim = LEAST_RATIO if not prefix and not name.endswith("git ref") else None
            what = f"{prefix}{name}, against the bare tool"
            figures.append(Figure(what, median(ratios), "", f"{spread}{by_cpu:.2f} by CPU time", at_least=aim))
    return figures


def _alone(stage: Stage, name: str, target: _Target, more: str = "") -> list[Figure]:
    measured = target.load()
    stage.tell(f"{name}: {measured.calls_per_second:,.0f} calls/s")
    return [_figure(name, [measured], target.agents, more)]


def _figure(name: str, loads: Sequence[Load], agents: int, more: str = "") -> Figure:
    rate = median(m.calls_per_second for m in loads)
    waits = "/".join(f"{median(m.milliseconds[n] for m in loads):.3g}" for n in range(3))
    cpu = median(m.cpu_milliseconds for m in loads)
    detail = f"p50/p95/p99 {waits} ms, {agents:,} connection{'s' if agents > 1 else ''}, {cpu:.2f} ms of CPU a call"
    return Figure(name, rate, "calls/s", f"{detail}, {more}" if more else detail)
