"""Sessions: open, list, renew, end."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .app import AsJson, console, daemon

sessions = typer.Typer(help="Sessions of yours.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="As `santiago session list` shows it.")]


def register(app: typer.Typer) -> None:
    app.add_typer(sessions, name="session")


@sessions.command("open")
def open_session(
    purpose: Annotated[str, typer.Option(help="What you are about to do, for the ship's log.")],
    minutes: Annotated[float | None, typer.Option(min=0.1, help="Else, and at most, as santiago.yaml says.")] = None,
    as_json: AsJson = False,
) -> None:
    """Open a session: its id goes into SANTIAGO_SESSION."""
    console.as_json = as_json
    ttl = minutes * 60 if minutes is not None else None
    _show(daemon().post("/api/sessions", {"purpose": purpose, "ttl_seconds": ttl}), as_json)


@sessions.command("list")
def list_sessions(as_json: AsJson = False) -> None:
    """List your sessions; the owner is shown everybody's."""
    console.as_json = as_json
    found = daemon().get("/api/sessions")["sessions"]
    if as_json:
        console.answer(found)
        return
    rows = [
        [s["id"], s["principal"], s["tenant"], s["purpose"], s["expires_at"], "open" if s["open"] else "expired"]
        for s in found
    ]
    console.table(["ID", "PRINCIPAL", "TENANT", "PURPOSE", "EXPIRES", "STATE"], rows)


@sessions.command("renew")
def renew(session: Id, as_json: AsJson = False) -> None:
    """Renew a session, also one that has expired."""
    console.as_json = as_json
    _show(daemon().post(f"/api/sessions/{session}", {}), as_json)


@sessions.command("end")
def end(session: Id, as_json: AsJson = False) -> None:
    """End a session at once. What was begun within it goes on."""
    console.as_json = as_json
    daemon().delete(f"/api/sessions/{session}")
    if as_json:
        console.answer({"ended": session})


def _show(session: dict[str, Any], as_json: bool) -> None:
    if as_json:
        console.answer(session)
        return
    typer.echo(session["id"])
    console.progress(f"{session['purpose']}, until {session['expires_at']}")
