"""Holds a planned change until somebody has said yes, and starts exactly that one then."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from ..domain.announcement import approval_asked, for_the_owner, glass_broken
from ..domain.change_request import ChangeRequest, Granted, MovedError, Need, Wants
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

OWN_AT_ONCE = 20  # changes of one principal that wait
OPEN_AT_ONCE = 1_000  # of all together


class Wanted(Value):
    """Whose word a change needs. advice: of whoever planned it of words."""

    wants: Wants = Wants.APPROVAL
    needs: tuple[Need, ...] = ()
    expires_seconds: float
    advice: dict[str, Any] = {}


def needs_of(
    settings: Settings, environment: str | None, ruling: Ruling, answers: Iterable[Answer] = ()
) -> tuple[Need, ...]:
    """Each of them takes a yes of its own. environment: None for what is in all of them. ruling: of the policy.
    answers: of the gates."""
    names = settings.environments if environment is None else [environment]
    needs = [
        Need(roles=rule.by, why=f"each change of {name} needs it")
        for name in names
        if (rule := settings.environments[name].approvals).required
    ]
    if ruling.verdict is Verdict.NEEDS_APPROVAL:
        roles = dict.fromkeys((ruling.approver or Role.OWNER, Role.OWNER))
        needs.append(Need(roles=tuple(roles), why=f"rule {', '.join(ruling.rules)}"))
    needs += [Need(roles=(a.awaits,), why=f"gate {a.gate}") for a in answers if a.awaits is not None]
    return tuple(needs)


def wanted(
    settings: Settings, environment: str | None, needs: tuple[Need, ...], advice: Advice | None = None
) -> Wanted | None:
    """None where nobody has to be asked."""
    if not needs and advice is None:
        return None
    names = settings.environments if environment is None else [environment]
    expires = min(settings.environments[name].approvals.expires_seconds for name in names)
    if advice is None:
        return Wanted(needs=needs, expires_seconds=expires)
    # Whoever asked in words sees the plan before anybody else is asked.
    said = advice.model_dump(mode="json")
    return Wanted(wants=Wants.CONFIRMATION, needs=needs, expires_seconds=expires, advice=said)


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
            advice=wanted.advice,
            needs=wanted.needs,
            asked_at=now,
            expires_at=now + timedelta(seconds=wanted.expires_seconds),
        )
        waiting = operation.model_copy(
            update={"state": OperationState.AWAITING, "phase": request.wants, "reason": waits_for(request)}
        )
        _require_room(tx, request)
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


def _require_room(tx: Transaction, request: ChangeRequest) -> None:
    """Raises CONFLICT where the same change waits already, RESOURCE_EXHAUSTED where many of its requester's do."""
    who = request.requester.name, request.requester.tenant
    open = tx.change_requests(open=True, limit=OPEN_AT_ONCE)
    own = [r for r in open if (r.requester.name, r.requester.tenant) == who]
    same = next((r for r in own if (r.plan.hash, r.live) == (request.plan.hash, request.live)), None)
    if same is not None:
        raise PlatformError(
            ErrorCode.CONFLICT,
            f"the same change waits already, as operation {same.id}",
            "manage_operation with action status shows it; reject withdraws it",
        )
    if len(own) >= OWN_AT_ONCE or len(open) >= OPEN_AT_ONCE:
        raise PlatformError(
            ErrorCode.RESOURCE_EXHAUSTED,
            f"{len(own)} changes of {request.requester.name} wait for somebody already",
            "withdraw some of them by reject, or wait until they were answered",
        )


def ask_approvers(ports: Ports, tx: Transaction, request: ChangeRequest, operation: Operation) -> None:
    """Once it waits for them."""
    if request.wants is Wants.APPROVAL:
        words = "; ".join(request.plan.changes)
        asked = approval_asked(operation, request.approvers, words, ports.clock.now())
        settings = ports.workspace.last_good_settings()
        post(tx, [asked, *for_the_owner(asked, settings.tenant)], settings)


def waits_for(request: ChangeRequest) -> str:
    if request.wants is Wants.CONFIRMATION:
        return f"planned of words: waits for {request.requester.name} to confirm it"
    return f"waits for approval by {'; and by '.join(map(str, request.missing))}"


def begin_approved(
    ports: Ports, tx: Transaction, request: ChangeRequest, granted: Granted, plan: Plan, live: Live
) -> None:
    """Within the transaction that starts it. Raises MovedError, and where somebody has decided it meanwhile."""
    stored = tx.change_request(request.id)
    assert stored is not None  # noqa: S101 - none is ever removed while it is open
    decision = granted.decision
    stored.require_open(decision.at)
    if plan.hash != stored.plan.hash:
        raise MovedError("the plan is another one now")
    if live(tx) != stored.live:
        raise MovedError(f"what is live in {stored.environment or 'the workspace'} has changed")
    tx.save_change_request(stored.model_copy(update={"decision": decision, "approvals": granted.approvals}))
    operation = tx.operation(request.id)
    if decision.break_glass and operation is not None:
        told = glass_broken(operation, decision.by, decision.reason, decision.at)
        settings = ports.workspace.last_good_settings()
        post(tx, [told, *for_the_owner(told, settings.tenant)], settings)


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
    waiting = await ports.store.read(lambda view: view.change_requests(open=True, limit=OPEN_AT_ONCE))
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
