"""Services: release, deploy, rollback, logs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.markup import escape

from ...domain.strategy import Strategy
from .app import AsJson, Daemon, console, daemon
from .follow import followed, moment

Service = Annotated[str, typer.Argument(help="A folder under services/.")]
Environment = Annotated[str, typer.Option("--env", "-e", help="An environment of santiago.yaml.")]
ServiceOrWords = Annotated[str | None, typer.Argument(help="A folder under services/; --request may name it, too.")]
EnvironmentOrWords = Annotated[
    str | None, typer.Option("--env", "-e", help="An environment of santiago.yaml; --request may name it, too.")
]
InWords = Annotated[str | None, typer.Option("--request", help="Say it in words: a plan, which waits for your yes.")]
Wait = Annotated[bool, typer.Option("--wait", help="Follow it to its end; exit status 1 unless it succeeds.")]
POLL_SECONDS = 0.1
GOOD_ENDS = ("succeeded", "running")  # running: it is held, as was asked for


def register(app: typer.Typer) -> None:
    for command in (release, deploy, promote, abort, approve, reject, rollback, versions, scale, logs):
        app.command()(command)


def release(
    service: Service,
    git_ref: Annotated[str, typer.Option("--from", help="A branch, tag or commit.")] = "HEAD",
    push: Annotated[bool, typer.Option("--push", help="Push it to the registry, too.")] = False,
    registry: Annotated[
        str | None, typer.Option("--registry", help="HOST/PATH to push to, else as santiago.yaml says.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Build a release from a commit, once: content-addressed, with its SBOM, signed; and push it to a registry."""
    console.as_json = as_json
    console.progress(f"building {service} at {git_ref}")
    made = daemon().post("/api/releases", {"service": service, "git_ref": git_ref})
    if not as_json:
        console.say(f"{made['digest']}  commit {made['commit'][:12]}  {made['size_bytes']} bytes")
        if made["local_only"]:
            console.say("  local only: it has no base image, so it runs where a platform brings what it needs")
    if push or registry is not None:
        console.progress("pushing it")
        pushed = daemon().post(
            "/api/releases/push", {"service": service, "release": made["digest"], "registry": registry}
        )
        made |= {"pushed": pushed}
        if not as_json:
            console.say(f"pushed as {pushed['image']}, tag {pushed['tag']}")
            for line in pushed["proof"]["evidence"]:
                console.say(f"  {escape(_evidence(line))}")
    if as_json:
        console.answer(made)
    if "pushed" in made and made["pushed"]["proof"]["verdict"] != "MATCH":
        raise typer.Exit(1)


def _evidence(line: dict[str, Any]) -> str:
    return f"{line['verdict']}: {line['subject']} = {line['observed']} (asked {line['source']})"


