"""The switch from one version to the other at full load: by the platform, and by proxies as their users drive them."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from .figure import Figure
from .proxies import DRIVEN, Proxy
from .service_load import Measured, loaded
from .stage import Stage, post
from .tiny import add_tiny, started

VERSIONS = ("v1", "v2")
REPLICAS = 2
ROUNDS = 5
CONNECTIONS = 32
BEFORE_SECONDS, AFTER_SECONDS = 0.5, 0.7
OURS = "Santiago"
WHERE = {"service": "tiny", "environment": "production"}
HOST = "tiny.production.localhost"


@dataclass(frozen=True)
class Switched:
    """first_new, last_old: milliseconds from when the proxy was told, to answers as the clients got them."""

    first_new: float
    last_old: float
    load: Measured


async def switch(stage: Stage) -> list[Figure]:
    """There and back in turns, each time with a load of its own, so that a machine that slows down slows all."""
    seen: dict[str, list[Switched]] = {}
    with ExitStack() as stack:
        backends = stack.enter_context(started(VERSIONS, REPLICAS))
        proxies = {OURS: _ours(stage)}
        for name, driven in DRIVEN.items():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            proxies[name] = stack.enter_context(driven(folder, backends))
        for number in range(1, ROUNDS + 1):
            before, after = VERSIONS if number % 2 else VERSIONS[::-1]
            for name, proxy in proxies.items():
                switched = await asyncio.to_thread(_switched, proxy, before, after)
                seen.setdefault(name, []).append(switched)
                stage.tell(
                    f"round {number} of {ROUNDS}: {name}: the last old answer after {switched.last_old:.1f} ms, "
                    f"{switched.load.failed} of {switched.load.requests:,} failed"
                )
    return _figures(seen)


def _ours(stage: Stage) -> Proxy:
    """A whole deploy, with its proof. Its switch is the renaming of the routes that both Envoys follow."""
    platform = stage.platform
    add_tiny(platform, WHERE["service"], limits=False)
    releases = {}
    for version in VERSIONS:
        platform.set_version(version, WHERE["service"])
        releases[version] = platform.json("release", WHERE["service"])["digest"]

    def switch(version: str) -> float:
        ended = post(platform, "deploy_service", **WHERE, release=releases[version], strategy="blue_green", wait=True)
        if ended["state"] != "succeeded":
            raise RuntimeError(f"the deploy ended as {ended['state']}: {ended['reason']}")
        return (platform.layout.xds / "rds.json").stat().st_ctime  # a rename sets it

    switch(VERSIONS[0])
    return Proxy(platform.ingress_port, switch)


def _switched(proxy: Proxy, before: str, after: str) -> Switched:
    with loaded(proxy.port, host=HOST, connections=CONNECTIONS) as end:
        time.sleep(BEFORE_SECONDS)
        told = proxy.switch(after)
        time.sleep(AFTER_SECONDS)
        load = end()
    old, new = load.versions[before], load.versions[after]
    return Switched(1000 * (new.first - told), 1000 * (old.last - told), load)


def _figures(seen: dict[str, list[Switched]]) -> list[Figure]:
    figures = []
    for name, rounds in seen.items():
        last = [each.last_old for each in rounds]
        first = median(each.first_new for each in rounds)
        detail = (
            f"{min(last):.1f} to {max(last):.1f} in {len(rounds)} rounds; the first new one after {first:.1f} ms; "
            f"{median(each.load.per_second for each in rounds):,.0f} requests/s"
        )
        figures.append(Figure(f"switch by {name}: the last old answer", median(last), "ms", detail))
        failed = sum(each.load.failed for each in rounds)
        kinds = Counter[str]()
        for each in rounds:
            kinds.update(each.load.errors)
        why = "".join(f"; {count} x {kind}" for kind, count in kinds.items() if count)
        requests = sum(each.load.requests for each in rounds)
        aim = 0 if name == OURS else None
        figures.append(Figure(f"switch by {name}: failed requests", failed, "", f"of {requests:,}{why}", at_most=aim))
    by_hand = zip(seen[OURS], seen["Envoy by hand"], strict=True)
    ratios = [ours.last_old / hand.last_old for ours, hand in by_hand]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds"
    figures.append(Figure(f"switch by {OURS}, against Envoy by hand", median(ratios), "", spread))
    return figures
