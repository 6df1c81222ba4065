"""The platform's own life: how fast it starts, how fast it is back after kill -9, how much memory it takes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from statistics import median

import httpx2

from santiago_platform.adapters.local.platform import SYSTEM_UNITS
from santiago_platform.adapters.local.unit import RAPID_SECONDS
from santiago_platform.testing.load import Load
from santiago_platform.testing.running_platform import RunningPlatform

from .figure import Figure
from .stage import HOST, WHERE, Stage, pid_of, post, resident_bytes

ROUNDS = 3
SETTLED_SECONDS = RAPID_SECONDS + 1
START_SECONDS = 2.0
DAEMON_MIB = 150.0


async def start(stage: Stage) -> list[Figure]:
    """`santiago up -d` until it returns, which is when the server says that it is ready."""
    first, again = [], []
    for number in range(1, ROUNDS + 1):
        with RunningPlatform(stage.lifeline, up=False) as platform:
            for seconds in (first, again):
                began = time.perf_counter()
                platform.santiago("up", "-d")
                seconds.append(time.perf_counter() - began)
                platform.santiago("down")
        stage.tell(f"round {number} of {ROUNDS}: up -d took {first[-1]:.2f} s, and {again[-1]:.2f} s the second time")
    return [
        Figure("`up -d` in a new workspace", median(first), "s", _spread(first), at_most=START_SECONDS),
        Figure("`up -d` again", median(again), "s", _spread(again), at_most=START_SECONDS),
    ]


async def recovery(stage: Stage) -> list[Figure]:
    """kill -9 of the daemon while users ask: until it answers a tool call again, and what they notice."""
    platform = stage.platform
    seconds = []
    async with Load(platform.ingress_port, HOST) as tally:
        for number in range(1, ROUNDS + 1):
            stage.tell(f"waiting {SETTLED_SECONDS} s: a daemon that dies young is started again more slowly")
            await asyncio.sleep(SETTLED_SECONDS)
            os.kill(pid_of(platform, "daemon"), signal.SIGKILL)
            began = time.perf_counter()
            await asyncio.to_thread(_answered, platform)
            seconds.append(time.perf_counter() - began)
            stage.tell(f"round {number} of {ROUNDS}: killed, and answering again after {seconds[-1]:.2f} s")
    why = "; ".join(f"{count} x {words}" for words, count in tally.failures.most_common(3))
    return [
        Figure("kill -9 of the daemon until it answers", median(seconds), "s", _spread(seconds), at_most=2),
        Figure("failed requests meanwhile", tally.failed, "", why or f"of {tally.sent:,}", at_most=0),
    ]


async def memory(stage: Stage) -> list[Figure]:
    """Resident memory of the platform's processes, after whatever else was measured before."""
    found = {name: resident_bytes(pid_of(stage.platform, name)) / 2**20 for name in SYSTEM_UNITS}
    return [
        Figure(f"memory of {name}", mib, "MiB", "resident", at_most=DAEMON_MIB if name == "daemon" else None)
        for name, mib in found.items()
    ]


def _answered(platform: RunningPlatform) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(httpx2.TransportError):
            post(platform, "manage_operation", **WHERE, action="status")
            return
        time.sleep(0.005)
    raise RuntimeError("the daemon did not come back")


def _spread(seconds: list[float]) -> str:
    return f"{min(seconds):.2f} to {max(seconds):.2f}; {len(seconds)} runs"
