"""A release passes its gates on the way to production, and a flag switches on there what it brought, without a deploy.

    python examples/04-flags-and-gates/demo.py

It makes a workspace of its own in a temporary folder, and leaves nothing behind, also on Ctrl-C.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp import Client
from rich.console import Console

from santiago_platform.testing.lifeline import Lifeline
from santiago_platform.testing.running_platform import RunningPlatform, call

console = Console(highlight=False, markup=False, soft_wrap=True)
GATES = """\
  production:
    gates:
      - {type: tests, min_tests: 2}
      - {type: signature}
      - {type: promotion, minutes: 0}
      - {type: error_budget}
"""
FAILED = '<testsuite><testcase name="greets"/><testcase name="counts"><failure/></testcase></testsuite>'
PASSED = '<testsuite><testcase name="greets"/><testcase name="counts"/></testsuite>'
READS = 100
EDITED = "by hand, while the platform was down"


def attest(platform: RunningPlatform, token: str, release: str, junit: str) -> None:
    """As a pipeline does it: the file of results, of exactly this release."""
    answer = httpx2.put(
        f"{platform.url}/evidence/{release}",
        params={"name": "unit"},
        headers={"authorization": f"Bearer {token}"},
        content=junit,
        trust_env=False,
    )
    console.print(f"evidence: {answer.raise_for_status().json()['summary']}")


async def deploy(client: Client, environment: str, release: str, **how: Any) -> dict[str, Any]:
    asked = {"service": "hello", "environment": environment, "release": release, **how}
    operation = await call(client, "deploy_service", asked)
    console.print(f"{operation['state']}: hello/{environment} {operation['reason']}")
    for line in operation["gates"]:
        console.print(f"  {line}")
    return operation


async def gates(platform: RunningPlatform, client: Client) -> list[str]:
    """How four deploys end: two that are planned and would be refused, and two that are let through."""
    release = platform.json("release", "hello")["digest"]
    token = platform.json("token", "issue", "--role", "pipeline", "--name", "ci")["token"]
    states = []
    for junit in (FAILED, PASSED):
        attest(platform, token, release, junit)
        planned = await deploy(client, "production", release, dry_run=True)
        states.append("refused" if "refused" in planned["next"] else "let through")
    states.append((await deploy(client, "staging", release, wait=True))["state"])
    states.append((await deploy(client, "production", release, wait=True))["state"])
    return states


async def change(client: Client, action: str, **how: Any) -> dict[str, Any]:
    answer = await call(client, "configure_flag", {"action": action, "flag": "new-greeting", **how})
    (done,) = answer["changes"]
    console.print(f"{done['state']}: {done['what']}, {done['proof']['verdict']}")
    return done


@asynccontextmanager
async def told(http: httpx2.AsyncClient, base: str) -> AsyncIterator[AsyncIterator[float]]:
    """When the stream of changes told of one, as a page's provider hears of it: monotonic seconds."""
    all_flags = (await http.post(f"{base}/ofrep/v1/evaluate/flags", json={"context": {}})).json()
    async with http.stream("GET", all_flags["eventStreams"][0]["url"], timeout=20) as stream:
        lines = stream.aiter_lines()
        await anext(lines)  # it is open
        yield (time.monotonic() async for line in lines if line.startswith("data:"))


async def flags(platform: RunningPlatform, client: Client) -> bool:
    """Off, on for a third, and, while the daemon is dead, on for all by hand."""
    base = ""
    async with httpx2.AsyncClient(trust_env=False) as http:

        async def read() -> Counter[str]:
            seen: Counter[str] = Counter()
            for number in range(READS):
                who = {"context": {"targetingKey": f"user-{number}"}}
                answer = await http.post(f"{base}/ofrep/v1/evaluate/flags/new-greeting", json=who)
                seen[str(answer.json().get("value"))] += 1
            return seen

        await change(client, "set", definition={"metadata": {"owner": "web", "expires": "2099-12-31"}})
        base = (await call(client, "configure_flag", {"action": "list", "environment": "production"}))["url"]
        seen = [await read()]
        await change(client, "set", percent=30)
        seen.append(await read())
        daemon = next(unit for unit in platform.platform.units() if unit.name == "daemon")
        async with told(http, base) as changes:
            os.kill(daemon.pid, signal.SIGKILL)
            console.print(f"kill -9 {daemon.pid}: the daemon is gone")
            file = platform.root / "flags.json"
            text = file.read_text()
            began = time.monotonic()
            file.write_text(text.replace('"on", 30', '"on", 100').replace('"off", 70', '"off", 0'))
            console.print(f"edited by hand: clients were told {await anext(changes) - began:.2f} s later")
        seen.append(await read())
    for users in seen:
        console.print(f"  of {READS} users: {dict(users)}")
    failed = sum(READS - sum(users[value] for value in ("True", "False")) for users in seen)
    console.print(f"{failed} of {READS * len(seen)} reads failed")
    return failed == 0 and 15 < seen[1]["True"] < 45 and seen[2] == {"True": READS}


async def kill(platform: RunningPlatform) -> bool:
    """Off for everybody, once the next daemon is there; what was edited by hand is in the ship's log by then."""
    async with platform.client() as client:
        done = await change(client, "kill", environment="production", reason="the greeting is rude")
    log = "".join(path.read_text() for path in platform.layout.ship_log.glob("*.jsonl"))
    verified = platform.json("log", "verify")
    console.print(f"the ship's log has {verified['entries']} entries in one chain, and the edit is one of them")
    return done["state"] == "succeeded" and verified["intact"] and EDITED in log


async def run(platform: RunningPlatform) -> bool:
    async with platform.client() as client:
        states = await gates(platform, client)
        right = await flags(platform, client)
    await asyncio.to_thread(platform.platform.wait_ready, lambda: ready(platform))
    return await kill(platform) and right and states == ["refused", "refused", "succeeded", "succeeded"]


def ready(platform: RunningPlatform) -> bool:
    try:
        return httpx2.get(f"{platform.url}/readyz", trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


def main() -> int:
    lifeline = Lifeline()
    # A kill is taken as Ctrl-C is, so that everything ends in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with RunningPlatform(lifeline) as platform:
            platform.replace("santiago.yaml", "  production:\n", GATES)
            platform.commit("Gates")
            return 0 if asyncio.run(run(platform)) else 1
    except KeyboardInterrupt:
        console.print("interrupted: everything that was started has ended")
        return 130
    finally:
        lifeline.close()


if __name__ == "__main__":
    sys.exit(main())
