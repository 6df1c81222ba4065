"""A worker is replaced while it works, and no job is lost or done twice.

    python examples/02-a-worker-and-its-desk/demo.py

It makes a workspace of its own in a temporary folder, and leaves nothing behind, also on Ctrl-C.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client
from rich.console import Console

from santiago_platform.testing.eventually import eventually
from santiago_platform.testing.lifeline import Lifeline
from santiago_platform.testing.running_platform import RunningPlatform, call

console = Console(highlight=False, markup=False, soft_wrap=True)
HERE = Path(__file__).parent
ENVIRONMENT = "production"
JOBS = 400


async def deploy(client: Client, service: str, **how: Any) -> bool:
    asked = {"service": service, "environment": ENVIRONMENT, "git_ref": "HEAD", "wait": True, **how}
    operation = await call(client, "deploy_service", asked)
    console.print(f"{operation['state']}: {service} {operation['version']} in {operation['seconds']:.1f} s")
    for line in (operation["proof"] or {"evidence": [operation["reason"]]})["evidence"]:
        console.print(f"  {line}")
    return operation["state"] == "succeeded"


async def counts(client: Client, http: httpx2.AsyncClient) -> dict[str, Any]:
    """What the desk's second port says: the ingress does not lead there."""
    found = await call(client, "read_architecture", {"service": "desk", "environment": ENVIRONMENT})
    _, admin = found["services"][0]["versions"][0]["instances"][0]["address"].split(", ")
    answer: dict[str, Any] = (await http.get(f"http://{admin}/")).json()
    return answer


async def run(platform: RunningPlatform) -> bool:
    host = {"Host": f"desk.{ENVIRONMENT}.localhost"}
    async with platform.client() as client, httpx2.AsyncClient(trust_env=False) as http:
        ended = [await deploy(client, "desk", replicas=1), await deploy(client, "clerk", strategy="rolling")]
        for job in range(JOBS):
            await http.post(f"http://127.0.0.1:{platform.ingress_port}/jobs", json=job, headers=host)
        console.print(f"{JOBS} jobs are on the desk; the clerks are replaced while they work")
        platform.set_version("2", "clerk")
        ended.append(await deploy(client, "clerk", strategy="rolling"))
        seen = await eventually(lambda: counts(client, http), lambda seen: len(seen["done"]) >= JOBS, seconds=30)
    times = Counter(entry["job"] for entry in seen["done"])
    by = Counter(entry["by"] for entry in seen["done"])
    twice = sum(count > 1 for count in times.values())
    console.print(
        f"{JOBS - len(times)} of {JOBS} jobs were lost, {twice} done twice; by version: {dict(sorted(by.items()))}"
    )
    return all(ended) and len(times) == JOBS and not twice and len(by) == 2


def main() -> int:
    lifeline = Lifeline()
    # A kill is taken as Ctrl-C is, so that everything ends in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with RunningPlatform(lifeline) as platform:
            shutil.copytree(HERE / "services", platform.root / "services", dirs_exist_ok=True)
            platform.commit("A worker and its desk")
            return 0 if asyncio.run(run(platform)) else 1
    except KeyboardInterrupt:
        console.print("interrupted: everything that was started has ended")
        return 130
    finally:
        lifeline.close()


if __name__ == "__main__":
    sys.exit(main())
