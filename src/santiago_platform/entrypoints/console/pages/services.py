"""All services, and first of all what waits for somebody."""

from __future__ import annotations

from typing import Any

from ....domain.identity import Principal
from ....domain.operation import OperationState
from ....operations.manage_operation import OperationCommand, manage_operation
from ....operations.read_architecture import ArchitectureQuery, read_architecture
from ....ports import Ports
from ..page import Given, Page


async def _load(ports: Ports, who: Principal, _: Given) -> dict[str, Any]:
    found = await read_architecture(ports, who, ArchitectureQuery())
    newest = (await manage_operation(ports, who, OperationCommand(action="history", limit=50))).operations
    open = [o for o in newest if o.state in (OperationState.AWAITING, OperationState.RUNNING)]
    return {"found": found, "open": open}


SERVICES = Page(path="/", template="services.html", title="Services", load=_load, section="services")
