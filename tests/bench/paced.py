"""Agents that call now and then: how long they wait for their answers."""

from __future__ import annotations

from .figure import Figure
from .load_client import Plan, measure
from .stage import Stage
from .throughput import READS
from .transports import AIMED, OTHERS, PLAIN, Transport

PERIOD_SECONDS = 8.0
SECONDS = 16.0
OTHERS_SECONDS = 10.0
P95_MILLISECONDS = {100: 50.0, 1000: 250.0}


async def paced(stage: Stage) -> list[Figure]:
    """Agents that call every 8 seconds, reading alternately the architecture and an operation."""
    figures = [_paced(stage, AIMED, agents, SECONDS, limit) for agents, limit in P95_MILLISECONDS.items()]
    return figures + [_paced(stage, transport, 1000, OTHERS_SECONDS) for transport in (*OTHERS, PLAIN)]


def _paced(stage: Stage, transport: Transport, agents: int, seconds: float, limit: float | None = None) -> Figure:
    port, token = stage.platform.server_port, stage.platform.token
    calls = [transport.call(port, *asked, token, sessions=agents // len(READS)) for asked in READS.values()]
    # Each agent of an older protocol has a session of its own.
    texts = tuple(text for together in zip(*(call.texts(port) for call in calls), strict=True) for text in together)
    stage.tell(f"{transport.name}: {agents:,} agents, each calling every {PERIOD_SECONDS:g} s, for {seconds:g} s")
    measured = measure(Plan(port, texts, agents, seconds, PERIOD_SECONDS))
    waits = ", ".join(f"p{100 * q:g} {measured.quantile(q):.1f} ms" for q in (0.5, 0.99))
    detail = f"{waits}, {len(measured.milliseconds):,} calls"
    prefix = "" if transport is AIMED else f"{transport.name}: "
    return Figure(f"{prefix}p95 of {agents:,} agents", measured.quantile(0.95), "ms", detail, at_most=limit)
