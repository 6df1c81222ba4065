"""Secrets: values that services get and nobody reads."""

from __future__ import annotations

import sys
from typing import Annotated
from urllib.parse import quote, urlencode

import typer

from .app import AsJson, console, daemon
from .service import Environment, show_operation

secret = typer.Typer(help="Secrets: values that services get and nobody reads.", no_args_is_help=True)
SecretName = Annotated[str, typer.Argument(metavar="NAME", help="As score.yaml refers to it.")]
OfService = Annotated[str | None, typer.Option("--service", help="For this service alone; else for all.")]


def register(app: typer.Typer) -> None:
    app.add_typer(secret, name="secret")


@secret.command("set")
def set_secret(name: SecretName, environment: Environment, service: OfService = None, as_json: AsJson = False) -> None:
    """Keep a new version of a secret. Its value is read from stdin, or asked for without being shown."""
    console.as_json = as_json
    made = daemon().put(_path(environment, name, service=service), _value())
    if as_json:
        console.answer(made)
        return
    if "state" in made:  # it waits for somebody's yes
        show_operation(made)
        return
    whose = f"{environment}/{service}" if service else environment
    console.say(f"{name} of {whose}: version {made['version']}, fingerprint {made['fingerprint']}")
    console.progress("what runs keeps the version that it has; the next deploy gives it this one")


@secret.command("list")
def list_secrets(as_json: AsJson = False) -> None:
    """List secrets with their versions and what refers to them, never their values."""
    console.as_json = as_json
    found = daemon().get("/api/secrets")["secrets"]
    if as_json:
        console.answer(found)
        return
    rows = [
        [
            s["name"],
            s["environment"],
            s.get("service") or "all",
            f"{s['version']}{' (newest)' if s['newest'] else ''}",
            s["at"][:19],
            s["fingerprint"],
            ", ".join(s.get("used_by", ())),
        ]
        for s in found
    ]
    console.table(["NAME", "ENVIRONMENT", "SERVICE", "VERSION", "SET AT", "FINGERPRINT", "USED BY"], rows)


@secret.command("remove")
def remove(
    name: SecretName,
    environment: Environment,
    service: OfService = None,
    version: Annotated[int | None, typer.Option("--version", min=1, help="This version alone; else all.")] = None,
    as_json: AsJson = False,
) -> None:
    """Remove a secret, or one version of it, unless something refers to it."""
    console.as_json = as_json
    held = daemon().delete(_path(environment, name, service=service, version=version))
    if as_json:
        console.answer(held or {"removed": True})
    elif held:
        show_operation(held)


def _value() -> bytes:
    """One line end at the end is the shell's or the editor's, as in `$(...)`."""
    if sys.stdin.isatty():
        given: str = typer.prompt("Value", hide_input=True, confirmation_prompt=True, err=True)
        return given.encode()
    return sys.stdin.buffer.read().removesuffix(b"\n")


def _path(environment: str, name: str, **query: str | int | None) -> str:
    given = {key: value for key, value in query.items() if value is not None}
    path = f"/api/secrets/{quote(environment, safe='')}/{quote(name, safe='')}"
    return f"{path}?{urlencode(given)}" if given else path
