"""The platform's own life: init, up, down, status, doctor, and stdio for desktop clients."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.markup import escape

from ...bootstrap import (
    CONTAINERS,
    Addresses,
    FileWorkspace,
    Layout,
    LocalPlatform,
    examine,
    fetch,
    init_workspace,
    keep_advisor_keys,
    missing,
    systemd_unit,
)
from ...domain.errors import ErrorCode, PlatformError
from .app import AsJson, Daemon, console, daemon, token, workspace

FOLLOW_SECONDS = 0.2


def register(app: typer.Typer) -> None:
    for command in (init, up, down, status, doctor, stdio):
        app.command()(command)


def init(
    directory: Annotated[Path, typer.Argument(help="A new or existing folder.")] = Path("."), as_json: AsJson = False
) -> None:
    """Make a workspace: settings, a small service that runs, and a git repository. Overwrites nothing."""
    console.as_json = as_json
    made = asyncio.run(init_workspace(directory))
    if as_json:
        console.answer({"workspace": str(directory.resolve()), **asdict(made)})
        return
    for path in made.written:
        console.say(f"  wrote {escape(path)}")
    for path in made.kept:
        console.say(f"  kept  {escape(path)}")
    where = "" if directory == Path(".") else f"cd {shlex.quote(str(directory))} && "
    console.say(f"\nNext: {where}santiago up -d && santiago deploy hello --env production --wait")


def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once it is ready.")] = False,
    print_unit: Annotated[
        bool, typer.Option("--print-unit", help="Print a unit for systemd that does this at boot; start nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start the platform and its MCP server. In the foreground it follows the daemon; Ctrl-C is `down`."""
    console.as_json = as_json
    layout = workspace()
    if print_unit:
        _print_unit(layout)
        return
    files = FileWorkspace(layout.root)
    settings = files.settings()
    if missing():
        fetch(console.progress)
    platform = LocalPlatform(layout)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a supervisor's way to say Ctrl-C
    argv = (sys.executable, "-m", "santiago_platform.entrypoints.daemon", str(layout.root))
    try:
        addresses = platform.up(
            settings.addresses, argv, console.progress, settings.ingress, settings.flags, files.metrics_seconds()
        )
        for variable in keep_advisor_keys(layout, settings):
            console.progress(f"the key in {variable} is kept for the advisors")
        platform.wait_ready(Daemon(layout).ready)
        if as_json:
            console.answer(
                {"workspace": str(layout.root), "addresses": addresses.model_dump(), "mcp": client_config(layout)}
            )
        else:
            _greet(layout, addresses)
        if detach:
            return
        _follow(layout, platform)
    except KeyboardInterrupt:
        console.progress("interrupted")
    _take_down(platform)


def _print_unit(layout: Layout) -> None:
    up = (sys.executable, "-m", "santiago_platform", "--workspace", str(layout.root), "up")
    unit = systemd_unit(layout, up, os.environ, uid=os.getuid())
    if console.as_json:
        console.answer({"name": unit.name, "path": str(unit.path), "text": unit.text})
    else:
        typer.echo(unit.text, nl=False)


def client_config(layout: Layout) -> dict[str, Any]:
    """What a desktop client of MCP wants to know, without a secret: the bridge reads the token's file itself."""
    command = shutil.which("santiago") or str(Path(sys.executable).with_name("santiago"))
    return {"mcpServers": {"santiago": {"command": command, "args": ["--workspace", str(layout.root), "stdio"]}}}


def _greet(layout: Layout, addresses: Addresses) -> None:
    console.say(f"[green]ready[/green]  workspace {escape(str(layout.root))}")
    console.say(f"  MCP      http://127.0.0.1:{addresses.server}/mcp  (bulk agents: /mcp/json)")
    console.say(f"  console  http://127.0.0.1:{addresses.server}/")
    console.say(f"  services http://NAME.ENVIRONMENT.localhost:{addresses.ingress}/")
    if addresses.tls is not None:
        console.say(f"           https://NAME.ENVIRONMENT.localhost:{addresses.tls}/")
    console.say(f"  token    {escape(str(layout.owner_token))}  (others: santiago token issue)")
    console.say("  for a desktop client, to paste:")
    console.say(escape(json.dumps(client_config(layout), indent=2)))


def _follow(layout: Layout, platform: LocalPlatform) -> None:
    """Shows the daemon's log until Ctrl-C, or until the platform is taken down elsewhere."""
    console.progress("following the daemon; Ctrl-C takes the platform down, -d would leave it running")
    for text in _written(layout.logs / "daemon" / "current", until=lambda: not platform.supervisor.alive):
        console.out.out(
            "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text), end=""
        )