def deploy(
    service: ServiceOrWords = None,
    environment: EnvironmentOrWords = None,
    git_ref: Annotated[str | None, typer.Option("--from", help="Build this branch, tag or commit first.")] = None,
    digest: Annotated[str | None, typer.Option("--release", help="A release by its digest.")] = None,
    promote: Annotated[str | None, typer.Option("--promote", help="What is live in this environment.")] = None,
    strategy: Annotated[Strategy | None, typer.Option(help="Else as santiago.yaml says.")] = None,
    replicas: Annotated[int | None, typer.Option(min=1, max=100, help="Else as santiago.yaml says.")] = None,
    fixes: Annotated[str | None, typer.Option(help="The incident that it is the fix of; it is told loudly.")] = None,
    hold: Annotated[bool, typer.Option("--hold", help="Stop before traffic moves, until it is promoted.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    request: InWords = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Deploy a service without a failed request; the last commit, unless something else is named."""
    console.as_json = as_json
    _say(request, service=service, environment=environment)
    if request is None and git_ref is None and digest is None and promote is None:
        git_ref = "HEAD"
    asked = daemon()
    operation = asked.tool(
        "deploy_service",
        service=service,
        environment=environment,
        git_ref=git_ref,
        release=digest,
        from_environment=promote,
        strategy=strategy,
        replicas=replicas,
        fixes=fixes,
        hold=hold or None,
        dry_run=dry_run or None,
        request=request,
    )
    _answer(asked, operation, wait=wait and not dry_run and request is None, as_json=as_json, until_held=True)


def rollback(
    service: Service,
    environment: Environment,
    to: Annotated[
        str | None, typer.Option("--to", help="A version that was live there, or its release; else the one before.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Goes to the ship's log.")] = "",
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Go back to a former version: at once while it is kept warm. Aborts a rollout that is under way."""
    _tell("rollback", service, environment, reason, to=to, wait=wait, as_json=as_json)


def versions(service: Service, environment: Environment, as_json: AsJson = False) -> None:
    """Show the version that is live in an environment, and those that `rollback --to` can go back to."""
    console.as_json = as_json
    found = daemon().get(f"/api/versions/{service}/{environment}")["versions"]
    if as_json:
        console.answer(found)
        return
    rows = [
        [
            one["version"],
            one["release"].removeprefix("sha256:")[:12],
            one["standing"],
            one.get("since", "")[:19],
            one.get("until", "")[:19],
            "taken back" if one["taken_back"] else "",
        ]
        for one in found
    ]
    console.table(["VERSION", "RELEASE", "", "LIVE SINCE", "UNTIL", ""], rows)


def promote(
    service: Service,
    environment: Environment,
    reason: Annotated[str, typer.Option(help="Goes to the ship's log.")] = "",
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Let a rollout go on that is held, or a canary's step that is being analysed."""
    _tell("promote", service, environment, reason, wait=wait, as_json=as_json)


def abort(
    service: Service,
    environment: Environment,
    reason: Annotated[str, typer.Option(help="Goes to the ship's log.")] = "",
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Take back a rollout that is under way."""
    _tell("abort", service, environment, reason, wait=wait, as_json=as_json)


Operation = Annotated[str, typer.Argument(help="Its id, as status and history show it.")]
Seen = Annotated[str | None, typer.Option("--plan", help="The hash of the plan that you have seen.")]


def approve(
    operation: Operation,
    plan: Seen = None,
    reason: Annotated[str, typer.Option(help="Goes to the ship's log.")] = "",
    break_glass: Annotated[
        bool, typer.Option("--break-glass", help="Your own change, in an emergency: everybody is told.")
    ] = False,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Say yes to a change that waits for it: exactly the plan that it shows begins."""
    _decide("approve", operation, wait=wait, as_json=as_json, plan=plan, reason=reason, break_glass=break_glass)


def reject(
    operation: Operation,
    reason: Annotated[str, typer.Option(help="Goes to the ship's log.")] = "",
    as_json: AsJson = False,
) -> None:
    """Say no to a change that waits, or withdraw your own: nothing is changed."""
    _decide("reject", operation, wait=False, as_json=as_json, reason=reason)


def _decide(action: str, operation: str, *, wait: bool, as_json: bool, **words: Any) -> None:
    console.as_json = as_json
    asked = daemon()
    given = {name: value for name, value in words.items() if value}
    answer = asked.tool("manage_operation", action=action, operation=operation, **given)["operations"][0]
    if action == "reject":
        console.answer(answer) if as_json else console.say(f"{answer['id']} {answer['state']}: {answer['reason']}")
        return
    _answer(asked, answer, wait=wait, as_json=as_json)


def scale(
    service: ServiceOrWords = None,
    environment: EnvironmentOrWords = None,
    replicas: Annotated[int | None, typer.Option(min=1, max=100, help="From now on.")] = None,
    reason: Annotated[str, typer.Option(help="Goes to the ship's log.")] = "",
    request: InWords = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Change how many instances of a service run; a rollout that is under way takes the number over."""
    console.as_json = as_json
    _say(request, service=service, environment=environment, replicas=replicas)
    asked = daemon()
    operation = asked.tool(
        "scale_resources",
        service=service,
        environment=environment,
        replicas=replicas,
        reason=reason or None,
        request=request,
    )
    _answer(asked, operation, wait=wait and request is None, as_json=as_json)


def _say(request: str | None, **typed: object) -> None:
    """Words may leave out what typed arguments must say."""
    options = {"service": "argument 'SERVICE'", "environment": "option '--env'", "replicas": "option '--replicas'"}
    missing = [options[name] for name, value in typed.items() if value is None]
    if request is None and missing:
        raise typer.BadParameter(f"Missing {missing[0]}; or say it in words, by --request.")


def _tell(
    action: str, service: str, environment: str, reason: str, *, to: str | None = None, wait: bool, as_json: bool
) -> None:
    console.as_json = as_json
    asked = daemon()
    told = asked.tool("manage_operation", action=action, service=service, environment=environment, to=to, reason=reason)
    _answer(
        asked,
        told["operations"][0],
        wait=wait,
        as_json=as_json,
        until_held=action == "promote",
        good={"abort": ("rolled_back",), "rollback": (*GOOD_ENDS, "rolled_back")}.get(action, GOOD_ENDS),
    )


def _answer(
    asked: Daemon,
    operation: dict[str, Any],
    *,
    wait: bool,
    as_json: bool,
    until_held: bool = False,
    good: tuple[str, ...] = (),
) -> None:
    """good: the states at the end of the wait that are what was asked for."""
    if wait:
        operation = _followed(asked, operation, until_held=until_held)
    if as_json:
        console.answer(operation)
    else:
        show_operation(operation)
    if wait and operation["state"] not in (good or GOOD_ENDS):
        raise typer.Exit(1)


def _followed(asked: Daemon, operation: dict[str, Any], *, until_held: bool) -> dict[str, Any]:
    """Tells each phase until it ends. until_held: or is held for a person."""
    told = ""
    while operation["state"] == "running":
        if operation["phase"] != told:
            told = operation["phase"]
            console.progress(f"  {operation['progress']:4.0%} {told}")
        found = asked.tool("manage_operation", action="wait", operation=operation["id"], timeout_seconds=POLL_SECONDS)
        operation = found["operations"][0]
        if operation["phase"] == "holding" and until_held:
            break
    return operation


def show_operation(operation: dict[str, Any]) -> None:
    colours = {"succeeded": "green", "running": "yellow", "unverified": "yellow", "planned": "cyan"}
    colour = colours.get(operation["state"], "red")
    seconds = f" in {operation['seconds']:.1f} s" if operation.get("seconds") is not None else ""
    where = f"{operation['service']}/{operation['environment']}"
    console.say(f"[{colour}]{operation['state']}[/] {operation['kind']} {where}{seconds}  {operation['id']}")
    if operation.get("version"):
        before = f" (before: {operation['previous_version']})" if operation.get("previous_version") else ""
        console.say(f"  version {operation['version']}{before}")
    for line in operation.get("gates", ()):
        console.say(f"  gate: {escape(line)}")
    if operation.get("reason"):
        console.say(f"  reason: {escape(operation['reason'])}")
    for line in operation.get("detail", ()):
        console.say(f"    | {escape(line)}")
    if operation.get("way_back"):
        console.say(f"  way back: {escape(operation['way_back'])}")
    if operation.get("proof"):
        for line in operation["proof"]["evidence"]:
            console.say(f"  {escape(line)}")
    if operation.get("plan"):
        show_plan(operation["plan"])
    if operation.get("next"):
        console.say(f"  next: {escape(operation['next'])}")


def show_plan(plan: dict[str, Any]) -> None:
    """What would be done, and what an advisor said of it where it was asked in words."""
    for line in plan["changes"]:
        console.say(f"  - {escape(line)}")
    if plan.get("risk"):
        console.say(f"  risk: {escape(plan['risk'])}")
    if advice := plan.get("advice"):
        asked = json.dumps(advice["arguments"], ensure_ascii=False)
        by, cost = escape(advice["by"]), escape(advice["cost_usd"])
        console.say(f"  planned by {by} for ${cost}: {advice['tool']} {escape(asked)}")
        for name in ("risks", "assumptions", "questions", "tried"):
            for line in advice.get(name, ()):
                console.say(f"  {name}: {escape(line)}")
        console.say(f"  why: {escape(advice['rationale'])}")
    if plan.get("hash"):
        console.say(f"  plan {plan['hash']}")


def logs(
    service: Annotated[str | None, typer.Argument(help="Else of all services.")] = None,
    environment: Annotated[str | None, typer.Option("--env", "-e", help="Else of all environments.")] = None,
    version: Annotated[str | None, typer.Option(help="Else of all versions.")] = None,
    job: Annotated[str | None, typer.Option(help="Of the runs of this job alone.")] = None,
    level: Annotated[str | None, typer.Option(help="For example error.")] = None,
    text: Annotated[str | None, typer.Option("--grep", help="A part of the line, in any case.")] = None,
    regex: Annotated[str | None, typer.Option(help="A regular expression (RE2) that the line matches.")] = None,
    trace: Annotated[str | None, typer.Option(help="The id of a request or a trace, over all services.")] = None,
    since: Annotated[str | None, typer.Option(help="A time, or how long ago: 90s, 15m, 2h, 3d.")] = None,
    until: Annotated[str | None, typer.Option(help="As --since.")] = None,
    limit: Annotated[int, typer.Option("--lines", "-n", min=1, max=500, help="How many.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the last lines that services wrote, oldest first."""
    console.as_json = as_json
    given = {
        "service": service,
        "environment": environment,
        "version": version,
        "job": job,
        "level": level,
        "text": text,
        "regex": regex,
        "trace": trace,
        "since": moment(since) if since else None,
        "until": moment(until) if until else None,
        "limit": limit,
    }
    asked = {name: value for name, value in given.items() if value is not None}

    def read(**more: Any) -> Any:
        return daemon().tool("read_logs", **{**asked, **more})

    page = read()
    if as_json and not follow:
        console.answer(page)
        return
    _say_lines(reversed(page["lines"]), as_json)
    if page["partial"]:
        console.progress("there may be more: the search took too long and stopped; --since or --env narrows it")
    if follow:
        for lines in followed(read, page["lines"]):
            _say_lines(lines, as_json)


def _say_lines(lines: Iterable[Any], as_json: bool) -> None:
    for line in lines:
        if as_json:
            console.out.out(json.dumps(line, ensure_ascii=False), highlight=False)
            continue
        at = datetime.fromtimestamp(line["at"], UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        said_by = f"{line['service']} {line['environment']} {line['version']}" + (
            f" {line['job']}" if line.get("job") else ""
        )
        console.say(f"[dim]{at}Z {escape(said_by)}[/dim] {escape(line['text'])}")
