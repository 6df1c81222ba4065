"""One operation: a rollout with its verdict while it runs, its proof when it has ended, and what one may tell it."""

from __future__ import annotations

from typing import Any

from ....domain.identity import Principal
from ....operations.manage_operation import OperationCommand, manage_operation
from ....operations.read_rollout import read_rollout
from ....ports import Ports
from ....tools.schema import parse
from ..page import Form, Given, Page

WORDS = ("promote", "abort", "rollback")  # approve and reject are the page's that shows the whole plan


async def _load(ports: Ports, who: Principal, given: Given) -> dict[str, Any]:
    command = parse(OperationCommand, {"action": "status", "operation": given["operation"]})
    operation = (await manage_operation(ports, who, command)).operations[0]
    return {
        "title": f"Operation {operation.id}",
        "operation": operation,
        "rollout": await read_rollout(ports, who, operation.id),
    }


async def _manage(ports: Ports, who: Principal, given: Given) -> str:
    asked = {"action": given.get("action") if given.get("action") in WORDS else "", "operation": given["operation"]}
    command = parse(OperationCommand, asked | ({"reason": given["reason"]} if "reason" in given else {}))
    told = (await manage_operation(ports, who, command)).operations
    return f"/console/operations/{told[0].id if told else command.operation}"


OPERATION = Page(
    path="/console/operations/{operation}",
    template="operation.html",
    title="Operation",
    load=_load,
    section="operations",
)
MANAGE = Form(path="/console/operations/{operation}", handle=_manage)
