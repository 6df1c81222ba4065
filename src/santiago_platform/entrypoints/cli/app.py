"""What all commands share: the workspace they are about, the daemon they ask, and how they print."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import httpx2
import typer
from rich.console import Console as Terminal
from rich.markup import escape
from rich.table import Table

from ...bootstrap import Layout
from ...domain.errors import ErrorCode, PlatformError

app = typer.Typer(
    name="santiago",
    help="A platform engineer that people and agents ask: releases, deploys, watches, proves and logs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


class Console:
    """stdout for answers, stderr for progress and errors. Colours respect NO_COLOR."""

    def __init__(self) -> None:
        # A pipe gets whole lines: nothing is cut to a width that is not there.
        self.out = Terminal(highlight=False, width=None if sys.stdout.isatty() else 300)
        self.err = Terminal(stderr=True, highlight=False)
        self.as_json = False

    def answer(self, value: Any) -> None:
        """A program's answer: one JSON document."""
        typer.echo(json.dumps(value, indent=2, ensure_ascii=False))

    def say(self, text: str) -> None:
        """An answer in words; markup of rich is allowed, so untrusted text goes through `escape`."""
        self.out.print(text, soft_wrap=True)

    def progress(self, text: str) -> None:
        if not self.as_json:
            self.err.print(f"[dim]{escape(text)}[/dim]", soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        table = Table(*columns, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        self.out.print(table)

    def failed(self, exc: PlatformError) -> None:
        if self.as_json:
            self.answer({"error": {"code": exc.code, "message": exc.message, "hint": exc.hint}})
            return
        self.err.print(f"[red]error:[/red] {escape(exc.message)}", soft_wrap=True)
        if exc.hint:
            self.err.print(f"  {escape(exc.hint)}", soft_wrap=True)


console = Console()


@app.callback()
def _options(
    workspace: Annotated[
        Path | None,
        typer.Option(
            "--workspace", "-w", envvar="SANTIAGO_WORKSPACE", help="The workspace; else the folder above here."
        ),
    ] = None,
) -> None:
    _chosen.clear()
    if workspace is not None:
        _chosen.append(workspace)


_chosen: list[Path] = []


def workspace() -> Layout:
    """The workspace that was named, else the nearest folder at or above this one with a santiago.yaml."""
    if _chosen:
        layout = Layout.of(_chosen[0])
        # One that runs can be taken down without its settings too.
        if (layout.root / "santiago.yaml").is_file() or layout.state.is_dir():
            return layout
        raise PlatformError(
            ErrorCode.NOT_FOUND,
            f"{layout.root} is no workspace: it has no santiago.yaml",
            f"`santiago init {_chosen[0]}` makes it one",
        )
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "santiago.yaml").is_file():
            return Layout.of(folder)
    raise PlatformError(
        ErrorCode.NOT_FOUND,
        f"there is no workspace at or above {here}: no santiago.yaml",
        "`santiago init DIR` makes one; --workspace names one elsewhere",
    )


class Daemon:
    """The daemon of a workspace over its Unix socket, asked with the owner's token or SANTIAGO_TOKEN."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._client = httpx2.Client(transport=httpx2.HTTPTransport(uds=str(layout.daemon_socket)), timeout=700)

    def get(self, path: str, query: dict[str, str | None] | None = None) -> Any:
        given = {key: value for key, value in (query or {}).items() if value is not None}
        return self._ask("GET", f"{path}?{urlencode(given)}" if given else path, None)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._ask("POST", path, {k: v for k, v in body.items() if v is not None})

    def put(self, path: str, content: bytes) -> Any:
        """content: of a file, as it is."""
        return self._ask("PUT", path, content)

    def delete(self, path: str) -> Any:
        return self._ask("DELETE", path, None)

    def tool(self, name: str, **arguments: Any) -> Any:
        return self.post(f"/api/tools/{name}", arguments)

    def ready(self) -> bool:
        """Whether it serves; a disk that is too full for changes keeps it from nothing else."""
        try:
            answer = self._client.get("http://localhost/readyz", timeout=2)
            said = answer.json()
            return answer.status_code == 200 or (said["disk"] == "full" and len(said["problems"]) == 1)
        except (httpx2.HTTPError, ValueError, KeyError):
            return False

    def _ask(self, method: str, path: str, body: dict[str, Any] | bytes | None) -> Any:
        headers = {"authorization": f"Bearer {token(self._layout)}"}
        if session := os.environ.get("SANTIAGO_SESSION"):
            headers["santiago-session"] = session
        try:
            sent: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
            answer = self._client.request(method, f"http://localhost{path}", headers=headers, **sent)
        except httpx2.TransportError as exc:
            raise PlatformError(
                ErrorCode.UNAVAILABLE,
                f"the platform of {self._layout.root} does not answer",
                "`santiago up` starts it; `santiago doctor` looks what is wrong",
                internal=repr(exc),
            ) from exc
        if answer.status_code == 204:
            return None
        try:
            value = answer.json()
            if answer.status_code < 400:
                return value
            error = PlatformError(
                ErrorCode(value["error"]["code"]), value["error"]["message"], value["error"].get("hint", "")
            )
        except (ValueError, KeyError, TypeError) as exc:
            raise PlatformError(
                ErrorCode.INTERNAL,
                f"the daemon answered {path} with {answer.status_code} and no JSON that this command knows",
                f"its log: {self._layout.logs / 'daemon' / 'current'}",
                internal=answer.text[:500],
            ) from exc
        raise error


def daemon() -> Daemon:
    return Daemon(workspace())


def token(layout: Layout) -> str:
    """SANTIAGO_TOKEN, else the owner's. Raises UNAVAILABLE where the platform never ran."""
    if given := os.environ.get("SANTIAGO_TOKEN"):
        return given
    try:
        return layout.owner_token.read_text().strip()
    except FileNotFoundError as exc:
        raise PlatformError(
            ErrorCode.UNAVAILABLE, f"the platform of {layout.root} does not run", "`santiago up` starts it"
        ) from exc
    except PermissionError as exc:
        raise PlatformError(
            ErrorCode.PERMISSION_DENIED,
            f"{layout.owner_token} is not yours to read",
            "set SANTIAGO_TOKEN to a token that the owner issued to you: `santiago token issue`",
        ) from exc
