"""Reads the ship's log: single entries and the last ones, of the caller's own tenant; and verifies it."""

from __future__ import annotations

from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Principal
from ..domain.ship_log import Entry, Verification
from ..domain.value import Value
from ..ports import Ports
from .authority import ALL, authorise, is_shown
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
    return _outward(entry)


class LogView(Value):
    """Newest first. operations: ids in them that operations can be found by."""

    entries: tuple[Entry, ...]
    operations: frozenset[str]


async def read_log_entries(ports: Ports, principal: Principal) -> LogView:
    """What was done last, and what is under way: of each change its completed entry, else its opened one.

    Raises PlatformError(PERMISSION_DENIED).
    """
    settings = ports.workspace.last_good_settings()
    authorise(ports, principal, "read_operation", settings)
    entries = [*await ports.ship_log.unfinished(), *await ports.ship_log.completed()]
    own = [e for e in entries if of_all_tenants(principal) or e.tenant == principal.tenant]
    found = await ports.store.read(lambda view: {e.operation: view.operation(e.operation) for e in own if e.operation})

    def may_see(entry: Entry) -> bool:
        operation = found.get(entry.operation)
        service, environment = (operation.service, operation.environment) if operation else ("", ALL)
        return is_shown(ports, principal, "read_operation", settings, service, environment)

    return LogView(
        entries=tuple(_outward(e) for e in sorted(own, key=lambda e: e.seq, reverse=True) if may_see(e)),
        operations=frozenset(id for id, operation in found.items() if operation is not None),
    )


async def verify_ship_log(ports: Ports, principal: Principal) -> Verification:
    """Follows the whole chain. Raises PlatformError(PERMISSION_DENIED): it is of all tenants."""
    settings = ports.workspace.last_good_settings()
    authorise(ports, principal, "read_operation", settings)
    if not (of_all_tenants(principal) or principal.tenant == settings.tenant):
        raise PlatformError(ErrorCode.PERMISSION_DENIED, "the ship's log is of all tenants", "the owner can verify it")
    return await ports.ship_log.verify()


def _outward(entry: Entry) -> Entry:
    return entry.model_copy(update={"body": {k: v for k, v in entry.body.items() if k != "internal"}})
