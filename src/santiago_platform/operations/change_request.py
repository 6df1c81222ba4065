"""Holds a planned change until somebody has said yes, and starts exactly that one then."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from ..domain.announcement import approval_asked, glass_broken
from ..domain.change_request import ChangeRequest, Decision, MovedError, Wants
from ..domain.environment import Settings
from ..domain.errors import ErrorCode, PlatformError
from ..domain.gate import Answer
from ..domain.identity import Role
from ..domain.operation import Operation, OperationState
from ..domain.plan import Plan, fingerprint
from ..domain.policy import Decision as Ruling
from ..domain.policy import Verdict
from ..domain.value import Value
from ..ports import Ports
from ..ports.store import Snapshot, Transaction
from .change import Record, complete_operation
from .plan_view import Advice
from .post import post

Live = Callable[[Snapshot], str]


class Wanted(Value):
    """Whose word a change needs, and why. advice: of whoever planned it of words."""

    wants: Wants = Wants.APPROVAL
    approvers: tuple[Role, ...] = ()
    why: str = ""
    expires_seconds: float
    advice: dict[str, Any] = {}


def wanted(
    settings: Settings,
    environment: str | None,
    answers: Iterable[Answer] = (),
    *,
    ruling: Ruling,
    advice: Advice | None = None,
) -> Wanted | None:
    """None where nobody has to be asked. environment: None for what is in all of them. answers: of the gates. ruling:
    of the policy. advice: of whoever planned it of words."""
    names = settings.environments if environment is None else [environment]
    rules = [settings.environments[name].approvals for name in names]
    awaited = tuple(dict.fromkeys(a.awaits for a in answers if a.awaits is not None))
    strict = next((rule for rule in rules if rule.required), None)
    expires = min(rule.expires_seconds for rule in rules)
    needs: Wanted | None = None
    if awaited:
        needs = Wanted(approvers=awaited, why="a gate asks for it", expires_seconds=expires)
    elif strict is not None:
        where = environment or "an environment that it concerns"
        needs = Wanted(approvers=strict.by, why=f"each change of {where} needs it", expires_seconds=expires)
    elif ruling.verdict is Verdict.NEEDS_APPROVAL:
        approvers = tuple(dict.fromkeys((ruling.approver or Role.OWNER, Role.OWNER)))
        needs = Wanted(approvers=approvers, why=f"rule {', '.join(ruling.rules)}", expires_seconds=expires)
    if advice is None:
        return needs
    # Whoever asked in words sees the plan before anybody else is asked.
    unconfirmed = {"wants": Wants.CONFIRMATION, "advice": advice.model_dump(mode="json")}
    return (needs or Wanted(expires_seconds=expires)).model_copy(update=unconfirmed)


async def hold(
    ports: Ports,
    record: Record,
    operation: Operation,
    *,
    plan: Plan,
    arguments: dict[str, Any],
    live: Live,
    wanted: Wanted,
    release: str = "",
) -> Operation:
    """Stores the change without beginning it. live: what its approval is bound to, beside the plan."""
    now = ports.clock.now()

    def unit(tx: Transaction) -> Operation:
        request = ChangeRequest(
            id=operation.id,
            kind=operation.kind,
            requester=operation.principal,
            arguments=arguments,
            service=operation.service,
            environment=operation.environment,
            tenant=operation.of_tenant,
            plan=plan,
            live=live(tx),
            release=release,
            wants=wanted.wants,
            why=wanted.why,
            advice=wanted.advice,
            approvers=wanted.approvers,
            asked_at=now,
            expires_at=now + timedelta(seconds=wanted.expires_seconds),
        )
        waiting = operation.model_copy(
            update={"state": OperationState.AWAITING, "phase": request.wants, "reason": waits_for(request)}
        )
        if tx.operation(operation.id) is not None:
            raise PlatformError(
                ErrorCode.CONFLICT, f"operation {operation.id} is planned already", "action status says how it stands"
            )
        tx.save_change_request(request)
        tx.save_operation(waiting)
        ask_approvers(ports, tx, request, waiting)
        return waiting

    waiting = await ports.store.write(unit)
    record.continues = True
    return waiting


def ask_approvers(ports: Ports, tx: Transaction, request: ChangeRequest, operation: Operation) -> None:
    """Once it waits for them."""
    if request.wants is Wants.APPROVAL:
        words = "; ".join(request.plan.changes)
        asked = approval_asked(operation, request.approvers, words, ports.clock.now())
        post(tx, [asked], ports.workspace.last_good_settings())


def waits_for(request: ChangeRequest) -> str:
    if request.wants is Wants.CONFIRMATION:
        return f"planned of words: waits for {request.requester.name} to confirm it"
    return f"waits for approval by role {' or '.join(request.approvers)}: {request.why}"


def begin_approved(
    ports: Ports, tx: Transaction, request: ChangeRequest, decision: Decision, plan: Plan, live: Live
) -> None:
    """Within the transaction that starts it. Raises MovedError, and where somebody has decided it meanwhile."""
    stored = tx.change_request(request.id)
    assert stored is not None  # noqa: S101 - none is ever removed while it is open
    stored.require_open(decision.at)
    if plan.hash != stored.plan.hash:
        raise MovedError("the plan is another one now")
    if live(tx) != stored.live:
        raise MovedError(f"what is live in {stored.environment or 'the workspace'} has changed")
    tx.save_change_request(stored.model_copy(update={"decision": decision}))
    operation = tx.operation(request.id)
    if decision.break_glass and operation is not None:
        told = glass_broken(operation, decision.by, decision.reason, decision.at)
        post(tx, [told], ports.workspace.last_good_settings())


async def end(ports: Ports, request: ChangeRequest, state: OperationState, why: str, **changes: Any) -> None:
    """Nothing of it is done: rejected, void or expired. Once."""
    now = ports.clock.now()

    def unit(tx: Transaction) -> Operation | None:
        stored, operation = tx.change_request(request.id), tx.operation(request.id)
        if stored is None or operation is None or not stored.is_open:
            return None
        tx.save_change_request(stored.model_copy(update={"ended": why, **changes}))
        ended = operation.model_copy(update={"state": state, "reason": why, "updated_at": now, "finished_at": now})
        tx.save_operation(ended)
        return ended

    ended = await ports.store.write(unit)
    if ended is not None:
        await complete_operation(ports, ended)


async def end_expired(ports: Ports) -> int:
    """Requests that nobody has answered in time. Returns how many there were."""
    now = ports.clock.now()
    waiting = await ports.store.read(lambda view: view.change_requests(open=True, limit=10_000))
    late = [request for request in waiting if now >= request.expires_at]
    for request in late:
        await end(ports, request, OperationState.VOID, f"nobody answered until {request.expires_at:%Y-%m-%d %H:%M}Z")
    return len(late)


def live_of(ports: Ports, service: str, environment: str) -> Live:
    """Of a service in an environment: target, deployed digest with its configuration and secrets, and the policy.

    Not its replicas, health or weights: those may change meanwhile.
    """
    policy = ports.policy.version()

    def live(view: Snapshot) -> str:
        deployment = view.deployment(service, environment)
        version = deployment.live if deployment else None
        return fingerprint(
            {
                "target": [service, environment, deployment.tenant if deployment else ""],
                "version": version.name if version else None,
                "release": version.template.release if version else None,
                "policy": policy,
            }
        )

    return live
