"""What a release must pass: gates, evidence and parity."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer
from rich.markup import escape

from ...domain.errors import ErrorCode, PlatformError
from ...domain.evidence import EvidenceKind
from .app import AsJson, console, daemon
from .service import Environment, Service

evidence = typer.Typer(help="What tests, coverage and scans found of a release.", no_args_is_help=True)
Release = Annotated[str, typer.Argument(help="Its digest, or 12 or more hex digits of it.")]
COLOURS = {"pass": "green", "fail": "red", "unknown": "yellow", "not_applicable": "dim"}


def register(app: typer.Typer) -> None:
    app.command()(gates)
    app.command()(parity)
    app.add_typer(evidence, name="evidence")


def gates(
    service: Service,
    environment: Environment,
    digest: Annotated[str | None, typer.Option("--release", help="Else the newest release.")] = None,
    fixes: Annotated[str | None, typer.Option(help="The incident that it is the fix of.")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask the gates of an environment about a release. Exit status 1 unless it would be let through."""
    console.as_json = as_json
    found = daemon().get(_path(f"/api/gates/{service}/{environment}", release=digest, fixes=fixes))
    if as_json:
        console.answer(found)
    else:
        said = "[green]would be let through[/green]" if found["passes"] else "[red]is held up[/red]"
        console.say(f"{service} {found['release'][7:19]} {said} to {environment}")
        for answer in found["answers"]:
            _show(answer)
        if not found["answers"]:
            console.say(f"  {environment} has no gates")
    if not found["passes"]:
        raise typer.Exit(1)


def _show(answer: dict[str, Any]) -> None:
    outcome = answer["outcome"]
    required = ", and it is required" if outcome == "not_applicable" and answer.get("required") else ""
    console.say(f"  [{COLOURS[outcome]}]{outcome}[/] {answer['gate']}: {escape(answer['reason'])}{required}")
    if answer.get("exception"):
        console.say(f"    [bold red]EXCEPTION: {escape(answer['exception'])}[/]")
    for line in answer.get("evidence", ()):
        console.say(f"    | {escape(line)}")
    if answer.get("hint"):
        console.say(f"    what to do: {escape(answer['hint'])}")


@evidence.command("add")
def add(
    release: Release,
    file: Annotated[Path, typer.Argument(help="JUnit or Cobertura XML, SARIF, or Trivy's JSON.")],
    kind: Annotated[EvidenceKind | None, typer.Option(help="Else it is recognised.")] = None,
    name: Annotated[str | None, typer.Option(help="Tells suites or scanners apart.")] = None,
    as_json: AsJson = False,
) -> None:
    """Attest what a file says of a release. It takes a token of role qa or pipeline, in SANTIAGO_TOKEN."""
    console.as_json = as_json
    try:
        content = file.read_bytes()
    except OSError as exc:
        raise PlatformError(ErrorCode.INVALID_ARGUMENT, f"{file} cannot be read: {exc.strerror}") from exc
    made = daemon().put(_path(f"/evidence/{quote(release, safe='')}", kind=kind, name=name), content)
    if as_json:
        console.answer(made)
        return
    console.say(f"{made['kind']} {made['name']} of {made['release'][7:19]}: {escape(made['summary'])}")


@evidence.command("list")
def list_evidence(release: Release, as_json: AsJson = False) -> None:
    """List what was attested of a release, newest first."""
    console.as_json = as_json
    found = daemon().get(f"/evidence/{quote(release, safe='')}")["evidence"]
    if as_json:
        console.answer(found)
        return
    rows = [
        [e["at"][:19], e["kind"], e["name"], e["by"], "yes" if e["counts"] else "no", e.get("doubt") or e["summary"]]
        for e in found
    ]
    console.table(["AT", "KIND", "NAME", "BY", "COUNTS", "FOUND"], rows)


def parity(
    service: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Else of all services.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what differs between environments, and why it may."""
    console.as_json = as_json
    found = daemon().tool("read_architecture", service=service, include_parity=True)["parity"]
    if as_json:
        console.answer(found)
        return
    for name, pairs in found.items():
        for pair in pairs:
            counted = f"{pair['unexplained']} of {len(pair['differences'])} differences are not explained"
            console.say(f"{name}: {pair['there']} | {pair['here']}: {counted}")
            for line in pair["differences"]:
                console.say(f"  {escape(line)}")


def _path(path: str, **query: str | None) -> str:
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path
