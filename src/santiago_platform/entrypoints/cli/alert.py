"""Alerts."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from ...domain.rules import Severity
from ...domain.signal import Signal
from .app import AsJson, console, daemon
from .service import show_operation

Name = Annotated[str, typer.Argument(help="The alert's name.")]
Service = Annotated[str, typer.Option("--service", "-s", help="Whose alert it is.")]
InEnvironment = Annotated[str, typer.Option("--env", "-e", help="In which environment.")]
Reason = Annotated[str, typer.Option(help="Goes to the ship's log.")]

alert = typer.Typer(help="Alerts: made, tried, tested, listed, silenced, removed.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(alert, name="alert")


@alert.command()
def create(
    name: Name,
    service: Service,
    environment: InEnvironment = "production",
    expression: Annotated[str | None, typer.Option("--expr", help="A condition in PromQL.")] = None,
    signal: Annotated[Signal | None, typer.Option(help="In place of --expr, with --threshold.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Errors: a ratio; latency: seconds (p95).")] = None,
    comparison: Annotated[str, typer.Option(help="One of > >= < <=.")] = ">",
    for_seconds: Annotated[float, typer.Option("--for", help="Seconds for which it must hold.")] = 60,
    severity: Annotated[Severity, typer.Option(help="How urgent it is.")] = Severity.TICKET,
    runbook: Annotated[str | None, typer.Option(help="The URL of what to do.")] = None,
    owner: Annotated[str | None, typer.Option(help="Who looks after the alert.")] = None,
    summary: Annotated[str | None, typer.Option(help="What it says; {{ $value }} is the value.")] = None,
    route: Annotated[str | None, typer.Option(help="A role, or a receiver of notify in santiago.yaml.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and try it, and load nothing.")] = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Make an alert: checked, tried on the last 24 hours, tested, loaded, and read back."""
    spec = {
        "expression": expression,
        "signal": signal,
        "threshold": threshold,
        "comparison": comparison if signal else None,
        "for_seconds": for_seconds,
        "severity": severity,
        "runbook_url": runbook,
        "owner": owner,
        "summary": summary,
        "route": route,
    }
    place = {"name": name, "service": service, "environment": environment, "reason": reason or None}
    _change(as_json, action="create", spec={**place, **spec}, dry_run=dry_run)


@alert.command()
def plan(
    request: Annotated[str, typer.Argument(help="What is wanted, in words.")],
    as_json: AsJson = False,
) -> None:
    """Say an alert in words, and get a plan, which waits for your yes (`santiago approve`)."""
    _change(as_json, request=request)


@alert.command()
def remove(
    name: Name,
    service: Service,
    environment: InEnvironment = "production",
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Remove an alert."""
    place = {"name": name, "service": service, "environment": environment, "reason": reason or None}
    _change(as_json, action="remove", spec=place)


@alert.command()
def silence(
    name: Name,
    service: Service,
    reason: Annotated[str, typer.Option(help="Why nobody need be told.")],
    environment: InEnvironment = "production",
    hours: Annotated[float, typer.Option("--for", help="Hours, 720 at most.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Let an alert tell nobody for a while; it goes on firing."""
    place = {"name": name, "service": service, "environment": environment}
    _silence(as_json, "silence", {**place, "for_seconds": hours * 3600, "reason": reason})


@alert.command()
def unsilence(name: Name, service: Service, environment: InEnvironment = "production", as_json: AsJson = False) -> None:
    """End the silence of an alert."""
    _silence(as_json, "unsilence", {"name": name, "service": service, "environment": environment})


@alert.command("list")
def list_alerts(
    service: Annotated[str | None, typer.Option("--service", "-s", help="Of this service alone.")] = None,
    environment: Annotated[str | None, typer.Option("--env", "-e", help="In this environment alone.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the alerts, and which of them fire now."""
    console.as_json = as_json
    place = {name: value for name, value in (("service", service), ("environment", environment)) if value}
    answer = daemon().tool("create_alert", action="list", spec=place)
    found = answer["alerts"]
    if as_json:
        console.answer(found)
        return
    rows = [
        [
            f"{a['service']}/{a['environment']}",
            a["name"],
            a["state"],
            a["severity"],
            f"{a['for_seconds']:g} s",
            a["expression"],
        ]
        for a in found
    ]
    console.table(["WHERE", "NAME", "STATE", "SEVERITY", "FOR", "CONDITION"], rows)
    _say_silences(answer.get("silences"))


def _silence(as_json: bool, action: str, spec: dict[str, Any]) -> None:
    console.as_json = as_json
    found = daemon().tool("create_alert", action=action, spec=spec)["silences"]
    if as_json:
        console.answer(found)
        return
    _say_silences(found)
    if not found:
        console.say(f"{spec['name']} of {spec['service']}/{spec['environment']} tells again")


def _say_silences(silences: list[dict[str, Any]] | None) -> None:
    if silences is None:
        console.say("[yellow]silences are not known:[/yellow] Alertmanager does not answer")
    for each in silences or ():
        where, until = f"{each['service']}/{each['environment']}", each["ends_at"][:16].replace("T", " ")
        console.say(
            f"[yellow]silent[/yellow] {each['alert']} of {where} until {until} UTC by {escape(each['by'])}: "
            f"{escape(each['reason'])}"
        )


def _change(as_json: bool, **arguments: Any) -> None:
    """Until it is read back."""
    console.as_json = as_json
    if "spec" in arguments:
        arguments["spec"] = {name: value for name, value in arguments["spec"].items() if value is not None}
    follow(daemon().tool("create_alert", **arguments)["operation"], as_json)


def follow(operation: dict[str, Any], as_json: bool) -> None:
    """Shows it once it has ended, or waits for somebody. Exit status 1 where it has not done what was asked for."""
    if operation["state"] == "running":
        detail = {"detail": operation["detail"]}
        waited = daemon().tool("manage_operation", action="wait", operation=operation["id"])["operations"][0]
        operation = {**detail, **waited}
    if as_json:
        console.answer(operation)
    else:
        show_operation(operation)
    if operation["state"] in ("failed", "unverified"):
        raise typer.Exit(1)
