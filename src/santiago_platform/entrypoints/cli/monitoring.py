"""The rules by which services are watched."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from .alert import InEnvironment, follow
from .app import AsJson, console, daemon

Service = Annotated[str, typer.Argument(help="Whose slo.yaml it is.")]

monitoring = typer.Typer(help="The rules of services' SLOs.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(monitoring, name="monitoring")


@monitoring.command()
def apply(
    service: Service,
    environment: InEnvironment = "production",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would come, go and change.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put in force what services/NAME/slo.yaml says: compiled, tested, loaded, and read back."""
    _change(as_json, action="apply", service=service, environment=environment, dry_run=dry_run)


@monitoring.command()
def remove(service: Service, environment: InEnvironment = "production", as_json: AsJson = False) -> None:
    """Take the rules of a service's SLOs out of force."""
    _change(as_json, action="remove", service=service, environment=environment)


@monitoring.command()
def show(
    service: Annotated[str | None, typer.Argument(help="Else of all services.")] = None,
    environment: Annotated[str | None, typer.Option("--env", "-e", help="In this environment alone.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what is in force, whether it is loaded, and what slo.yaml says otherwise."""
    console.as_json = as_json
    found = daemon().tool("configure_monitoring", action="show", service=service, environment=environment)["monitoring"]
    if as_json:
        console.answer(found)
        return
    for row in found:
        state = {True: "loaded", False: "not loaded", None: "not known to be loaded"}[row.get("loaded")]
        console.say(
            f"{row['service']}/{row['environment']}: {len(row['rules'])} rules, {row['alerts']} alerts, {state}"
        )
        for line in (*row["differs"], *([row["problem"]] if row["problem"] else [])):
            console.say(f"  slo.yaml: {escape(line)}")


def _change(as_json: bool, **arguments: Any) -> None:
    console.as_json = as_json
    given = {name: value for name, value in arguments.items() if value not in ("", False)}
    follow(daemon().tool("configure_monitoring", **given)["operation"], as_json)
