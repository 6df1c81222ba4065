"""Deploys: what the platform adds to the service's own start-up, and what users notice of it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from statistics import median

import httpx2

from santiago_platform.testing.load import Load

from .figure import Figure
from .stage import HOST, WHERE, Stage, post

STARTS = 5
QUIET_DEPLOYS = 5
LOADED_DEPLOYS = 6
LOAD_CONNECTIONS = 32
REPLICAS = 2  # as santiago.yaml has it for production
BEYOND_SECONDS = 1.5


async def deploys(stage: Stage) -> list[Figure]:
    """Blue-green with two instances: of releases that are built, then of commits while clients ask without a pause."""
    platform = stage.platform
    own = median([_own_start(platform.root / "services/hello/server.py") for _ in range(STARTS)])
    stage.tell(f"two instances that are started by hand answer after {own:.2f} s")
    quiet = []
    for number in range(QUIET_DEPLOYS):
        platform.set_version(f"quiet-{number}")
        release = (await asyncio.to_thread(platform.json, "release", "hello"))["digest"]
        quiet.append(await asyncio.to_thread(_deploy, stage, release=release))
    stage.tell(f"deploys of built releases took {', '.join(f'{s:.2f}' for s in quiet)} s")
    loaded = []
    async with Load(platform.ingress_port, HOST, connections=LOAD_CONNECTIONS, pause_seconds=0) as tally:
        began = time.monotonic()
        for number in range(LOADED_DEPLOYS):
            platform.set_version(f"loaded-{number}")
            loaded.append(await asyncio.to_thread(_deploy, stage, git_ref="HEAD"))
        rate = tally.sent / (time.monotonic() - began)
    stage.tell(f"under load they took {', '.join(f'{s:.2f}' for s in loaded)} s; {tally.failed} requests failed")
    why = "; ".join(f"{count} x {words}" for words, count in tally.failures.most_common(3))
    detail = f"of {tally.sent:,} at {rate:,.0f}/s by {len(tally.versions)} versions"
    return [
        Figure("the service's own start-up", own, "s", f"two at once, by hand; median of {STARTS}"),
        Figure(
            "a blue-green deploy", median(quiet), "s", f"{min(quiet):.2f} to {max(quiet):.2f}; {QUIET_DEPLOYS} runs"
        ),
        Figure("a deploy beyond that start-up", median(quiet) - own, "s", at_most=BEYOND_SECONDS),
        Figure(
            "a deploy from a commit, at full load",
            median(loaded),
            "s",
            f"{min(loaded):.2f} to {max(loaded):.2f}, with its build; {LOADED_DEPLOYS} runs",
        ),
        Figure(f"failed requests over {LOADED_DEPLOYS} deploys", tally.failed, "", why or detail, at_most=0),
    ]


def _deploy(stage: Stage, **what: str) -> float:
    """Seconds from the request to the answer that it is proven, as the caller waits for it."""
    began = time.perf_counter()
    ended = post(stage.platform, "deploy_service", **WHERE, **what, strategy="blue_green", wait=True)
    seconds = time.perf_counter() - began
    if ended["state"] != "succeeded":
        raise RuntimeError(f"the deploy ended as {ended['state']}: {ended['reason']}")
    return seconds


def _own_start(script: os.PathLike[str]) -> float:
    """Seconds until instances answer that nobody but a shell starts."""
    ports = [_free_port() for _ in range(REPLICAS)]
    began = time.perf_counter()
    with _started(script, ports):
        for port in ports:
            while True:
                with suppress(httpx2.TransportError):
                    if httpx2.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code == 200:
                        break
                time.sleep(0.002)
        return time.perf_counter() - began


@contextmanager
def _started(script: os.PathLike[str], ports: list[int]) -> Iterator[None]:
    processes = [
        subprocess.Popen(
            ["python3", str(script)],
            env={"PATH": os.environ["PATH"], "PORT": str(port)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for port in ports
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
