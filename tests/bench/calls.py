"""Tool calls: how many a second against a tool that does nothing, and how long agents wait who call now and then."""

from __future__ import annotations

import json
from statistics import median
from typing import Any

from .bare_server import bare_server
from .figure import Figure
from .load_client import Measured, Plan, measure
from .stage import WHERE, Stage, post

CONNECTIONS = 100
ROUNDS = 3
ROUND_SECONDS = 2.5
PERIOD_SECONDS = 8.0
PACED_SECONDS = 16.0
P95_MILLISECONDS = {100: 50.0, 1000: 250.0}
LEAST_RATIO = 0.6
VERSION = "2026-07-28"


def request(port: int, path: str, tool: str, arguments: dict[str, Any], token: str = "") -> str:
    """A tool call of protocol 2026-07-28 over HTTP, as it goes over the wire."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    call = {"name": tool, "arguments": arguments, "_meta": meta}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    body = json.dumps(message, separators=(",", ":"))
    headers = {
        "Host": f"127.0.0.1:{port}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "Mcp-Protocol-Version": VERSION,
        "Mcp-Method": "tools/call",
        "Mcp-Name": tool,
        "Content-Length": str(len(body)),
        **({"Authorization": f"Bearer {token}"} if token else {}),
    }
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", body])


def _requests(stage: Stage) -> dict[str, str]:
    platform = stage.platform
    (service,) = post(platform, "read_architecture", **WHERE)["services"]
    release = service["versions"][0]["release"]
    asked: dict[str, tuple[str, dict[str, Any]]] = {
        "read_architecture": ("read_architecture", {"environment": "production"}),
        "manage_operation status": ("manage_operation", {**WHERE, "action": "status"}),
        "deploy_service dry_run of a release": ("deploy_service", {**WHERE, "release": release, "dry_run": True}),
        "deploy_service dry_run of a git ref": ("deploy_service", {**WHERE, "git_ref": "HEAD", "dry_run": True}),
    }
    return {
        name: request(platform.server_port, "/mcp/json", tool, arguments, platform.token)
        for name, (tool, arguments) in asked.items()
    }


async def throughput(stage: Stage) -> list[Figure]:
    """In turns with the bare tool, so that a machine that slows down slows both."""
    ours = _requests(stage)
    rounds: dict[str, list[Measured]] = {"a bare tool": [], **{name: [] for name in ours}}
    with bare_server() as port:
        plans = {"a bare tool": (port, request(port, "/mcp", "noop", {}))}
        plans |= {name: (stage.platform.server_port, text) for name, text in ours.items()}
        for number in range(1, ROUNDS + 1):
            for name, (at, text) in plans.items():
                measured = measure(Plan(at, (text,), CONNECTIONS, ROUND_SECONDS, warm_seconds=0.5))
                stage.tell(f"round {number} of {ROUNDS}: {name}: {measured.calls_per_second:,.0f} calls/s")
                rounds[name].append(measured)
    figures = []
    bare = rounds["a bare tool"]
    for name, measured_rounds in rounds.items():
        rate = median(m.calls_per_second for m in measured_rounds)
        waits = "/".join(f"{median(m.quantile(q) for m in measured_rounds):.0f}" for q in (0.5, 0.95, 0.99))
        detail = f"p50/p95/p99 {waits} ms, {CONNECTIONS} connections"
        figures.append(Figure(name, rate, "calls/s", detail))
        if name != "a bare tool":
            pairs = zip(measured_rounds, bare, strict=True)
            ratios = [m.calls_per_second / b.calls_per_second for m, b in pairs]
            aim = LEAST_RATIO if not name.endswith("git ref") else None  # which runs git each time
            spread = f"{min(ratios):.2f} to {max(ratios):.2f} in {ROUNDS} rounds"
            figures.append(Figure(f"{name}, against the bare tool", median(ratios), "", spread, at_least=aim))
    return figures


async def paced(stage: Stage) -> list[Figure]:
    """Agents that call every 8 seconds, reading alternately the architecture and an operation."""
    texts = _requests(stage)
    reads = (texts["read_architecture"], texts["manage_operation status"])
    figures = []
    for agents, limit in P95_MILLISECONDS.items():
        stage.tell(f"{agents} agents, each calling every {PERIOD_SECONDS:g} s, for {PACED_SECONDS:g} s")
        measured = measure(Plan(stage.platform.server_port, reads, agents, PACED_SECONDS, PERIOD_SECONDS))
        waits = ", ".join(f"p{100 * q:g} {measured.quantile(q):.1f} ms" for q in (0.5, 0.99))
        detail = f"{waits}, {len(measured.milliseconds)} calls"
        figures.append(Figure(f"p95 of {agents} agents", measured.quantile(0.95), "ms", detail, at_most=limit))
    return figures
