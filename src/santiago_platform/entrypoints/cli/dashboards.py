"""`santiago dashboards`: dashboards for Grafana, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ...bootstrap import export_dashboards
from .app import AsJson, console, workspace

dashboards = typer.Typer(help="Dashboards for Grafana.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(dashboards, name="dashboards")


@dashboards.command("export")
def export(
    directory: Annotated[Path, typer.Argument(help="Where the files go; what an export left there is replaced.")],
    prometheus: Annotated[
        str | None, typer.Option("--prometheus", help="The URL that Grafana asks; else the workspace's Prometheus.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the dashboards and the files that provision them; the platform need not run."""
    console.as_json = as_json
    files = export_dashboards(workspace(), directory, prometheus)
    if as_json:
        console.answer({"files": [str(file) for file in files]})
        return
    for file in files:
        console.say(escape(str(file)))
