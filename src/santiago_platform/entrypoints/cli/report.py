"""Reports: what something has cost or how it did."""

from __future__ import annotations

import typer

from .app import AsJson, console, daemon

report = typer.Typer(help="Reports.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(report, name="report")


@report.command("budget")
def budget(as_json: AsJson = False) -> None:
    """Show what asking advisors has cost today."""
    console.as_json = as_json
    found = daemon().get("/api/reports/budget")
    if as_json:
        console.answer(found)
        return
    limit = f" of ${found['limit_usd']}" if "limit_usd" in found else ""
    console.say(f"{found['day']} ({found['time_zone']}): ${found['spent_usd']}{limit}")
    for what in ("role", "task"):
        for name, amount in found[f"by_{what}"].items():
            console.say(f"  {what} {name}: ${amount}")
    keys = ("task", "by", "model", "amount_usd", "settlement")
    rows = [[charge["at"][:19], *(charge[key] for key in keys)] for charge in found["last"]]
    if rows:
        console.table(["AT", "TASK", "BY", "MODEL", "USD", "SETTLEMENT"], rows)
