"""Where an approver reads the whole plan and says yes or no; its URL is what the platform hands out.

Nobody approves by opening it, nor by anything that the requester's client answers: what counts is who has signed in.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from ....domain.identity import Principal
from ....domain.operation import OperationState
from ....operations.decide_change import Word, why_not
from ....operations.manage_operation import OperationCommand, manage_operation
from ....ports import Ports
from ....tools.schema import parse
from ..page import Form, Given, Page


def approval_path(operation: str, plan: str) -> str:
    """Of an operation that waits, with the hash of the plan that was shown to whoever asked."""
    return f"/approve/{operation}?{urlencode({'hash': plan})}"


async def _load(ports: Ports, who: Principal, given: Given) -> dict[str, Any]:
    command = parse(OperationCommand, {"action": "status", "operation": given["operation"]})
    operation = (await manage_operation(ports, who, command)).operations[0]
    words: dict[bool, Any] = {True: None, False: None}
    if operation.state == OperationState.AWAITING:
        shown = operation.plan.hash if operation.plan else None
        for approved in words:
            word = {"operation": operation.id, "approved": approved, "plan": given.get("hash", shown)}
            words[approved] = await why_not(ports, who, parse(Word, word))
    return {
        "title": f"Approve {operation.id}",
        "operation": operation,
        "no_yes": words[True],
        "no_no": words[False],
        "here": f"/approve/{operation.id}" + (f"?{urlencode({'hash': given['hash']})}" if "hash" in given else ""),
    }


async def _decide(ports: Ports, who: Principal, given: Given) -> str:
    """The form has the hash of the plan that its page has shown, and nothing is decided without one."""
    command = {
        "action": given["word"] if given.get("word") in ("approve", "reject") else "",
        "operation": given["operation"],
        "plan": given.get("hash", ""),
        "reason": given.get("reason", ""),
    }
    await manage_operation(ports, who, parse(OperationCommand, command))
    return f"/console/operations/{given['operation']}"


APPROVE = Page(
    path="/approve/{operation}",
    template="approve.html",
    title="Approve",
    load=_load,
    section="operations",
    query=("hash",),
)
DECIDE = Form(path="/approve/{operation}", handle=_decide)
