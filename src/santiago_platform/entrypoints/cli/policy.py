"""What the policies say: test, check."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from ...bootstrap import read_policies
from ...domain.errors import ErrorCode, PlatformError
from ...domain.identity import Level, Role, Scope
from .app import AsJson, console, daemon, workspace

policies = typer.Typer(help="Who may do what, and which rule says so.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(policies, name="policy")


@policies.command("test")
def ask(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[PRINCIPAL] ACTION [SERVICE/ENV]", help="Whose token is meant, unless --role says; an action."
        ),
    ],
    role: Annotated[Role | None, typer.Option(help="Anybody of that role, in place of PRINCIPAL.")] = None,
    level: Annotated[Level | None, typer.Option(help="As if it had that level.")] = None,
    scope: Annotated[Scope | None, typer.Option(help="As if it had that scope.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Else your own.")] = None,
    destroys: Annotated[bool, typer.Option("--destroys", help="As if nothing were left to go back to.")] = False,
    as_json: AsJson = False,
) -> None:
    """May somebody do something, and which rule says so? Exit status 1 unless it is allowed without approval."""
    console.as_json = as_json
    body: dict[str, Any] = {"role": role, "level": level, "scope": scope, "tenant": tenant, "destroys": destroys}
    answer = daemon().post("/api/policy", {**body, **_asked(words, by_role=role is not None)})
    if as_json:
        console.answer(answer)
    else:
        who = answer["principal"]
        colour = {"allow": "green", "needs_approval": "yellow", "deny": "red"}[answer["verdict"]]
        needs = f" of role {answer['approver']}" if answer.get("approver") else ""
        rules = ", ".join(answer["rules"]) or "no rule allows it"
        where = f" of {answer['target']}" if answer["target"] else ""
        console.say(f"[{colour}]{answer['verdict']}[/{colour}]{needs}: {escape(rules)}")
        console.say(
            f"  {escape(who['name'])}, {who['role']}, {who['level']}, {who['scope']}, tenant {who['tenant']}: "
            f"{answer['action']}{escape(where)}"
        )
    if answer["verdict"] != "allow":
        raise typer.Exit(1)


@policies.command("check")
def check(as_json: AsJson = False) -> None:
    """Hold policies/*.cedar against the schema. An error names file and line; exit status 1 then."""
    console.as_json = as_json
    found = read_policies(workspace().root)
    own = [rule for rule, where in found.rules.items() if where]
    if as_json:
        console.answer({"valid": True, "rules": list(found.rules), "own": own})
    else:
        console.say(f"[green]valid[/green]: {len(own)} rules of this workspace beside {len(found.rules) - len(own)}")


def _asked(words: list[str], *, by_role: bool) -> dict[str, str]:
    rest = list(words)
    asked: dict[str, str] = {}
    if not by_role and len(rest) > 1:
        asked["principal"] = rest.pop(0)
    asked["action"] = rest.pop(0)
    if rest:
        service, _, environment = rest.pop(0).partition("/")
        asked |= {name: value for name, value in (("service", service), ("environment", environment)) if value}
    if rest:
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT,
            f"too many words: {' '.join(words)}",
            "`santiago policy test my-agent deploy_service hello/production`",
        )
    return asked
