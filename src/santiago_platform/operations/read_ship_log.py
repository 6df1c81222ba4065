"""Reads single entries of the ship's log, of the caller's own tenant."""

from __future__ import annotations

from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Principal
from ..domain.ship_log import Entry
from ..ports import Ports
from .authority import ALL, authorise
from .tenancy import of_all_tenants


async def read_log_entry(ports: Ports, principal: Principal, seq: int) -> Entry:
    """Without what is for the platform's own log alone. So its hash holds for the entry in the file, not for this one.

    Raises PlatformError: NOT_FOUND, with the same words for another tenant's entry; PERMISSION_DENIED.
    """
    settings = ports.workspace.last_good_settings()
    authorise(ports, principal, "read_operation", settings)
    entry = await ports.ship_log.entry(seq)
    if entry is None or (entry.tenant != principal.tenant and not of_all_tenants(principal)):
        raise PlatformError(
            ErrorCode.NOT_FOUND, f"there is no entry {seq} in the ship's log", "operations name their entry's number"
        )
    operation = await ports.store.read(lambda view: view.operation(entry.operation))
    service, environment = (operation.service, operation.environment) if operation else ("", ALL)
    authorise(ports, principal, "read_operation", settings, service=service or None, environment=environment)
    return entry.model_copy(update={"body": {k: v for k, v in entry.body.items() if k != "internal"}})