def _written(file: Path, until: Callable[[], bool]) -> Iterator[str]:
    """What is appended to a file, and to the new one when it is rotated."""
    opened: TextIO | None = None
    try:
        while not until():
            if opened is None and file.exists():
                opened = file.open(errors="replace")
                opened.seek(0, os.SEEK_END)
            text = opened.read() if opened is not None else ""
            if text:
                yield text
            elif opened is not None and file.exists() and not os.path.samestat(file.stat(), os.fstat(opened.fileno())):
                opened.close()
                opened = file.open(errors="replace")
            else:
                time.sleep(FOLLOW_SECONDS)
    finally:
        if opened is not None:
            opened.close()


def down(as_json: AsJson = False) -> None:
    """End the platform and its services, gracefully. What ran comes back with the next `up`."""
    console.as_json = as_json
    killed = _take_down(LocalPlatform(workspace()))
    if as_json:
        console.answer({"down": True, "killed": killed})


def _take_down(platform: LocalPlatform) -> int:
    console.progress("ending the platform: services drain first")
    killed = len(platform.down())
    console.progress(f"it is down; {killed} processes had to be killed" if killed else "it is down")
    return killed


def status(as_json: AsJson = False) -> None:
    """Show what runs: the platform's processes, services with their versions, and running operations."""
    console.as_json = as_json
    asked = daemon()
    platform = asked.get("/api/status")
    architecture = asked.tool("read_architecture")
    running = [
        operation
        for operation in asked.tool("manage_operation", action="history", limit=20)["operations"]
        if operation["state"] == "running"
    ]
    if as_json:
        console.answer({**platform, "architecture": architecture, "running_operations": running})
        return
    units = [[u["name"], str(u["pid"] or "down"), str(u["restarts"])] for u in platform["units"]]
    console.table(["PROCESS", "PID", "RESTARTS"], units)
    for problem in platform["problems"]:
        console.say(f"[red]problem:[/red] {escape(problem)}")
    for warning in platform["warnings"]:
        console.say(f"[yellow]warning:[/yellow] {escape(warning)}")
    console.say("")
    rows = [_service_row(service) for service in architecture["services"]]
    if rows:
        console.table(["SERVICE", "LIVE", "TRAFFIC", "INSTANCES", "URL", "DRIFT"], rows)
    for service in architecture["services"]:
        if gap := service["requirements"].get("not_enforced"):
            console.say(f"[yellow]limits[/yellow] {service['service']}/{service['environment']}: {escape(gap)}")
        for job in service["jobs"]:
            if ": failed " in job:
                console.say(f"[red]job[/red] {service['service']}/{service['environment']}: {escape(job)}")
    for tenant in architecture["tenants"]:
        console.say(f"tenant {escape(tenant)}")
    if architecture["undeployed"]:
        console.say(f"not deployed: {', '.join(architecture['undeployed'])}")
    for operation in running:
        console.say(f"[yellow]running[/yellow] {operation['id']} {operation['kind']} {operation['phase']}")


def _service_row(service: dict[str, Any]) -> Sequence[str]:
    traffic = [f"{v['version']} {v['traffic_percent']:.0f}%" for v in service["versions"] if v.get("traffic_percent")]
    ready = sum(i["state"] == "ready" for v in service["versions"] for i in v["instances"])
    count = sum(len(v["instances"]) for v in service["versions"])
    drift = "; ".join(service["drift"]) or (service["rollout"] or "none")
    name = f"{service['service']}/{service['environment']}"
    return [name, service["live"], ", ".join(traffic) or "none", f"{ready} of {count} ready", service["url"], drift]


def doctor(
    fetch_missing: Annotated[bool, typer.Option("--fetch", help="Fetch the daemons that are missing first.")] = False,
    images: Annotated[
        bool, typer.Option("--images", help="With --fetch: podman too, by which releases with a base image run.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print what is wrong alone.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look whether this machine and this workspace have what the platform needs, and say how to mend the rest."""
    console.as_json = as_json
    if fetch_missing:
        fetch(console.progress)
        if images:
            fetch(console.progress, (CONTAINERS,))
    try:
        root: Path | None = workspace().root
    except PlatformError:
        root = None
    findings = examine(root)
    if as_json:
        console.answer([finding.model_dump(mode="json") for finding in findings])
    else:
        colours = {"ok": "green", "warning": "yellow", "problem": "red"}
        for found in findings:
            if found.health == "problem" or not quiet:
                console.say(f"[{colours[found.health]}]{found.health:8}[/] {found.subject}: {escape(found.said)}")
                if found.mend:
                    console.say(f"         {escape(found.mend)}")
    if any(found.health == "problem" for found in findings):
        raise typer.Exit(1)


def stdio() -> None:
    """Speak MCP on stdin and stdout, for desktop clients; the daemon does the work."""
    from ..stdio import bridge

    layout = workspace()
    if not layout.daemon_socket.exists():
        raise PlatformError(
            ErrorCode.UNAVAILABLE, f"the platform of {layout.root} does not run", "`santiago up` starts it"
        )
    asyncio.run(bridge(layout.daemon_socket, token(layout)))
