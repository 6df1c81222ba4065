"""Mail between roles: send to one or to all, read the own mailbox, acknowledge."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from ...domain.identity import Role
from ...domain.mailbox import Severity
from .app import AsJson, console, daemon

mail = typer.Typer(help="Mail between roles.", no_args_is_help=True)
Text = Annotated[str, typer.Argument(help="What to say, up to 2,000 characters.")]
How = Annotated[Severity, typer.Option(help="How bad it is.")]
Operation = Annotated[str | None, typer.Option(help="The operation that it is about.")]
Incident = Annotated[str | None, typer.Option(help="The incident that it is about.")]
Key = Annotated[str | None, typer.Option(help="Names the matter: told again within the hour, it is one mail.")]
COLOURS = {"info": "dim", "warning": "yellow", "critical": "bold red"}


def register(app: typer.Typer) -> None:
    app.add_typer(mail, name="mail")


@mail.command("team")
def team(
    text: Text,
    severity: How = Severity.INFO,
    operation: Operation = None,
    incident: Incident = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Send a mail to every role."""
    console.as_json = as_json
    fields = {"text": text, "severity": severity, "operation": operation, "incident": incident, "key": key}
    _sent(daemon().tool("message_team", **fields))


@mail.command("role")
def role(
    to: Annotated[Role, typer.Argument(metavar="ROLE", help="Whose mailbox.")],
    text: Text,
    severity: How = Severity.INFO,
    operation: Operation = None,
    incident: Incident = None,
    thread: Annotated[str | None, typer.Option(help="The mail that it answers, by id.")] = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Send a mail to one role."""
    console.as_json = as_json
    fields = {"text": text, "severity": severity, "operation": operation, "incident": incident, "key": key}
    _sent(daemon().tool("message_role", action="send", role=to, thread=thread, **fields)["sent"])


def _sent(sent: dict[str, Any]) -> None:
    if console.as_json:
        console.answer(sent)
    else:
        console.say(f"{'told already' if sent['repeat'] else 'sent'} to {sent['to']}: {sent['id']}")


@mail.command("read")
def read(
    limit: Annotated[int, typer.Option(min=1, max=50, help="How many.")] = 10,
    cursor: Annotated[str | None, typer.Option(help="Of the page before.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show your role's mailbox: unread mail first."""
    console.as_json = as_json
    found = daemon().tool("message_role", action="read", limit=limit, cursor=cursor)["mailbox"]
    if as_json:
        console.answer(found)
        return
    for each in found["mails"]:
        about = " ".join(each[link] for link in ("operation", "incident") if each.get(link))
        colour = COLOURS[each["severity"]]
        console.say(
            f"{'*' if each['unread'] else ' '} [{colour}]{each['severity']}[/] {each['at'][:19]} {each['id']} "
            f"from {escape(each['by'])} to {each['to']}  {escape(about)}"
        )
        for line in each["text"].splitlines():
            console.say(f"    {escape(line)}")
    console.say(f"{found['unread']} unread in the mailbox of {found['role']}")
    if found.get("cursor"):
        console.say(f"  older ones: --cursor {found['cursor']}")


@mail.command("acknowledge")
def acknowledge(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="As `santiago mail read` shows them.")],
    as_json: AsJson = False,
) -> None:
    """Say that mails of your role were dealt with."""
    console.as_json = as_json
    found = daemon().tool("message_role", action="acknowledge", mails=ids)["mailbox"]
    if as_json:
        console.answer(found)
    else:
        console.say(f"{found['unread']} unread in the mailbox of {found['role']}")


@mail.command("undelivered")
def undelivered(
    retry: Annotated[bool, typer.Option("--retry", help="Try them all again, from now on.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what was given up: mail that a receiver of santiago.yaml never took."""
    console.as_json = as_json
    found = daemon().post("/api/deliveries", {}) if retry else daemon().get("/api/deliveries")
    if as_json:
        console.answer(found)
        return
    rows = [[d["at"][:19], d["receiver"], d["mail"], str(d["attempts"]), d["reason"]] for d in found["deliveries"]]
    console.table(["AT", "RECEIVER", "MAIL", "ATTEMPTS", "REASON"], rows)
