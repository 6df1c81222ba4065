"""A good release takes over by steps, and a bad one is found out by statistics and taken back, under load.

    python examples/03-a-canary-and-its-judge/demo.py

It makes a workspace of its own in a temporary folder, and leaves nothing behind, also on Ctrl-C.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from typing import Any

import httpx2
from mcp import Client
from rich.console import Console

from santiago_platform.testing.eventually import eventually
from santiago_platform.testing.lifeline import Lifeline
from santiago_platform.testing.load import Load, Tally
from santiago_platform.testing.running_platform import RunningPlatform, call

console = Console(highlight=False, markup=False, soft_wrap=True)
WHERE = {"service": "hello", "environment": "production"}
HOST = "hello.production.localhost"
# Shorter than anybody would have it, and a judge that looks each second: the demo is not to take minutes.
CANARY = """\
      canary:
        steps:
          - {weight: 10, pause_seconds: 6}
          - {weight: 50, analysis: true}
        visitors:
          - header: {x-canary: always}
        bucket_seconds: 1
        max_wait_seconds: 60
        otherwise: abort
"""
# Where the service chooses its answer, and what comes before it in a version that fails a fifth of them.
GOOD = "        status, body = {\n"
BAD = '        if self.path == "/" and os.urandom(1)[0] < 51:\n            return self.send_error(500)\n'


async def deploy(client: Client, ref: str, strategy: str) -> dict[str, Any]:
    """To its end, telling each phase and each step as the server reports it, and of the judge's looks the first."""
    seen: set[str] = set()

    async def told(_done: float, _total: float | None, message: str | None) -> None:
        text = (message or "").removesuffix(", ")
        about = text.partition(": waits for ")[0]
        if about not in seen:
            console.print(f"  {text[:120]}")
        seen.add(about)

    asked = {**WHERE, "git_ref": ref, "strategy": strategy, "wait": True, "timeout_seconds": 90}
    operation = await call(client, "deploy_service", asked, progress_callback=told)
    console.print(f"{operation['state']}: {operation['version']} in {operation['seconds']:.1f} s {operation['reason']}")
    for line in operation["proof"]["evidence"]:
        console.print(f"  {line}")
    return operation


async def visit(platform: RunningPlatform, client: Client) -> Counter[str]:
    """Once the canary has its first share: who answers twenty requests with the visitors' header."""

    async def phase() -> str:
        asked = {**WHERE, "action": "status"}
        return str((await call(client, "manage_operation", asked))["operations"][0]["phase"])

    await eventually(phase, lambda seen: seen == "analysing", seconds=20)
    headers = {"host": HOST, "x-canary": "always"}
    async with httpx2.AsyncClient(trust_env=False, headers=headers) as http:
        answers = [await http.get(f"http://127.0.0.1:{platform.ingress_port}/") for _ in range(20)]
    return Counter(answer.json()["version"] for answer in answers)


async def answered(tally: Tally, more: int) -> None:
    wanted = len(tally.seconds) + more

    async def look() -> int:
        return len(tally.seconds)

    await eventually(look, lambda seen: seen >= wanted, seconds=20)


async def run(platform: RunningPlatform) -> bool:
    async with platform.client() as client:
        first = await deploy(client, "HEAD", "blue_green")
        async with Load(platform.ingress_port, HOST, connections=12, pause_seconds=0.005) as tally:
            console.print("traffic begins, and does not stop; a good release comes as a canary")
            rollout = asyncio.create_task(deploy(client, platform.set_version("2"), "canary"))
            visitors = await visit(platform, client)
            good = await rollout
            console.print(f"the visitors' 20 requests at 10%: {dict(visitors)}")
            console.print(f"{tally.failed} of {tally.sent} requests failed")
            whole = tally.failed == 0
            console.print("a release that answers a fifth of its requests with 500 comes as a canary")
            platform.replace("services/hello/server.py", GOOD, BAD + GOOD)
            before = tally.sent
            bad = await deploy(client, platform.set_version("3"), "canary")
            await answered(tally, 50)  # what was in flight
            console.print(f"{tally.failed} of {tally.sent - before} requests failed while it had a share")
            failed, sent = tally.failed, tally.sent
            tally.versions.clear()
            await answered(tally, 500)
            console.print(f"{tally.failed - failed} of {tally.sent - sent} requests failed since it is gone")
            healed = tally.failed == failed and set(tally.versions) == {good["version"]}
    ended = [first["state"], good["state"], bad["state"]]
    return whole and healed and visitors == {"2": 20} and ended == ["succeeded", "succeeded", "rolled_back"]


def main() -> int:
    lifeline = Lifeline()
    # A kill is taken as Ctrl-C is, so that everything ends in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with RunningPlatform(lifeline) as platform:
            platform.replace("santiago.yaml", "      strategy: blue_green\n", "      strategy: blue_green\n" + CANARY)
            platform.commit("How canaries go")
            return 0 if asyncio.run(run(platform)) else 1
    except KeyboardInterrupt:
        console.print("interrupted: everything that was started has ended")
        return 130
    finally:
        lifeline.close()


if __name__ == "__main__":
    sys.exit(main())
