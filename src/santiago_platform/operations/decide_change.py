"""Says yes or no to a change that waits, and starts what was approved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from ..domain.change_request import ChangeRequest, Decision, Granted, MovedError, Need, NeedsMoreError, Wants
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Principal
from ..domain.operation import OperationState
from ..domain.policy import ACTIONS
from ..domain.value import Value
from ..ports import Ports
from ..ports.store import Transaction
from .authority import authorise
from .change import change, note
from .change_request import Holdable, ask_approvers, end, is_revoked, start_approved, waits_for
from .configure_flag import KIND as FLAG_CHANGE
from .configure_flag import prepare_flag_change
from .configure_monitoring import KIND as MONITORING_CHANGE
from .configure_monitoring import prepare_monitoring
from .create_alert import KIND as ALERT_CHANGE
from .create_alert import prepare_alert
from .deploy_service import prepare_deploy
from .jobs import RUN, carry_run, prepare_run
from .scale_resources import prepare_scaling
from .secrets import REMOVE, SET, carry_removal, carry_setting, forget_unwanted, prepare_removal, prepare_setting
from .tell_operation import KIND as TELLING
from .tell_operation import carry_telling, prepare_telling
from .tenancy import of_all_tenants

PlanHash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

# Every kind of change that can wait for somebody; what has no line here is refused where it would have to.
HOLDABLE: Mapping[str, Holdable] = {
    "deploy_service": Holdable(prepare_deploy),
    "scale_resources": Holdable(prepare_scaling),
    FLAG_CHANGE: Holdable(prepare_flag_change),
    ALERT_CHANGE: Holdable(prepare_alert),
    MONITORING_CHANGE: Holdable(prepare_monitoring),
    TELLING: Holdable(prepare_telling, carry_telling),
    RUN: Holdable(prepare_run, carry_run),
    SET: Holdable(prepare_setting, carry_setting, forget_unwanted),
    REMOVE: Holdable(prepare_removal, carry_removal),
}


class Word(Value):
    """A word to a change that waits. plan: the hash of the plan that was seen; None takes the operation's own.

    break_glass: the requester's own yes, in an emergency: it needs a reason, and everybody is told.
    """

    operation: str
    approved: bool
    plan: PlanHash | None = None
    reason: Annotated[str, Field(max_length=500)] = ""
    break_glass: bool = False


async def decide_change(ports: Ports, principal: Principal, word: Word) -> str:
    """Returns the operation's id. Raises PlatformError: NOT_FOUND, FAILED_PRECONDITION (decided, void, expired; moved
    since it was planned; a gate does not pass), CONFLICT (another plan), PERMISSION_DENIED."""
    action = "break_glass" if word.break_glass else "approve" if word.approved else "reject"
    asked = word.model_dump(mode="json", exclude_defaults=True)
    entry = f"manage_operation.{'approve' if word.approved else 'reject'}"
    async with change(ports, principal, entry, word.operation, asked) as record:
        request = await _request(ports, principal, word.operation)
        _authorise(ports, principal, request, action)
        now = ports.clock.now()
        request.require_open(now)
        request.require_hash(word.plan)
        if word.break_glass and len(word.reason.strip()) < 10:
            raise PlatformError(
                ErrorCode.INVALID_ARGUMENT, "break_glass needs a reason of 10 characters or more", "say what is on fire"
            )
        withdrawn = not word.approved and _is_own(principal, request)
        if not withdrawn:
            request.require_decider(principal, break_glass=word.break_glass)
        decision = Decision(
            approved=word.approved,
            by=principal.name,
            role=principal.role,
            at=now,
            reason=word.reason,
            break_glass=word.break_glass,
            token=principal.token,
        )
        record.body = {"to": request.id, "plan": request.plan.hash}
        if not word.approved:
            said = f"{'withdrawn' if withdrawn else 'rejected'} by {principal.name}"
            why = f"{said}: {word.reason}" if word.reason else said
            if not await end(ports, request, OperationState.REJECTED, why, decision=decision):
                (await _request(ports, principal, word.operation)).require_open(now)  # says what was first
            record.outcome = "rejected"
        else:
            own = request.wants is Wants.CONFIRMATION
            granted = Granted(decision=decision, approvals=() if own else (*request.approvals, decision))
            record.outcome = "confirmed" if own else "approved"
            await _start(ports, request, granted)
            if word.break_glass:
                said_of = {"operation": request.id, "reason": word.reason, "plan": list(request.plan.changes)}
                where = f"{request.service}/{request.environment}"
                await note(ports, principal, "approval.break_glass", where, said_of)
    ports.activation.activate()
    return request.id


async def why_not(ports: Ports, principal: Principal, word: Word) -> PlatformError | None:
    """Why `decide_change` would refuse the word as things are now, before gates and what is live are looked at; None
    where it would not. Nothing is done. Raises PlatformError(NOT_FOUND)."""
    try:
        request = await _request(ports, principal, word.operation)
        _authorise(ports, principal, request, "approve" if word.approved else "reject")
        request.require_open(ports.clock.now())
        request.require_hash(word.plan)
        if word.approved or not _is_own(principal, request):
            request.require_decider(principal, break_glass=False)
    except PlatformError as exc:
        if exc.code is ErrorCode.NOT_FOUND:
            raise
        return exc
    return None


def _authorise(ports: Ports, principal: Principal, request: ChangeRequest, word: str) -> None:
    """Whoever confirms or withdraws its own has to be allowed what it has asked for, and no more."""
    action = "break_glass" if word == "break_glass" else f"manage_operation.{word}"
    confirms = request.wants is Wants.CONFIRMATION and word == "approve"
    own = _is_own(principal, request) and (confirms or word == "reject")
    if own:
        action = _asked_for(request)
    service, environment = request.service or None, request.environment
    authorise(ports, principal, action, service=service, environment=environment, waits=own)


def _asked_for(request: ChangeRequest) -> str:
    """What the policy calls it: of some kinds it knows each action by a name of its own."""
    named = f"{request.kind}.{request.arguments.get('action')}"
    return named if named in ACTIONS else request.kind


async def _request(ports: Ports, principal: Principal, operation_id: str) -> ChangeRequest:
    """Raises NOT_FOUND, for another tenant's too, FAILED_PRECONDITION for an operation that waits for nobody."""
    request = await ports.store.read(lambda view: view.change_request(operation_id))
    if request is not None and (of_all_tenants(principal) or request.tenant == principal.tenant):
        return request
    operation = await ports.store.read(lambda view: view.operation(operation_id))
    if operation is not None and (of_all_tenants(principal) or operation.of_tenant == principal.tenant):
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"operation {operation_id} waits for nobody's word: it is {operation.state}",
            "action promote lets a rollout go on",
        )
    raise PlatformError(ErrorCode.NOT_FOUND, f"there is no operation {operation_id}", "action history lists operations")


