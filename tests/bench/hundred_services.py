"""A hundred services with two instances each: how long it takes to deploy them, and what they cost while idle."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from statistics import median

import httpx2

from santiago_platform.adapters.local.platform import SYSTEM_UNITS
from santiago_platform.adapters.process import processes_of
from santiago_platform.testing.running_platform import RunningPlatform

from .figure import Figure
from .stage import Stage, cpu_seconds, pid_of, resident_bytes
from .tiny import add_tiny

SERVICES = 100
REPLICAS = 2  # as santiago.yaml has it for production
AT_ONCE = 4  # deploys
SETTLE_SECONDS = 10.0
IDLE_SECONDS = 60.0
DAEMON_PERCENT = 2.0
PASSES = "santiago_reconcile_pass_seconds"


async def hundred_services(stage: Stage) -> list[Figure]:
    """On a platform of their own, with the limits and probes of the service that `init` writes."""
    with RunningPlatform(stage.lifeline) as platform:
        names = [f"tiny-{number:03}" for number in range(SERVICES)]
        for name in names:
            add_tiny(platform, name, limits=True)
        platform.commit("services")
        stage.tell(f"deploying {SERVICES} services with {REPLICAS} instances each, {AT_ONCE} at once")
        began = time.perf_counter()
        seconds = await _deploy(platform, names)
        whole = time.perf_counter() - began
        stage.tell(f"deployed in {whole:.1f} s; settling for {SETTLE_SECONDS:g} s")
        await asyncio.sleep(SETTLE_SECONDS)
        return [
            Figure(
                f"{SERVICES} services deployed, {REPLICAS} instances each",
                whole,
                "s",
                f"from a commit, {AT_ONCE} at once; one takes {median(seconds):.2f} s, at most {max(seconds):.2f} s",
            ),
            *await _idle(stage, platform),
        ]


async def _deploy(platform: RunningPlatform, names: list[str]) -> list[float]:
    """Seconds that each of them took, as its caller waits for it."""
    seconds: list[float] = []
    turns = asyncio.Semaphore(AT_ONCE)
    headers = {"authorization": f"Bearer {platform.token}"}
    async with httpx2.AsyncClient(base_url=platform.url, headers=headers, trust_env=False, timeout=120) as client:

        async def one(name: str) -> None:
            asked = {"service": name, "environment": "production", "git_ref": "HEAD", "wait": True}
            async with turns:
                began = time.perf_counter()
                answer = (await client.post("/api/tools/deploy_service", json=asked)).json()
                seconds.append(time.perf_counter() - began)
            if answer.get("state") != "succeeded":
                raise RuntimeError(f"the deploy of {name} did not succeed: {answer}")

        await asyncio.gather(*map(one, names))
    return seconds


async def _idle(stage: Stage, platform: RunningPlatform) -> list[Figure]:
    system = {name: [pid_of(platform, name)] for name in SYSTEM_UNITS}
    mine = [process.pid for process in processes_of(platform.layout.id)]
    groups = {
        **system,
        "the supervision": [pid for pid in mine if _read(pid, "comm").startswith(b"s6-")],
        "the services": [pid for pid in mine if b"server.py" in _read(pid, "cmdline")],
    }
    before, passed = {name: sum(map(cpu_seconds, pids)) for name, pids in groups.items()}, _passes(platform)
    stage.tell(f"idle for {IDLE_SECONDS:g} s")
    began = time.monotonic()
    await asyncio.sleep(IDLE_SECONDS)
    elapsed = time.monotonic() - began
    spent = {name: 100 * (sum(map(cpu_seconds, pids)) - before[name]) / elapsed for name, pids in groups.items()}
    count, seconds = (after - then for after, then in zip(_passes(platform), passed, strict=True))
    figures = [
        Figure(
            f"{SERVICES} services: CPU of {name}",
            percent,
            "% of a core",
            f"idle for {elapsed:.0f} s",
            at_most=DAEMON_PERCENT if name == "daemon" else None,
        )
        for name, percent in spent.items()
    ]
    figures.append(
        Figure(
            f"{SERVICES} services: a reconcile pass over all",
            1000 * seconds / count,
            "ms",
            f"from its begin to its end; every {elapsed / count:.1f} s",
        )
    )
    for name, pids in groups.items():
        resident, proportional = (sum(map(of, pids)) / 2**20 for of in (resident_bytes, _proportional_bytes))
        detail = f"resident {resident:,.0f} MiB, where each of {len(pids)} counts what they share"
        figures.append(
            Figure(f"{SERVICES} services: memory of {name}", proportional, "MiB", detail if len(pids) > 1 else "")
        )
    return figures


def _proportional_bytes(pid: int) -> int:
    """Resident memory with each shared page divided among those who share it."""
    lines = _read(pid, "smaps_rollup").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(b"Pss:"))


def _read(pid: int, file: str) -> bytes:
    """Empty where the process is gone."""
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes()
    except OSError:
        return b""


def _passes(platform: RunningPlatform) -> tuple[float, float]:
    """How many the daemon has counted, and the seconds that they took together."""
    headers = {"authorization": f"Bearer {platform.token}"}
    text = httpx2.get(f"{platform.url}/metrics", headers=headers, trust_env=False).text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    count, total = (float(values[f'{PASSES}_{part}{{loop="sweep"}}']) for part in ("count", "sum"))
    return count, total
