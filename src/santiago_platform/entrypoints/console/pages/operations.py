"""The newest operations."""

from __future__ import annotations

from typing import Any

from ....domain.identity import Principal
from ....operations.manage_operation import OperationCommand, manage_operation
from ....ports import Ports
from ..page import Given, Page


async def _load(ports: Ports, who: Principal, _: Given) -> dict[str, Any]:
    return {"operations": (await manage_operation(ports, who, OperationCommand(action="history", limit=50))).operations}


OPERATIONS = Page(
    path="/console/operations", template="operations.html", title="Operations", load=_load, section="operations"
)
