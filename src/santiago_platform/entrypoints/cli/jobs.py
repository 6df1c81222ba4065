"""Jobs: what there is, how they ended, and a run by hand."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.markup import escape

from .app import AsJson, console, daemon
from .service import POLL_SECONDS, Environment, Service, Wait, show_operation

jobs = typer.Typer(help="Jobs of the services' live versions.", no_args_is_help=True)
Job = Annotated[str, typer.Argument(help="A job of its build.yaml.")]
_COLOURS = {"succeeded": "green", "running": "yellow", "skipped": "yellow", "never run": "dim"}


def register(app: typer.Typer) -> None:
    app.add_typer(jobs, name="jobs")


@jobs.command("list")
def list_jobs(
    service: Annotated[str | None, typer.Argument(help="Else of all services.")] = None,
    environment: Annotated[str | None, typer.Option("--env", "-e", help="Else of all environments.")] = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, with their last and their next run."""
    console.as_json = as_json
    found = _ask(service=service, environment=environment)
    if as_json:
        console.answer(found)
        return
    console.table(["SERVICE", "JOB", "WHEN", "LAST RUN", "NEXT RUN"], [_row(job) for job in found])
    for job in found:
        if job["runs"] and job["runs"][0]["state"] == "failed":
            _show(job["runs"][0])


@jobs.command("run")
def run(
    service: Service,
    job: Job,
    environment: Environment,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Run a job of the live version once, now."""
    console.as_json = as_json
    begun = daemon().post("/api/jobs", {"service": service, "environment": environment, "job": job})
    while wait and begun["state"] == "running":
        time.sleep(POLL_SECONDS)
        (found,) = _ask(service=service, environment=environment, job=job) or [{"runs": []}]
        begun = next((run for run in found["runs"] if run["id"] == begun["id"]), begun | {"state": "unknown"})
    if as_json:
        console.answer(begun)
    elif "kind" in begun:  # it waits for somebody's yes
        show_operation(begun)
    else:
        _show(begun)
    if wait and begun["state"] != "succeeded":
        raise typer.Exit(1)


def _ask(**asked: str | None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = daemon().get("/api/jobs", asked)["jobs"]
    return found


def _row(job: dict[str, Any]) -> list[str]:
    last = job["runs"][0] if job["runs"] else {"state": "never run"}
    at = last.get("finished_at") or last.get("started_at") or ""
    when = f"{job['schedule']} ({job['time_zone']})" if job["schedule"] else job["when"]
    name = f"{job['service']}/{job['environment']}"
    return [name, job["job"], when, f"{last['state']} {at[:16]}".strip(), (job.get("next_at") or "")[:16]]


def _show(run: dict[str, Any]) -> None:
    colour = _COLOURS.get(run["state"], "red")
    said = f": {run['reason']}" if run["reason"] else ""
    console.say(f"[{colour}]{run['state']}[/] {run['id']}{escape(said)}")
    for line in run["detail"]:
        console.say(f"    | {escape(line)}")
