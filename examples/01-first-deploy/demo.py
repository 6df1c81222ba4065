"""The main job, end to end, on real daemons: an MCP client asks, services are deployed, no request fails.

    python examples/01-first-deploy/demo.py

It makes a workspace of its own in a temporary folder, and leaves nothing behind, also on Ctrl-C.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import Any

import httpx2
from mcp import Client
from rich.console import Console
from rich.table import Table

from santiago_platform.testing.lifeline import Lifeline
from santiago_platform.testing.load import Load, Tally
from santiago_platform.testing.running_platform import RunningPlatform, call

console = Console(highlight=False, width=None if sys.stdout.isatty() else 130)
WHERE = {"service": "hello", "environment": "production"}
HOST = "hello.production.localhost"


class Story:
    """What happened, a row a step."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str, str]] = []
        self.expected = True
        self._began = time.monotonic()

    def tell(self, text: str) -> None:
        console.print(f"[dim]{time.monotonic() - self._began:5.1f} s[/dim]  {text}")

    def step(self, name: str, operation: dict[str, Any], expected: str) -> None:
        """A finished operation, and whether it ended as it should."""
        as_expected = operation["state"] == expected
        self.expected = self.expected and as_expected
        proof = operation.get("proof")
        proven = f"{proof['verdict']}, {len(proof['evidence'])} observations" if proof else operation["reason"]
        self.row(name, operation["state"], f"{operation['seconds']:.1f} s", proven, ok=as_expected)

    def row(self, what: str, result: str, took: str, how: str, *, ok: bool) -> None:
        self.expected = self.expected and ok
        colour = "green" if ok else "red"
        self.rows.append((what, f"[{colour}]{result}[/]", took, how))
        self.tell(f"[{colour}]{'✔' if ok else '✘'}[/] {what}: {result} {took}")

    def show(self) -> None:
        table = Table("what happened", "result", "took", "how it was proven", title="Santiago: a first deploy")
        for row in self.rows:
            table.add_row(*row)
        console.print()
        console.print(table)


async def deploy(client: Client, story: Story, ref: str) -> dict[str, Any]:
    """Builds and deploys a commit, telling each phase as the server reports it."""

    async def told(_done: float, _total: float | None, message: str | None) -> None:
        story.tell(f"  [dim]{message}[/dim]")

    asked = {**WHERE, "git_ref": ref, "wait": True, "timeout_seconds": 60}
    return await call(client, "deploy_service", asked, progress_callback=told)


async def deploy_while_the_daemon_dies(platform: RunningPlatform, story: Story, ref: str) -> dict[str, Any]:
    """Starts a deploy, kills the daemon with SIGKILL while it runs, and asks the next one how it ended."""
    async with platform.client() as client:
        started = await call(client, "deploy_service", {**WHERE, "git_ref": ref})
        daemon = next(unit for unit in platform.platform.units() if unit.name == "daemon")
        os.kill(daemon.pid, signal.SIGKILL)
    story.tell(f"  [dim]kill -9 {daemon.pid}: the daemon is gone, s6 starts the next one[/dim]")
    async with asyncio.timeout(30), httpx2.AsyncClient(trust_env=False) as http:
        while True:
            try:
                if (await http.get(f"{platform.url}/readyz")).status_code == 200:
                    break
            except httpx2.TransportError:
                await asyncio.sleep(0.05)
    async with platform.client() as client:
        ask = {"action": "wait", "operation": started["id"], "timeout_seconds": 60}
        return (await call(client, "manage_operation", ask))["operations"][0]


async def run(platform: RunningPlatform, story: Story) -> None:
    story.tell(f"the platform is ready: two Envoys, Prometheus, Alertmanager, the daemon ({platform.url}/mcp)")
    async with platform.client() as client:
        story.tell(f"an MCP client is connected; tools: {', '.join(t.name for t in (await client.list_tools()).tools)}")
        story.step("first deploy", await deploy(client, story, "HEAD"), "succeeded")
    load = Load(platform.ingress_port, HOST)
    async with load as tally:
        story.tell("traffic begins, and does not stop")
        async with platform.client() as client:
            story.step("second version", await deploy(client, story, platform.set_version("2")), "succeeded")
            source = (platform.root / "services/hello/server.py").read_text()
            platform.replace(
                "services/hello/server.py", "import json\n", "import json\nimport a_module_that_is_missing\n"
            )
            broken = await deploy(client, story, platform.commit("a version that cannot start"))
            story.step("broken version took itself back", broken, "failed")
            for line in broken["detail"][-1:]:
                story.tell(f"  [dim]its last words: {line}[/dim]")
            (platform.root / "services/hello/server.py").write_text(source)
        ended = await deploy_while_the_daemon_dies(platform, story, platform.set_version("3"))
        story.step("third version, daemon killed meanwhile", ended, "succeeded")
        async with platform.client() as client:
            undone = (await call(client, "manage_operation", {**WHERE, "action": "rollback"}))["operations"][0]
            ask = {"action": "wait", "operation": undone["id"], "timeout_seconds": 60}
            story.step("rollback", (await call(client, "manage_operation", ask))["operations"][0], "succeeded")
    tell_traffic(story, tally)
    verified = platform.json("log", "verify", "--anchor", check=False)
    anchored = ", agrees with git's commits" if verified["anchored"] else ""
    how = f"{verified['entries']} entries in one chain{anchored}"
    story.row("the ship's log", "verified" if verified["intact"] else "BROKEN", "", how, ok=verified["intact"])


def tell_traffic(story: Story, tally: Tally) -> None:
    told = ", ".join(f"{count} by {version}" for version, count in tally.versions.items())
    result = f"{tally.failed} of {tally.sent} requests failed"
    story.row("traffic", result, f"p95 {1000 * tally.quantile(0.95):.0f} ms", told, ok=tally.failed == 0)
    for why, count in tally.failures.items():
        story.tell(f"  {count} x {why}")


def main() -> int:
    story = Story()
    lifeline = Lifeline()
    # A kill is taken as Ctrl-C is, so that everything ends in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        story.tell("starting a platform in a workspace of its own")
        with RunningPlatform(lifeline) as platform:
            asyncio.run(run(platform, story))
    except KeyboardInterrupt:
        console.print("interrupted: everything that was started has ended")
        return 130
    finally:
        lifeline.close()
    story.show()
    return 0 if story.expected else 1


if __name__ == "__main__":
    sys.exit(main())
