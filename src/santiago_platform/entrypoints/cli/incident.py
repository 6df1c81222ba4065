"""Incidents: what is wrong, who has it, and what was done."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from .app import AsJson, console, daemon

incident = typer.Typer(help="Incidents: what is wrong, who has it, and what was done.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(metavar="ID", help="As `santiago incident list` shows it.")]
COLOURS = {"page": "bold red", "ticket": "yellow", "info": "dim"}


def register(app: typer.Typer) -> None:
    app.add_typer(incident, name="incident")


@incident.command("list")
def show_all(
    service: Annotated[str | None, typer.Option(help="Only of this service.")] = None,
    env: Annotated[str | None, typer.Option(help="Only in this environment.")] = None,
    only_open: Annotated[bool, typer.Option("--open", help="Only those that are not resolved.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=50, help="How many.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="Of the page before.")] = None,
    as_json: AsJson = False,
) -> None:
    """List incidents, newest first, and how fast they are acknowledged and recovered from."""
    console.as_json = as_json
    query = {
        "service": service,
        "environment": env,
        "open": "true" if only_open else None,
        "limit": str(limit),
        "cursor": cursor,
    }
    found = daemon().get("/api/incidents", query)
    if as_json:
        console.answer(found)
        return
    rows = [
        [i["id"], i["severity"], i["state"], i["began_at"][:19], _where(i), i["title"][:80]] for i in found["incidents"]
    ]
    console.table(["ID", "SEVERITY", "STATE", "SINCE", "WHERE", "WHAT"], rows)
    for each in found["times"]:
        console.say(
            f"  {escape(each['service'] or 'no service')} {each['severity']}, 30 days: {each['incidents']} incidents, "
            f"acknowledged after {_seconds(each.get('mtta_seconds'))}, "
            f"recovered after {_seconds(each.get('mttr_seconds'))}"
        )
    if found.get("cursor"):
        console.say(f"  older ones: --cursor {found['cursor']}")


@incident.command("show")
def show(id: Id, as_json: AsJson = False) -> None:
    """Show one with its timeline, its suspect and what was tried."""
    _tell(daemon().get(f"/api/incidents/{id}"), as_json)


@incident.command("ack")
def ack(
    id: Id,
    text: Annotated[str, typer.Option(help="What you are about to do.")] = "",
    as_json: AsJson = False,
) -> None:
    """Say that you have it: nobody else is told then."""
    _manage(id, "acknowledge", text, as_json)


@incident.command("resolve")
def resolve(
    id: Id,
    text: Annotated[str, typer.Option(help="Why it is over.")] = "",
    as_json: AsJson = False,
) -> None:
    """Say that it is over. What still fires opens it again."""
    _manage(id, "resolve", text, as_json)


@incident.command("note")
def note(
    id: Id,
    text: Annotated[str, typer.Argument(help="What there is to know.")],
    as_json: AsJson = False,
) -> None:
    """Add a remark to its timeline."""
    _manage(id, "note", text, as_json)


def _manage(id: str, action: str, text: str, as_json: bool) -> None:
    console.as_json = as_json
    _tell(daemon().post(f"/api/incidents/{id}", {"action": action, "text": text}), as_json)


def _tell(found: dict[str, Any], as_json: bool) -> None:
    console.as_json = as_json
    if as_json:
        console.answer(found)
        return
    i = found["incident"]
    console.say(f"[{COLOURS[i['severity']]}]{i['severity']}[/] {i['id']} {i['state']}: {escape(i['title'])}")
    console.say(
        f"  {escape(_where(i))}: {escape(i['cause'])}; {i['firing']} groups of alerts fire, {i['alerts']} at most"
    )
    for reason in i.get("reasons", ()):
        console.say(f"  suspected: {escape(reason)}")
    for tried in i.get("attempts", ()):
        console.say(f"  {tried['recovery']} of {escape(tried['subject'])}: {escape(tried['outcome'] or 'under way')}")
    if i.get("runbook"):
        console.say(f"  runbook: {escape(i['runbook'])}")
    if i.get("postmortem"):
        console.say(f"  post-mortem: {escape(i['postmortem'])}")
    rows = [[e["at"][:19], e["kind"], e.get("by", "platform"), e["text"]] for e in found["timeline"]]
    console.table(["AT", "KIND", "BY", "WHAT"], rows)


def _where(incident: dict[str, Any]) -> str:
    return "/".join(part for part in (incident.get("service"), incident.get("environment")) if part) or "the platform"


def _seconds(value: float | None) -> str:
    return f"{value:.0f} s" if value is not None else "-"
