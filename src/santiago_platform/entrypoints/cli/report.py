"""Reports: what something has cost or how it did."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.markup import escape

from ...bootstrap import FileReports, to_markdown
from ...domain.errors import ErrorCode, PlatformError
from ...domain.report import Report, duration, shown
from .app import AsJson, console, daemon

report = typer.Typer(help="Reports.", no_args_is_help=True)
Service = Annotated[str | None, typer.Option("--service", help="One service alone.")]
Days = Annotated[int, typer.Option("--days", min=1, max=180, help="How long the period is that ends now.")]

_NAMES = {
    "change_lead_time": "lead time",
    "deployment_frequency": "deploys a day",
    "failed_deployment_recovery_time": "recovery",
    "change_fail_rate": "fail rate",
    "deployment_rework_rate": "rework rate",
}


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


@report.command("dora")
def dora(service: Service = None, days: Days = 30, as_json: AsJson = False) -> None:
    """Show the DORA metrics of each service and tenant: values, targets, bands and trend."""
    console.as_json = as_json
    found = daemon().get("/api/reports/dora", {"service": service, "days": str(days)})
    if as_json:
        console.answer(found)
        return
    where = ", ".join(found["environments"]) or "no environment of kind production"
    console.say(f"{found['since'][:16]} to {found['until'][:16]}, {escape(where)}")
    if not found["services"]:
        console.say("nothing was deployed there")
    for title, rows in (("service", found["services"]), ("tenant", found["tenants"])):
        for row in rows:
            _show(title, row)
    for failure in found["failures"]:
        took = failure.get("recovery_seconds")
        over = f"over after {duration(took)}" if took is not None else "not known to be over"
        console.say(f"failed: {failure['operation']} {escape(failure['service'])}, {over}: {escape(failure['why'])}")
    for note in found["notes"]:
        console.say(f"note: {escape(note)}")
    console.say(f"bands: {found['band_source']}")


def _show(title: str, row: dict[str, Any]) -> None:
    delivery = row["delivery"]
    aborted, unnoticed = delivery["canaries_aborted"], delivery["canaries_aborted_unnoticed"]
    console.say(
        f"\n[bold]{title} {escape(row['name'])}[/bold]: {delivery['deploys']} deploys reached users, "
        f"{delivery['failed']} failed, {delivery['stopped_before_users']} were stopped before; "
        f"{aborted} canaries taken back, {unnoticed} of them unnoticed"
    )
    rows = [
        [
            _NAMES[m["metric"]],
            shown(m.get("value"), m["unit"]),
            shown(m.get("target"), m["unit"]) if m.get("target") is not None else "",
            m["standing"],
            m.get("band") or "",
            shown(m.get("before"), m["unit"]),
            m["trend"],
            str(m["samples"]),
        ]
        for m in delivery["measures"]
    ]
    console.table(["METRIC", "VALUE", "TARGET", "STANDING", "BAND", "BEFORE", "TREND", "SAMPLES"], rows)


@report.command("weekly")
def weekly(
    week: Annotated[str | None, typer.Option("--week", help="As 2026-W07; else the last one that has ended.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write it with charts, to a folder of its own here.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the weekly report, or write it as Markdown and HTML with charts."""
    console.as_json = as_json
    found = daemon().get("/api/reports/weekly", {"week": week})
    if out is not None:
        into = out.resolve()
        files = asyncio.run(FileReports(into, into).keep(Report.model_validate(found)))
        found = {"files": [str(into / file) for file in files]}
    if as_json:
        console.answer(found)
    elif out is not None:
        for file in found["files"]:
            console.say(escape(file))
    else:
        typer.echo(to_markdown(Report.model_validate(found), ()), nl=False)


@report.command("slo")
def slo(
    propose: Annotated[
        str | None,
        typer.Option("--propose", metavar="SERVICE", help="Print an slo.yaml for it, from what it has shown."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show every SLO and SLA: whether it is met, and how much error budget is left."""
    console.as_json = as_json
    if propose is not None:
        _propose(propose)
        return
    found = daemon().get("/api/reports/slo")
    if as_json:
        console.answer(found)
        return
    rows = [[view["service"], view["environment"], view["slo"], view["summary"]] for view in found["slos"]]
    if rows:
        console.table(["SERVICE", "ENVIRONMENT", "SLO", "STATE"], rows)
    for line in found.get("breached", ()):
        console.say(f"SLA breached: {line}")
    for name in found.get("without", ()):
        console.say(f"{name} has no SLO: `santiago report slo --propose {name}` proposes services/{name}/slo.yaml")
    for line in found.get("problems", ()):
        console.say(f"problem: {line}")


def _propose(service: str) -> None:
    """The YAML alone on standard output, so that it can be written to the file."""
    found = daemon().get(f"/api/reports/slo/{quote(service, safe='')}/proposal")
    if console.as_json:
        console.answer(found)
    elif found.get("yaml"):
        typer.echo(found["yaml"], nl=False)
    else:
        raise PlatformError(ErrorCode.FAILED_PRECONDITION, f"no SLO is proposed for {service}: {found['reason']}")
