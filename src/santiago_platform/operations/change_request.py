"""Holds a planned change until somebody has said yes, and starts exactly that one then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..domain.announcement import approval_asked, for_the_owner, glass_broken
from ..domain.change_request import (
    ApprovalRule,
    ChangeRequest,
    Decision,
    Granted,
    MovedError,
    Need,
    NeedsMoreError,
    Wants,
)
from ..domain.environment import Settings
from ..domain.errors import ErrorCode, PlatformError, retryable
from ..domain.gate import Answer
from ..domain.identity import Principal, Role
from ..domain.operation import Operation, OperationState
from ..domain.plan import Plan, fingerprint
from ..domain.policy import Decision as Ruling
from ..domain.policy import Verdict
from ..domain.proof import Proof
from ..domain.value import Value
from ..ports import Ports
from ..ports.store import Snapshot, Transaction
from .authority import authorise
from .change import Record, complete_operation
from .plan_view import Advice
from .post import post

Live = Callable[[Snapshot], str]

OWN_AT_ONCE = 20  # changes of one principal that wait
OPEN_AT_ONCE = 1_000  # of all together


@dataclass(frozen=True, slots=True)
class Prepared:
    """A change that whoever asks for it may make, planned and gated, of which nothing is done yet.

    operation: as it begins. arguments: what plans the same again, with what was resolved. live: what a yes is bound to,
    beside the plan. needs: whose yes it takes. release: a digest, where it is about one.
    begin: stores it as begun, within the transaction that has compared plan and live; raises PlatformError where it
    cannot begin now.
    """

    operation: Operation
    arguments: dict[str, Any]
    plan: Plan
    live: Live
    needs: tuple[Need, ...]
    begin: Callable[[Transaction], None]
    release: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """How an operation has ended. detail: lines of what failed. proof: that it is so."""

    state: OperationState
    reason: str
    detail: tuple[str, ...] = ()
    proof: Proof | None = None


Prepare = Callable[[Ports, Principal, Mapping[str, Any], Record, tuple[Decision, ...]], Awaitable[Prepared]]
Carry = Callable[[Ports, Operation], Awaitable[Ended | None]]


@dataclass(frozen=True, slots=True)
class Holdable:
    """A kind of change that can wait for a yes.

    prepare: plans it of its arguments, as whoever asked, who is asked for the right to it; the record is of its entry
    in the ship's log, the decisions are approvals so far. Raises PlatformError, and MovedError where what it is about
    is gone.
    carry: brings a step further what has begun, and says how it ended, or None while it goes on. Called again and again
    for each that runs, after a crash too. None for what has a loop of its own.
    tidy: removes what was kept outside the store for changes that nobody waits for any more.
    """

    prepare: Prepare
    carry: Carry | None = None
    tidy: Callable[[Ports], Awaitable[None]] | None = None


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
    needs = [
        Need(roles=rule.by, why=f"each change of {name} needs it")
        for name, rule in _rules(settings, environment)
        if rule.required
    ]
    needs += needs_of_policy(ruling)
    needs += [Need(roles=(a.awaits,), why=f"gate {a.gate}") for a in answers if a.awaits is not None]
    return tuple(needs)


def needs_of_policy(ruling: Ruling) -> tuple[Need, ...]:
    """Of a word to what was let through before, and of the way back, which an environment's own rule never holds up."""
    if ruling.verdict is not Verdict.NEEDS_APPROVAL:
        return ()
    roles = dict.fromkeys((ruling.approver or Role.OWNER, Role.OWNER))
    return (Need(roles=tuple(roles), why=f"rule {', '.join(ruling.rules)}"),)


def wanted(
    settings: Settings, environment: str | None, needs: tuple[Need, ...], advice: Advice | None = None
) -> Wanted | None:
    """None where nobody has to be asked."""
    if not needs and advice is None:
        return None
    rules = [rule for _, rule in _rules(settings, environment)]
    expires = min(rule.expires_seconds for rule in rules or [ApprovalRule()])
    if advice is None:
        return Wanted(needs=needs, expires_seconds=expires)
    # Whoever asked in words sees the plan before anybody else is asked.
    said = advice.model_dump(mode="json")
    return Wanted(wants=Wants.CONFIRMATION, needs=needs, expires_seconds=expires, advice=said)


def authorise_undo(ports: Ports, principal: Principal, settings: Settings, of: Operation) -> None:
    """Of a change that is taken back by what it was before. To take back what took one back is that one again: it takes
    its own right, and where it would wait for a yes it is asked for by itself, which waits.

    Raises PlatformError: PERMISSION_DENIED, FAILED_PRECONDITION where it has changed nothing.
    """
    again = of.request["action"] == "rollback"
    action, where = of.kind if again else "manage_operation.rollback", of.environment
    ruling = authorise(ports, principal, action, settings, service=of.service, environment=where)
    if again and needs_of(settings, where, ruling):
        raise PlatformError(
            ErrorCode.PERMISSION_DENIED,
            f"to take operation {of.id} back is {of.kind} once more, which needs an approval",
            f"ask for it by {of.kind}, which waits for the approval",
        )
    if of.state not in (OperationState.RUNNING, OperationState.SUCCEEDED, OperationState.UNVERIFIED):
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"operation {of.id} is {of.state}: it has changed nothing that could be taken back",
            "manage_operation with action history lists what has",
        )


def _rules(settings: Settings, environment: str | None) -> list[tuple[str, ApprovalRule]]:
    """By environment. What santiago.yaml no longer has may be removed all the same, and has none."""
    return [(name, known.approvals) for name, known in settings.environments.items() if environment in (None, name)]


