"""Feature flags."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.markup import escape

from ...domain.errors import ErrorCode, PlatformError
from .app import AsJson, console, daemon
from .service import show_plan

Key = Annotated[str, typer.Argument(help="The flag's key in flags.json.")]
InEnvironment = Annotated[str | None, typer.Option("--env", "-e", help="In this environment alone; else in all.")]
Reason = Annotated[str, typer.Option(help="Goes to the ship's log.")]
OfVariant = Annotated[str | None, typer.Option("--variant", help="Whose share; else the one that is true, or `on`.")]

flag = typer.Typer(help="Feature flags: what they serve, to whom, and how they change.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(flag, name="flag")


@flag.command("list")
def list_flags(environment: InEnvironment = None, as_json: AsJson = False) -> None:
    """Show all flags, and what each serves where."""
    _answer(as_json, action="list", environment=environment)


@flag.command()
def get(key: Key, environment: InEnvironment = None, as_json: AsJson = False) -> None:
    """Show one flag with its definition."""
    _answer(as_json, action="list", flag=key, environment=environment)


@flag.command("set")
def set_flag(
    key: Key,
    environment: InEnvironment = None,
    default: Annotated[str | None, typer.Option(help="The variant for whom no rule matches.")] = None,
    variants: Annotated[str | None, typer.Option(help='JSON: \'{"small": 10, "large": 50}\'.')] = None,
    targeting: Annotated[str | None, typer.Option(help="JSON: rules as flagd has them; {} for none.")] = None,
    percent: Annotated[int | None, typer.Option(min=0, max=100, help="The share of users with --variant.")] = None,
    variant: OfVariant = None,
    owner: Annotated[str | None, typer.Option(help="Who removes it when it is no longer needed.")] = None,
    expires: Annotated[str | None, typer.Option(help="Its last day, as 2027-01-31; then it is warned of.")] = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Make a flag, or change what it is. A new one is a boolean that is off, unless variants say otherwise."""
    given = {"variants": _json("--variants", variants), "targeting": _json("--targeting", targeting)}
    metadata = {name: value for name, value in (("owner", owner), ("expires", expires)) if value is not None}
    given |= {"defaultVariant": default, "metadata": metadata or None}
    definition = {name: value for name, value in given.items() if value is not None}
    _change(
        as_json,
        action="set",
        flag=key,
        environment=environment,
        definition=definition or None,
        percent=percent,
        variant=variant,
        reason=reason or None,
    )


@flag.command()
def ramp(
    key: Key,
    percent: Annotated[int, typer.Option("--to", min=0, max=100, help="The share at its end.")],
    minutes: Annotated[int, typer.Option("--minutes", min=1, help="How long it takes.")],
    environment: InEnvironment = None,
    variant: OfVariant = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Give a variant to more and more users, from its share of now on."""
    arguments = {"percent": percent, "minutes": minutes, "variant": variant, "reason": reason or None}
    _change(as_json, action="ramp", flag=key, environment=environment, **arguments)


@flag.command()
def kill(key: Key, environment: InEnvironment = None, reason: Reason = "", as_json: AsJson = False) -> None:
    """Turn a flag off at once: everybody gets the code's own default, until it is restored."""
    _change(as_json, action="kill", flag=key, environment=environment, reason=reason or None)


@flag.command()
def restore(key: Key, environment: InEnvironment = None, reason: Reason = "", as_json: AsJson = False) -> None:
    """Take a kill back; a ramp goes on with the share that it had reached."""
    _change(as_json, action="restore", flag=key, environment=environment, reason=reason or None)


@flag.command()
def delete(key: Key, environment: InEnvironment = None, reason: Reason = "", as_json: AsJson = False) -> None:
    """Remove a flag, or what differs in one environment."""
    _change(as_json, action="delete", flag=key, environment=environment, reason=reason or None)


@flag.command()
def history(
    key: Annotated[str | None, typer.Argument(help="Else of all flags.")] = None, as_json: AsJson = False
) -> None:
    """Show who changed what, newest first."""
    _answer(as_json, action="history", flag=key)


@flag.command()
def rollback(
    key: Key,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Undo the newest change of a flag, unless somebody has edited it since."""
    _change(as_json, action="rollback", flag=key, reason=reason or None)


@flag.command()
def plan(
    request: Annotated[str, typer.Argument(help="What is wanted, in words.")],
    key: Annotated[str | None, typer.Option("--flag", help="The plan stays with this flag.")] = None,
    environment: InEnvironment = None,
    as_json: AsJson = False,
) -> None:
    """Say a change in words, and get a plan, which waits for your yes (`santiago approve`)."""
    console.as_json = as_json
    answer = daemon().tool("configure_flag", request=request, flag=key, environment=environment)
    if as_json:
        console.answer(answer)
    else:
        show_plan(answer["plan"])
        for change in answer["changes"]:
            console.say(f"  next: santiago approve {change['id']}, or reject")


def _json(option: str, text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError as exc:
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT, f"{option} is not JSON: {exc}", "quote it for the shell"
        ) from exc


def _change(as_json: bool, **arguments: Any) -> None:
    """Exit status 1 unless the change was served and read back."""
    answer = _answer(as_json, **arguments)
    if any(change["state"] not in ("succeeded", "unverified") for change in answer["changes"]):
        raise typer.Exit(1)


def _answer(as_json: bool, **arguments: Any) -> Any:
    console.as_json = as_json
    answer = daemon().tool("configure_flag", **arguments)
    if as_json:
        console.answer(answer)
        return answer
    for change in answer["changes"]:
        colour = {"succeeded": "green", "running": "yellow", "unverified": "yellow"}.get(change["state"], "red")
        said = f"{change['what']} by {change['by']} at {change['at'][:19]}"
        console.say(f"[{colour}]{change['state']}[/] {escape(said)}  {change['id']}")
        if change.get("reason"):
            console.say(f"  {escape(change['reason'])}")
        for line in (change.get("proof") or {}).get("evidence", ()):
            console.say(f"  {escape(line)}")
    if answer["flags"]:
        rows = [(f["flag"], f.get("environment") or "all", f["serves"], *_of(f["metadata"])) for f in answer["flags"]]
        console.table(("flag", "environment", "serves", "owner", "expires"), rows)
    for view in answer["flags"]:
        if view.get("definition"):
            for name, value in view["definition"].items():
                console.say(f"  {name}: {escape(json.dumps(value, ensure_ascii=False))}")
    for warning in answer["warnings"]:
        console.say(f"[yellow]warning[/yellow] {escape(warning)}")
    return answer


def _of(metadata: dict[str, Any]) -> tuple[str, str]:
    return str(metadata.get("owner", "")), str(metadata.get("expires", ""))
