"""Canaries that are bad: from the first failed answer to the last one of the bad version."""

from __future__ import annotations

import asyncio
import time
from statistics import median
from typing import Any

from santiago_platform.testing.load import Load, Tally
from santiago_platform.testing.running_platform import RunningPlatform

from .figure import Figure
from .stage import HOST, WHERE, Stage, post

RUNS = 3
CONNECTIONS, PAUSE_SECONDS = 20, 0.038  # about 500 requests a second
LIMITS = {0.05: 10.0, 0.2: 6.0}  # share of errors -> seconds
PEERS = "an interval of Flagger or Argo Rollouts is a minute, and two or more of them decide"
_CANARY = "canary: {bucket_seconds: 1, latency: false, steps: [{weight: 10, pause_seconds: 120}]}"


async def canary(stage: Stage) -> list[Figure]:
    """500 requests a second, 10% of them to the canary, 0 to 1 errors of the old version."""
    platform = stage.platform
    platform.replace("santiago.yaml", "strategy: blue_green\n", f"strategy: blue_green\n      {_CANARY}\n")
    server = platform.root / "services/hello/server.py"
    good = server.read_text()
    figures = []
    for share, limit in LIMITS.items():
        seconds, rates = [], []
        for number in range(RUNS):
            server.write_text(_failing(good, share))
            platform.set_version(f"bad-{share}-{number}")
            took, rate = await _taken_back(platform)
            seconds.append(took)
            rates.append(rate)
        stage.tell(f"{share:.0%} errors: taken back after {', '.join(f'{s:.1f}' for s in seconds)} s")
        runs = f"{min(seconds):.1f} to {max(seconds):.1f}; {RUNS} runs at {median(rates):,.0f} requests/s; {PEERS}"
        figures.append(
            Figure(f"a canary with {share:.0%} errors is gone after", median(seconds), "s", runs, at_most=limit)
        )
    server.write_text(good)
    platform.set_version("good again")
    return figures


def _failing(server: str, share: float) -> str:
    answer = "    def answer(self):\n"
    fails = (
        f'        if self.path == "/" and __import__("random").random() < {share}:\n'
        '            self.send_response(500)\n            self.send_header("Content-Length", "0")\n'
        "            self.end_headers()\n            return\n"
    )
    return server.replace(answer, answer + fails)


async def _taken_back(platform: RunningPlatform) -> tuple[float, float]:
    """Seconds from the first failed answer to the last of the canary, and the requests a second."""
    load = Load(platform.ingress_port, HOST, connections=CONNECTIONS, pause_seconds=PAUSE_SECONDS)
    async with load as tally:
        began = time.monotonic()
        deploying = asyncio.create_task(asyncio.to_thread(_deploy, platform))
        seen: dict[str, tuple[float, float]] = {}
        watching = asyncio.create_task(_watch(tally, seen))
        ended = await deploying
        await asyncio.sleep(0.5)  # what was in flight
        watching.cancel()
        rate = tally.sent / (time.monotonic() - began)
    if ended["state"] != "rolled_back":
        raise RuntimeError(f"the deploy ended as {ended['state']}: {ended['reason']}")
    first, last = seen[ended["version"]]
    return last - first, rate


async def _watch(tally: Tally, seen: dict[str, tuple[float, float]]) -> None:
    """Notes of each version when the first failure was seen, and when its last answer came."""
    first, counts = 0.0, dict(tally.versions)
    while True:
        await asyncio.sleep(0.002)
        now = time.monotonic()
        first = first or (now if tally.failed else 0.0)
        for version, count in tally.versions.items():
            if count != counts.get(version):
                counts[version] = count
                seen[version] = (first or now, now)


def _deploy(platform: RunningPlatform) -> dict[str, Any]:
    return post(platform, "deploy_service", **WHERE, git_ref="HEAD", strategy="canary", wait=True)
