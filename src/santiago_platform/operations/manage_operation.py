"""Follows an operation, and tells it what to do: promote, abort, roll back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

from pydantic import Field

from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Name, Principal
from ..domain.operation import Operation, OperationState
from ..domain.phase import PROMOTABLE, Phase
from ..domain.rollout import Message, MessageKind, Rollout
from ..domain.value import Value
from ..ports import Ports
from ..ports.store import Snapshot
from .authority import ALL, authorise, is_shown
from .change import change
from .configure_flag import KIND as FLAG_CHANGE
from .configure_flag import FlagChange, configure_flag
from .configure_monitoring import KIND as MONITORING_CHANGE
from .configure_monitoring import undo_monitoring
from .create_alert import KIND as ALERT_CHANGE
from .create_alert import undo_alert
from .decide_change import PlanHash, Word, decide_change
from .operation_view import OperationView, view
from .tell_operation import Telling, tell
from .tenancy import of_all_tenants, require_service

READING = frozenset({"status", "wait", "history"})

_UNDO = {ALERT_CHANGE: undo_alert, MONITORING_CHANGE: undo_monitoring}
Report = Callable[[float, str], Awaitable[None]]


class OperationCommand(Value):
    """operation: its id; or service and environment, whose newest operation is meant.

    to: of rollback, a version that was live there, or its release by 12 or more hex digits; None means the one before.
    approve, reject: of what waits for somebody. plan: the hash of the plan that was seen. break_glass: the requester's
    own approval, in an emergency. timeout_seconds: of wait. limit: of history. reason: goes to the ship's log.
    """

    action: Literal["status", "wait", "promote", "abort", "rollback", "history", "approve", "reject"]
    operation: Annotated[str, Field(max_length=64)] | None = None
    service: Name | None = None
    environment: Name | None = None
    to: Annotated[str, Field(max_length=80)] | None = None
    reason: Annotated[str, Field(max_length=500)] = ""
    timeout_seconds: Annotated[float, Field(ge=0, le=600)] = 60
    limit: Annotated[int, Field(ge=1, le=50)] = 20
    plan: PlanHash | None = None
    break_glass: bool = False


class OperationsView(Value):
    """Newest first."""

    operations: tuple[OperationView, ...]


async def manage_operation(
    ports: Ports, principal: Principal, command: OperationCommand, report: Report | None = None
) -> OperationsView:
    """Does `command`. report(progress, message) is called at each step that a wait sees.

    Raises PlatformError: NOT_FOUND, FAILED_PRECONDITION (nothing to promote, to abort, to approve or to go back to;
    a gate that does not pass any more; what was approved has moved), PERMISSION_DENIED.
    """
    if command.to is not None and command.action != "rollback":
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT, f"{command.action} takes no `to`", "action rollback does: it says where to"
        )
    if command.action in READING:
        # Of one that is named by its id, the place is known once it is found.
        where = command.environment if command.operation else command.environment or ALL
        authorise(ports, principal, "read_operation", service=command.service, environment=where)
    match command.action:
        case "history":
            return await _history(ports, principal, command)
        case "status":
            operation = await _readable(ports, principal, command)
            return await ports.store.read(lambda v: OperationsView(operations=(view(v, operation),)))
        case "wait":
            operation = await _readable(ports, principal, command)
            return await _wait(ports, operation.id, command.timeout_seconds, report)
        case "promote" | "abort" | "rollback":
            return await _tell(ports, principal, command)
        case "approve" | "reject":
            if command.operation is None:
                raise PlatformError(
                    ErrorCode.INVALID_ARGUMENT,
                    f"say by its id which operation to {command.action}: of a service there may be several",
                    "action history lists them",
                )
            answer = Word(
                operation=command.operation,
                approved=command.action == "approve",
                plan=command.plan,
                reason=command.reason,
                break_glass=command.break_glass,
            )
            return await _answer(ports, await decide_change(ports, principal, answer))


async def _tell(ports: Ports, principal: Principal, command: OperationCommand) -> OperationsView:
    if command.action == "rollback" and command.operation is not None:
        found = await ports.store.read(lambda v: v.operation(command.operation or ""))
        if found is not None and not _is_known(found, principal):
            found = None  # refused below, in the words for one that there is not
        if found is not None and found.kind == FLAG_CHANGE:
            back = FlagChange(action="rollback", flag=found.request["flag"], operation=found.id, reason=command.reason)
            return await _answer(ports, (await configure_flag(ports, principal, back)).id)
        undo = _UNDO.get(found.kind) if found is not None else None
        if found is not None and undo is not None:
            return await _answer(ports, await undo(ports, principal, found, command.reason))
    subject = command.operation or f"{command.service}/{command.environment}"
    asked = command.model_dump(mode="json", exclude_defaults=True)
    action = f"manage_operation.{command.action}"
    async with change(ports, principal, action, subject, asked) as record:
        authorise(ports, principal, action, waits=True)
        service, environment, operation_id = await _subject(ports, principal, command)
        told = command.model_dump(include={"action", "to", "reason"})
        telling = Telling(**told, service=service, environment=environment, operation=operation_id)
        operation_id = await tell(ports, principal, telling, record)
    ports.activation.activate()
    return await _answer(ports, operation_id)


async def _subject(ports: Ports, principal: Principal, command: OperationCommand) -> tuple[str, str, str | None]:
    if command.operation is None and command.service and command.environment:
        await require_service(ports, principal, ports.workspace.last_good_settings(), command.service)
        return command.service, command.environment, None
    operation = await _find(ports, principal, command)
    await require_service(ports, principal, ports.workspace.last_good_settings(), operation.service)
    return operation.service, operation.environment, operation.id


async def _find(ports: Ports, principal: Principal, command: OperationCommand) -> Operation:
    return await ports.store.read(lambda v: _found(v, principal, command))


async def _readable(ports: Ports, principal: Principal, command: OperationCommand) -> Operation:
    found = await _find(ports, principal, command)
    authorise(ports, principal, "read_operation", service=found.service or None, environment=found.environment)
    return found


def _found(v: Snapshot, principal: Principal, command: OperationCommand) -> Operation:
    """Raises INVALID_ARGUMENT where no operation is named, NOT_FOUND, for another tenant's too."""
    if command.operation is None and not (command.service and command.environment):
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT,
            "say which operation: its id, or service and environment",
            "action history lists operations",
        )
    if command.operation is not None:
        operation = v.operation(command.operation)
    else:
        newest = v.operations(service=command.service, environment=command.environment, limit=1)
        operation = newest[0] if newest else None
    if operation is None or not _is_known(operation, principal):
        what = command.operation or f"{command.service}/{command.environment}"
        raise PlatformError(ErrorCode.NOT_FOUND, f"there is no operation {what}", "action history lists operations")
    return operation