def _is_own(principal: Principal, request: ChangeRequest) -> bool:
    return (principal.name, principal.tenant) == (request.requester.name, request.requester.tenant)


async def _start(ports: Ports, request: ChangeRequest, granted: Granted) -> None:
    """Starts it, where that was the last yes that was missing; also where others have said theirs at the same time."""
    try:
        granted.require(request.needs)
        await start_approved(ports, HOLDABLE[request.kind], request, granted)
    except MovedError as exc:
        await end(ports, request, OperationState.VOID, exc.message)
        raise
    except NeedsMoreError as more:
        waiting = await _waits_on(ports, request, more.needs, granted.approvals)
        if not waiting.missing:
            await _start(ports, waiting, granted.model_copy(update={"approvals": waiting.approvals}))


async def _waits_on(
    ports: Ports, request: ChangeRequest, needs: tuple[Need, ...], approvals: tuple[Decision, ...]
) -> ChangeRequest:
    """It goes on to wait, for those whose yes is still missing."""

    def unit(tx: Transaction) -> ChangeRequest:
        stored, operation = tx.change_request(request.id), tx.operation(request.id)
        assert stored is not None and operation is not None  # noqa: S101, PT018 - both were stored together
        stored.require_open(ports.clock.now())
        given = (*stored.approvals, *(a for a in approvals if a not in stored.approvals))
        stand = tuple(a for a in given if not is_revoked(tx, a.token))
        waiting = stored.model_copy(update={"wants": Wants.APPROVAL, "needs": needs, "approvals": stand})
        tx.save_change_request(waiting)
        told = operation.model_copy(update={"phase": Wants.APPROVAL, "reason": waits_for(waiting)})
        tx.save_operation(told)
        if waiting.missing:
            ask_approvers(ports, tx, waiting, told)
        return waiting

    return await ports.store.write(unit)
