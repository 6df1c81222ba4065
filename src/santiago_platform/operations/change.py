"""The one way through of every change: recorded before, authorised, planned, recorded after.

async with change(ports, principal, "deploy_service", "hello/production", request) as record:
    ...authorise, plan, gate and store; set record.operation when it goes on after the answer
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ..domain.announcement import announcements
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Principal
from ..domain.operation import Operation, OperationState
from ..domain.ship_log import Draft, EntryKind
from ..ports import Ports
from ..ports.client_model import NeedsInput
from ..ports.store import Snapshot, Transaction
from .disk_space import require_space
from .post import post

_ENDS = frozenset(state for state in OperationState if state.finished)


class Record:
    """The change's entry in the ship's log.

    seq: of the opened entry. operation: its id. continues: the change goes on after the answer, so that the
    reconciler completes the entry. outcome, body: for the completion of a change that ends with the answer.
    """

    def __init__(self, seq: int, operation: str) -> None:
        self.seq = seq
        self.operation = operation
        self.continues = False
        self.outcome = "done"
        self.body: dict[str, Any] = {}


@asynccontextmanager
async def change(
    ports: Ports, principal: Principal, action: str, subject: str, request: dict[str, Any], *, operation: str = ""
) -> AsyncIterator[Record]:
    """Opens the entry durably before the body runs and completes it after, refused and failed changes too.

    operation: its id where it has one already, since it was planned of words before.

    Raises RESOURCE_EXHAUSTED, with nothing written, where the disk is too full.
    """
    require_space(ports)
    operation = operation or ports.clock.new_id("op")
    body: dict[str, Any] = {"request": request}
    if principal.session:
        body["session"] = principal.session
    opened = await ports.ship_log.append(
        _draft(EntryKind.OPENED, action, principal, operation=operation, subject=subject, body=body)
    )
    record = Record(opened.seq, operation)

    async def complete(outcome: str, body: dict[str, Any]) -> None:
        await ports.ship_log.append(
            _draft(
                EntryKind.COMPLETED,
                action,
                principal,
                of=opened.seq,
                operation=operation,
                subject=subject,
                outcome=outcome,
                body=body,
            )
        )

    try:
        with ports.traces.span(
            f"change {action}",
            attributes={"santiago.operation": operation, "santiago.subject": subject},
            operation=operation,
        ):
            yield record
    except NeedsInput:
        await complete("asked", {"reason": "the client's model is asked; the call made again goes on with it"})
        raise
    except PlatformError as exc:
        outcome = "denied" if exc.code in (ErrorCode.PERMISSION_DENIED, ErrorCode.UNAUTHENTICATED) else "refused"
        await complete(outcome, {"code": exc.code, "message": exc.message, "internal": exc.internal})
        raise
    except Exception as exc:
        await complete("failed", {"code": ErrorCode.INTERNAL, "internal": repr(exc)})
        raise
    except BaseException:  # whoever asked has gone
        await asyncio.shield(complete("cancelled", {"reason": "the call was broken off before it had an answer"}))
        raise
    if not record.continues:
        await complete(record.outcome, record.body)


async def complete_operation(ports: Ports, operation: Operation) -> None:
    """Completes the log entry of an operation that has finished, and announces its end to whom it concerns.

    Called again after a crash, it does no harm.
    """
    opened = next((e for e in await ports.ship_log.unfinished() if e.seq == operation.log_entry), None)
    if opened is not None:
        body: dict[str, Any] = {"reason": operation.reason, "detail": list(operation.detail)}
        if operation.gates:
            body["gates"] = [str(answer) for answer in operation.gates]
        if operation.proof is not None:
            body["proof"] = operation.proof.model_dump(mode="json")
        completion = _draft(
            EntryKind.COMPLETED,
            opened.action,
            operation.principal,
            of=opened.seq,
            operation=operation.id,
            subject=opened.subject,
            outcome=operation.state,
            body=body,
        )
        try:
            await ports.ship_log.append(completion)
        except PlatformError as exc:
            if exc.code is not ErrorCode.INVALID_ARGUMENT:  # another loop was first
                raise
    logged, settings = operation.model_copy(update={"logged": True}), ports.workspace.last_good_settings()

    def unit(tx: Transaction) -> None:
        tx.save_operation(logged)
        post(tx, announcements(logged, settings.kind_of(logged.environment), _version(tx, logged)), settings)

    await ports.store.write(unit)
    ports.traces.operation(
        operation.id,
        f"operation {operation.kind}",
        operation.created_at,
        operation.finished_at or ports.clock.now(),
        {
            "santiago.operation": operation.id,
            "santiago.service": operation.service,
            "santiago.environment": operation.environment,
            "santiago.state": operation.state,
        },
        failed=operation.state in (OperationState.FAILED, OperationState.ROLLED_BACK),
    )


def _version(view: Snapshot, operation: Operation) -> str:
    rollout = view.rollout_of(operation.id)
    return rollout.new.name if rollout is not None and rollout.new is not None else ""


async def close_interrupted(ports: Ports) -> int:
    """At start: completes the entries whose change left nothing to go on with. Returns how many there were."""
    closed = 0
    for entry in await ports.ship_log.unfinished():
        operation = await ports.store.read(lambda view, id=entry.operation: view.operation(id))  # type: ignore[misc]
        if operation is not None:
            continue  # its reconciler completes it
        closed += 1
        await ports.ship_log.append(
            Draft(
                kind=EntryKind.COMPLETED,
                action=entry.action,
                principal=entry.principal,
                role=entry.role,
                tenant=entry.tenant,
                of=entry.seq,
                operation=entry.operation,
                subject=entry.subject,
                outcome="interrupted",
                body={"reason": "the platform ended in between; whether the change took effect is not known"},
            )
        )
    return closed


async def note_lost(ports: Ports, principal: Principal) -> list[str]:
    """At start: notes the operations whose end is in the ship's log and not in the database, which lost its own then.

    Returns their ids, oldest first. Those that the database still has as running are run to their end again.
    """
    lost = []
    for entry in await ports.ship_log.completed():
        # A change that ended with its answer has no row, nor has one that failed before it had any, with a code.
        if entry.outcome in _ENDS and "code" not in entry.body and not entry.action.startswith("manage_operation."):
            operation = await ports.store.read(lambda view, id=entry.operation: view.operation(id))  # type: ignore[misc]
            if operation is None or operation.state is OperationState.RUNNING:
                lost.append(entry.operation)
    if lost:
        body = {"operations": lost, "reason": "the database ends before them: what it has as live is made live again"}
        await note(ports, principal, "platform.lost", str(ports.workspace.root), body)
    return lost


async def note(ports: Ports, principal: Principal, action: str, subject: str, body: dict[str, Any]) -> None:
    """An event of the platform itself: a start, a stop, a repair."""
    await ports.ship_log.append(_draft(EntryKind.NOTED, action, principal, subject=subject, body=body))


def _draft(kind: EntryKind, action: str, principal: Principal, **fields: Any) -> Draft:
    return Draft(
        kind=kind, action=action, principal=principal.name, role=principal.role, tenant=principal.tenant, **fields
    )
