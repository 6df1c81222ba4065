"""Backups: made while the platform runs, restored into an empty folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ...bootstrap import back_up
from ...bootstrap import restore as restore_backup
from ...domain.disk import size_text
from .app import AsJson, console, workspace


def register(app: typer.Typer) -> None:
    for command in (backup, restore):
        app.command()(command)


def backup(
    file: Annotated[Path, typer.Argument(help="A tar that does not exist yet. It holds private keys: keep it safe.")],
    as_json: AsJson = False,
) -> None:
    """Back up the workspace to one file: rows, releases, keys, the ship's log, files, volumes, git. It may run."""
    console.as_json = as_json
    made = back_up(workspace(), file, console.progress)
    if as_json:
        console.answer({"backup": str(file.absolute()), **asdict(made)})
        return
    console.say(f"[green]backed up[/green] {made.files} files, {size_text(made.size_bytes)}: {escape(str(file))}")
    console.say("  it holds this workspace's private keys and tokens: keep it as safe as those")
    for name in made.changed:
        console.say(f"[yellow]warning:[/yellow] {escape(name)} was cut while it was read, and ends in zeros")


def restore(
    file: Annotated[Path, typer.Argument(help="What `santiago backup` wrote.")],
    directory: Annotated[Path, typer.Argument(help="A folder that does not exist yet, or is empty.")],
    as_json: AsJson = False,
) -> None:
    """Restore a backup into a new workspace, every byte checked; `up` there brings back what was live."""
    console.as_json = as_json
    made = restore_backup(file, directory)
    log = made.ship_log
    if as_json:
        console.answer(
            {
                "workspace": str(directory.absolute()),
                "from": made.workspace,
                "files": made.files,
                "addresses": made.addresses and made.addresses.model_dump(),
                "moved": made.moved,
                "repository": made.repository,
                "ship_log": log and {"intact": log.intact, **log.model_dump(mode="json")},
            }
        )
    else:
        console.say(f"[green]restored[/green] {made.files} files of {escape(made.workspace)}: {escape(str(directory))}")
        if log is not None:
            kept = f"intact, {log.entries} entries" if log.intact else "[red]it does not verify[/red]"
            console.say(f"  the ship's log: {kept}")
        for key, port in made.moved.items():
            console.say(f"[yellow]moved:[/yellow] {key} is {port}: the one in the backup is taken on this machine")
        if not made.repository:
            console.say("  git's repository was not in the backup: clone it here before the next deploy from a commit")
        console.say(f"\nNext: santiago --workspace {escape(str(directory))} up -d")
    if log is not None and not log.intact:
        raise typer.Exit(1)