def _is_known(operation: Operation, principal: Principal) -> bool:
    return of_all_tenants(principal) or operation.of_tenant == principal.tenant


async def _history(ports: Ports, principal: Principal, command: OperationCommand) -> OperationsView:
    settings = ports.workspace.last_good_settings()

    def look(v: Snapshot) -> OperationsView:
        found = v.operations(
            tenant=None if of_all_tenants(principal) else principal.tenant,
            service=command.service,
            environment=command.environment,
            limit=command.limit,
        )
        return OperationsView(operations=tuple(view(v, o) for o in found if may_see(o)))

    def may_see(o: Operation) -> bool:
        return is_shown(ports, principal, "read_operation", settings, o.service, o.environment)

    return await ports.store.read(look)


async def _answer(ports: Ports, operation_id: str) -> OperationsView:
    def look(v: Snapshot) -> OperationsView:
        operation = v.operation(operation_id)
        return OperationsView(operations=(view(v, operation),) if operation else ())

    return await ports.store.read(look)


async def _wait(ports: Ports, operation_id: str, timeout_seconds: float, report: Report | None) -> OperationsView:
    """Returns once the operation has finished and its log entry is complete, or is held for a person, or after the
    time-out."""
    until = ports.clock.monotonic() + timeout_seconds
    told = ""
    while True:
        operation = await ports.store.read(lambda v: v.operation(operation_id))
        if operation is None or operation.state is OperationState.AWAITING or operation.logged:
            break
        words = f"{operation.phase}, {operation.reason}" if operation.phase == Phase.ANALYSING else operation.phase
        if report is not None and words != told:
            told = words
            await report(operation.progress, f"{operation.service}/{operation.environment}: {told}")
        if operation.phase in PROMOTABLE and await ports.store.read(lambda v: _is_held(v, operation_id)):
            break
        left = until - ports.clock.monotonic()
        if left <= 0:
            break
        await ports.clock.sleep(min(0.05, left))
    return await _answer(ports, operation_id)


def _is_held(view: Snapshot, operation_id: str) -> bool:
    """Whether a rollout waits for a person, and nobody has told it what to do yet."""
    rollout = view.rollout_of(operation_id)
    waits = rollout is not None and (rollout.phase is Phase.HOLDING or rollout.needs_somebody)
    return waits and rollout is not None and not any(_decides(m, rollout) for m in view.messages(rollout.id))


def _decides(message: Message, rollout: Rollout) -> bool:
    """A number of replicas is no decision, and stays in the inbox while the rollout is held."""
    step = rollout.step if rollout.phase is Phase.ANALYSING else message.step
    return message.kind is MessageKind.ABORT or (message.kind is MessageKind.PROMOTE and message.step == step)
