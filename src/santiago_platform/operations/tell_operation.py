"""A word to what is under way or live in one place: promote, abort, roll back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from ..domain.change_plan import plan_of_abort, plan_of_promotion, plan_of_rollback
from ..domain.change_request import Decision as Approved
from ..domain.change_request import MovedError
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Name, Principal
from ..domain.operation import Operation, OperationState
from ..domain.phase import Phase
from ..domain.plan import Plan, fingerprint
from ..domain.policy import Decision as Ruling
from ..domain.rollout import Message, MessageKind, Rollout
from ..domain.value import Value
from ..ports import Ports
from ..ports.store import Snapshot, Transaction
from .authority import authorise
from .change import Record
from .change_request import Ended, Live, Prepared, hold, needs_of_policy, wanted
from .check_gates import require_gates_still
from .rollback_service import KIND as ROLLBACK
from .rollback_service import end_waiting, plan_rollback, waiting_rollbacks
from .tenancy import require_service

KIND = "manage_operation"


class Telling(Value):
    """operation: that it is said to; None means what is under way, or live. to: of a rollback, where to."""

    action: Literal["promote", "abort", "rollback"]
    service: Name
    environment: Name
    operation: Annotated[str, Field(max_length=64)] | None = None
    to: Annotated[str, Field(max_length=80)] | None = None
    reason: Annotated[str, Field(max_length=500)] = ""


class _Said(NamedTuple):
    """telling: with the operation that is meant. deliver: says it, and returns the operation that goes on or back."""

    telling: Telling
    plan: Plan
    deliver: Callable[[Transaction], str]


async def tell(ports: Ports, principal: Principal, telling: Telling, record: Record) -> str:
    """Says it, or holds it for whom a policy asks for. Returns the operation that goes on, goes back, or waits.

    An environment's own rule holds up neither: what is promoted was let through by it, and the way back never waits.
    Raises PlatformError: FAILED_PRECONDITION (nothing to promote, to abort or to go back to; a gate that does not pass
    any more), CONFLICT (another operation is under way), NOT_FOUND, PERMISSION_DENIED.
    """
    ruling = await _admit(ports, principal, telling)
    said = await _said(ports, principal, telling, record)
    await _ask_gates(ports, said.telling)
    needs = needs_of_policy(ruling)
    wants = wanted(ports.workspace.last_good_settings(), telling.environment, needs)
    if wants is None:
        return await ports.store.write(said.deliver)
    return (await hold(ports, record, _prepared(ports, principal, said, ruling, record), wants)).id


async def prepare_telling(
    ports: Ports,
    principal: Principal,
    arguments: Mapping[str, Any],
    record: Record,
    approvals: tuple[Approved, ...] = (),
) -> Prepared:
    """Raises MovedError where what was meant is no longer under way or live; else as `tell` does."""
    telling = Telling.model_validate(arguments)
    ruling = await _admit(ports, principal, telling)
    try:
        said = await _said(ports, principal, telling, record)
    except PlatformError as exc:
        if exc.code not in (ErrorCode.FAILED_PRECONDITION, ErrorCode.CONFLICT):
            raise
        raise MovedError(exc.message) from exc
    await _ask_gates(ports, said.telling)
    return _prepared(ports, principal, said, ruling, record)


async def carry_telling(ports: Ports, operation: Operation) -> Ended | None:
    """It ends with the operation that was told."""
    action, told = operation.request["action"], operation.request["told"]
    found = await ports.store.read(lambda view: view.operation(told))
    if found is None:
        return Ended(OperationState.UNVERIFIED, f"operation {told} is no longer kept")
    if not found.state.finished:
        return None
    state, goes_on = found.state, action == "promote" or found.kind == ROLLBACK
    if state is not OperationState.UNVERIFIED or not goes_on:
        wanted = OperationState.SUCCEEDED if goes_on else OperationState.ROLLED_BACK
        state = OperationState.SUCCEEDED if state is wanted else OperationState.FAILED
    reason = f"operation {told} is {found.state}" + (f": {found.reason}" if found.reason else "")
    return Ended(state, reason, proof=found.proof)


async def _admit(ports: Ports, principal: Principal, telling: Telling) -> Ruling:
    """An approval that is needed is waited for."""
    settings = ports.workspace.last_good_settings()
    service, environment, action = telling.service, telling.environment, f"{KIND}.{telling.action}"
    ruling = authorise(ports, principal, action, settings, service=service, environment=environment, waits=True)
    await require_service(ports, principal, settings, service)
    return ruling


async def _ask_gates(ports: Ports, telling: Telling) -> None:
    if telling.action == "promote":
        await require_gates_still(ports, telling.operation or "")


def _prepared(ports: Ports, principal: Principal, said: _Said, ruling: Ruling, record: Record) -> Prepared:
    telling, now = said.telling, ports.clock.now()
    arguments = telling.model_dump(mode="json", exclude_defaults=True)
    operation = Operation(
        id=record.operation,
        kind=KIND,
        principal=principal,
        tenant=ports.workspace.last_good_settings().tenant_of(telling.service),
        service=telling.service,
        environment=telling.environment,
        request=arguments,
        phase="delivered",
        reason=telling.reason,
        created_at=now,
        updated_at=now,
        log_entry=record.seq,
    )

    def begin_it(tx: Transaction) -> None:
        told = said.deliver(tx)
        if told != operation.id:  # else a rollback has begun, which is this operation
            tx.save_operation(operation.model_copy(update={"request": {**arguments, "told": told}}))

    return Prepared(
        operation=operation,
        arguments=arguments,
        plan=said.plan,
        live=_live(ports, telling),
        needs=needs_of_policy(ruling),
        begin=begin_it,
    )


def _live(ports: Ports, telling: Telling) -> Live:
    """What is live, and what is under way; of a promotion the step, too: the next one is another promotion."""
    policy = ports.policy.version()

    def live(view: Snapshot) -> str:
        deployment = view.deployment(telling.service, telling.environment)
        active = view.active_rollout(telling.service, telling.environment)
        version = deployment.live if deployment else None
        step = [active.step, active.moved] if active and telling.action == "promote" else None
        return fingerprint(
            {
                "target": [telling.service, telling.environment, deployment.tenant if deployment else ""],
                "version": version.name if version else None,
                "under way": active.operation_id if active else None,
                "step": step,
                "policy": policy,
            }
        )

    return live


async def _said(ports: Ports, principal: Principal, telling: Telling, record: Record) -> _Said:
    service, environment = telling.service, telling.environment
    now = ports.clock.now()
    if telling.action == "rollback":
        back = await plan_rollback(
            ports, principal, service, environment, record, reason=telling.reason, to=telling.to, of=telling.operation
        )

        def leads(view: Snapshot) -> Plan:
            target, deployment = back.target(view), view.deployment(service, environment)
            return plan_of_rollback(service, environment, deployment.live if deployment else None, target)

        return _Said(telling, await ports.store.read(leads), back.begin)

    def message(tx: Transaction, rollout: Rollout) -> str:
        said = Message(
            id=record.operation,
            kind=MessageKind.PROMOTE if telling.action == "promote" else MessageKind.ABORT,
            by=principal.name,
            reason=telling.reason,
            step=rollout.step if rollout.phase is Phase.ANALYSING else None,
            at=now,
        )
        if rollout.phase.going_back:
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                f"operation {rollout.operation_id} has ended or is going back already",
                "action status says how; action rollback takes a finished one back",
            )
        tx.add_message(rollout.id, said)
        record.outcome, record.body = "delivered", {"to": rollout.operation_id}
        return rollout.operation_id

    if telling.action == "promote":
        rollout = await ports.store.read(lambda view: _promotable(view, telling))
        bound = telling.model_copy(update={"operation": rollout.operation_id})
        return _Said(bound, plan_of_promotion(rollout), lambda tx: message(tx, _promotable(tx, bound)))

    def abort(tx: Transaction) -> str:
        waiting = _waiting(tx, bound)
        if waiting is None:
            return message(tx, _active(tx, bound))
        why = f"aborted by {principal.name}" + (f": {telling.reason}" if telling.reason else "")
        end_waiting(tx, waiting, why, now)
        record.outcome, record.body = "delivered", {"to": waiting.id}
        return waiting.id

    def meant(view: Snapshot) -> str:
        waiting = _waiting(view, telling)
        return waiting.id if waiting is not None else _active(view, telling).operation_id

    bound = telling.model_copy(update={"operation": await ports.store.read(meant)})
    return _Said(bound, plan_of_abort(service, environment, bound.operation or ""), abort)


def _waiting(view: Snapshot, telling: Telling) -> Operation | None:
    """The rollback that is meant, where it waits for the end of what is under way. Without an operation's name, what
    can be aborted now is meant: the rollout, and where it goes back already, what waits for its end."""
    waiting = waiting_rollbacks(view, telling.service, telling.environment)
    if telling.operation is not None:
        return next((o for o in waiting if o.id == telling.operation), None)
    active = view.active_rollout(telling.service, telling.environment)
    return next(iter(waiting), None) if active is None or active.phase.going_back else None


def _active(view: Snapshot, telling: Telling) -> Rollout:
    """Raises FAILED_PRECONDITION where none is under way, CONFLICT where another one is than is meant."""
    rollout = view.active_rollout(telling.service, telling.environment)
    if rollout is None:
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"no rollout of {telling.service}/{telling.environment} is active: there is nothing to {telling.action}",
            "action rollback takes a finished one back",
        )
    if telling.operation not in (None, rollout.operation_id):
        raise PlatformError(
            ErrorCode.CONFLICT,
            f"operation {rollout.operation_id} is rolling out {telling.service}/{telling.environment} now",
            "wait for it, or abort it first",
        )
    return rollout


def _promotable(view: Snapshot, telling: Telling) -> Rollout:
    rollout = _active(view, telling)
    waits = rollout.phase is Phase.ANALYSING or (rollout.hold and not rollout.moved)
    if not waits or rollout.phase.going_back:
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"operation {rollout.operation_id} does not wait for a promotion: it is {rollout.phase}",
            "deploy_service with hold waits before traffic moves, and a canary while it is analysing a step",
        )
    return rollout