async def hold(ports: Ports, record: Record, prepared: Prepared, wanted: Wanted) -> Operation:
    """Stores the change without beginning it. Raises CONFLICT where it waits already, RESOURCE_EXHAUSTED where too many
    do."""
    now, operation = ports.clock.now(), prepared.operation

    def unit(tx: Transaction) -> Operation:
        request = ChangeRequest(
            id=operation.id,
            kind=operation.kind,
            requester=operation.principal,
            arguments=prepared.arguments,
            service=operation.service,
            environment=operation.environment,
            tenant=operation.of_tenant,
            plan=prepared.plan,
            live=prepared.live(tx),
            release=prepared.release,
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


async def start_approved(ports: Ports, kind: Holdable, request: ChangeRequest, granted: Granted) -> None:
    """Plans it again as whoever asked, and begins it where that is still what was approved, by all who have to.

    Raises MovedError (it is void: plan or state have moved, or whoever asked may no longer), NeedsMoreError, and what
    the kind's `prepare` and `begin` do, which leave it waiting.
    """

    def standing(view: Snapshot) -> Granted:
        return granted.that_stand(lambda approval: not is_revoked(view, approval.token))

    held = await ports.store.read(lambda view: view.operation(request.id))
    record = Record(held.log_entry if held else 0, request.id)
    granted = await ports.store.read(standing)
    try:
        prepared = await kind.prepare(ports, request.requester, request.arguments, record, granted.approvals)
    except PlatformError as exc:
        if exc.code is not ErrorCode.PERMISSION_DENIED:
            raise
        raise MovedError(f"{request.requester.name} may no longer do it ({exc.message})") from exc
    granted.require(prepared.needs)

    def unit(tx: Transaction) -> None:
        if standing(tx) != granted:  # a token was revoked since, by which somebody had said yes
            raise NeedsMoreError(request.needs)
        _begin_approved(ports, tx, request, granted, prepared)
        prepared.begin(tx)

    await ports.store.write(unit)


def _begin_approved(
    ports: Ports, tx: Transaction, request: ChangeRequest, granted: Granted, prepared: Prepared
) -> None:
    """Raises MovedError, and where somebody has decided it meanwhile."""
    stored = tx.change_request(request.id)
    assert stored is not None  # noqa: S101 - none is ever removed while it is open
    decision = granted.decision
    stored.require_open(decision.at)
    if is_revoked(tx, stored.requester.token):
        raise MovedError(_revoked(stored))
    if prepared.plan.hash != stored.plan.hash:
        raise MovedError("the plan is another one now")
    if prepared.live(tx) != stored.live:
        raise MovedError(f"what is live in {stored.environment or 'the workspace'} has changed")
    tx.save_change_request(stored.model_copy(update={"decision": decision, "approvals": granted.approvals}))
    operation = tx.operation(request.id)
    if decision.break_glass and operation is not None:
        told = glass_broken(operation, decision.by, decision.reason, decision.at)
        settings = ports.workspace.last_good_settings()
        post(tx, [told, *for_the_owner(told, settings.tenant)], settings)


def is_revoked(view: Snapshot, token: str) -> bool:
    """Of a token by its id; empty: of a caller that had none of this platform's. One that has only expired is not: what
    was asked for while it was valid is not made undone by the time that a yes takes."""
    known = view.token(token) if token else None
    return bool(token) and (known is None or known.revoked)


def _revoked(request: ChangeRequest) -> str:
    return f"the token by which {request.requester.name} has asked for it was revoked"


async def end(ports: Ports, request: ChangeRequest, state: OperationState, why: str, **changes: Any) -> bool:
    """Nothing of it is done: rejected, void or expired. Once: returns whether it was still open."""
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
    return ended is not None


async def carry_on(ports: Ports, kinds: Mapping[str, Holdable]) -> bool:
    """Brings each change that has begun a step further, and ends it. Returns whether any goes on."""
    running = await ports.store.read(lambda view: view.operations(running=True, limit=OPEN_AT_ONCE))
    goes_on = False
    for operation in running:
        carry = kinds[operation.kind].carry if operation.kind in kinds else None
        if carry is None:
            continue
        try:
            ended = await carry(ports, operation)
        except PlatformError as exc:
            ended = None if retryable(exc.code) else Ended(OperationState.FAILED, exc.message)
        if ended is None:
            goes_on = True
            continue
        now = ports.clock.now()
        told = {"state": ended.state, "reason": ended.reason, "detail": ended.detail, "proof": ended.proof}
        times = {"phase": "done", "progress": 1.0, "updated_at": now, "finished_at": now}
        finished = operation.model_copy(update={**told, **times})
        await ports.store.write(lambda tx, finished=finished: tx.save_operation(finished))  # type: ignore[misc]
        await complete_operation(ports, finished)
    return goes_on


async def end_forsaken(ports: Ports) -> int:
    """Requests that nobody answered in time, or whose requester's token was revoked. Returns how many there were."""
    now = ports.clock.now()

    def forsaken(view: Snapshot) -> list[tuple[ChangeRequest, str]]:
        found = []
        for request in view.change_requests(open=True, limit=OPEN_AT_ONCE):
            if is_revoked(view, request.requester.token):
                found.append((request, _revoked(request)))
            elif now >= request.expires_at:
                found.append((request, f"nobody answered until {request.expires_at:%Y-%m-%d %H:%M}Z"))
        return found

    ended = await ports.store.read(forsaken)
    for request, why in ended:
        await end(ports, request, OperationState.VOID, why)
    return len(ended)


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
