"""Who may ask, what can be asked, and what was done: token, tools, log."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from ...bootstrap import anchors, ship_log_key, verify_directory
from ...domain.identity import Level, Role, Scope
from .app import AsJson, console, daemon, workspace

tokens = typer.Typer(help="Bearer tokens for agents and people.", no_args_is_help=True)
ship_log = typer.Typer(help="The ship's log.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.command()(tools)
    app.add_typer(tokens, name="token")
    app.add_typer(ship_log, name="log")


def tools(as_json: AsJson = False) -> None:
    """Print the tools that agents may call."""
    console.as_json = as_json
    from ...tools import TOOLS

    if as_json:
        console.answer(
            [
                {
                    "name": tool.name,
                    "kind": "read" if tool.read_only else "change",
                    "description": tool.description,
                    "input_schema": tool.input_schema,
                    "output_schema": tool.output_schema,
                }
                for tool in TOOLS.values()
            ]
        )
        return
    rows = [[t.name, "read" if t.read_only else "change", t.description.partition(". ")[0]] for t in TOOLS.values()]
    console.table(["TOOL", "KIND", "DOES"], rows)


@tokens.command("issue")
def issue(
    role: Annotated[Role, typer.Option(help="What the bearer may do.")],
    name: Annotated[str, typer.Option(help="Whom it is for: named in the ship's log.")],
    tenant: Annotated[str | None, typer.Option(help="Else the one of santiago.yaml.")] = None,
    level: Annotated[Level | None, typer.Option(help="Else as roles in santiago.yaml says, else journeyman.")] = None,
    scope: Annotated[Scope | None, typer.Option(help="Else as roles in santiago.yaml says, else lake.")] = None,
    days: Annotated[float | None, typer.Option(min=0.001, help="Else it does not expire.")] = None,
    note: Annotated[str, typer.Option(help="What it is for, in your words.")] = "",
    as_json: AsJson = False,
) -> None:
    """Issue a token. It is printed this once; only its hash is kept."""
    console.as_json = as_json
    ttl = days * 86400 if days is not None else None
    body: dict[str, Any] = {"name": name, "role": role, "tenant": tenant, "ttl_seconds": ttl, "note": note}
    body |= {"level": level, "scope": scope}
    made = daemon().post("/api/tokens", body)
    if as_json:
        console.answer(made)
        return
    typer.echo(made["token"])
    console.progress(f"token {made['id']} of {name}, role {role}; `santiago token revoke {made['id']}` ends it")


@tokens.command("list")
def list_tokens(as_json: AsJson = False) -> None:
    """List tokens, without their secrets."""
    console.as_json = as_json
    found = daemon().get("/api/tokens")["tokens"]
    if as_json:
        console.answer(found)
        return
    rows = [
        [t["id"], t["name"], t["role"], t["tenant"], t["expires_at"] or "never", "revoked" if t["revoked"] else "valid"]
        for t in found
    ]
    console.table(["ID", "NAME", "ROLE", "TENANT", "EXPIRES", "STATE"], rows)


@tokens.command("revoke")
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="As `santiago token list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Revoke a token: from the next call on it is refused."""
    console.as_json = as_json
    daemon().delete(f"/api/tokens/{token_id}")
    if as_json:
        console.answer({"revoked": token_id})


@ship_log.command("verify")
def verify(
    anchor: Annotated[bool, typer.Option("--anchor", help="Hold it against the heads in git's commits too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Verify the ship's log, offline: a changed, removed, inserted or moved line is named. Exit status 1 then."""
    console.as_json = as_json
    layout = workspace()
    found = verify_directory(layout.ship_log, ship_log_key(layout), anchors=anchors(layout.root) if anchor else None)
    if as_json:
        console.answer({"intact": found.intact, **found.model_dump(mode="json")})
    elif found.intact:
        held = {True: ", and agrees with git's commits", False: "", None: ""}[found.anchored]
        console.say(f"[green]intact[/green]: {found.entries} entries, each continues the one before{held}")
        if anchor and not found.anchored:
            console.say("  no commit carries a head yet: commit something while the platform runs")
    else:
        for flaw in found.flaws:
            console.say(f"[red]flaw[/red] {escape(flaw.where)}: {escape(flaw.problem)}")
    if not found.intact:
        raise typer.Exit(1)
