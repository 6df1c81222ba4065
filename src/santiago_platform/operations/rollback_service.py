"""Takes a service back to a version that was live: one weight change while that one is kept warm."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from ..domain.deployment import Deployment, Version
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import PLATFORM, Principal
from ..domain.live_period import LivePeriod, chosen, former
from ..domain.operation import Operation, OperationState
from ..domain.phase import Phase
from ..domain.rollout import Message, MessageKind, Rollout
from ..domain.rollout_decision import begin
from ..domain.strategy import Strategy
from ..ports import Ports
from ..ports.store import Snapshot, Transaction
from .authority import authorise
from .change import Record

KIND = "rollback_service"
NAMED = 10  # versions in an error
UNENDED = 10_000  # operations of one service in one environment


@dataclass(frozen=True, slots=True)
class Rollback:
    """target: the version that it leads to; None where nothing was live before what is under way. begin: begins it, and
    returns the operation that goes back: a new one, or that of the rollout under way, which is aborted."""

    target: Callable[[Snapshot], Version | None]
    begin: Callable[[Transaction], str]


async def roll_back(
    ports: Ports,
    principal: Principal,
    service: str,
    environment: str,
    record: Record,
    *,
    reason: str = "",
    to: str | None = None,
    of: str | None = None,
) -> str:
    """Begins it at once. Raises as `plan_rollback` says."""
    found = await plan_rollback(ports, principal, service, environment, record, reason=reason, to=to, of=of)
    return await ports.store.write(found.begin)


async def plan_rollback(
    ports: Ports,
    principal: Principal,
    service: str,
    environment: str,
    record: Record,
    *,
    reason: str = "",
    to: str | None = None,
    of: str | None = None,
) -> Rollback:
    """One that can begin. Nothing is done.

    to: a version's name, or a release's digest, or 12 or more of its hex digits; None means the version before. of: the
    operation that is taken back, if it is meant to be a certain one. No gate is asked. A rollout that is under way is
    aborted; where `to` is not the version that it came from, the new operation begins once it has gone back, and it
    takes the place of one that waits for that already.
    A version that was itself taken back is no way back: whoever goes there has to be allowed to deploy it.
    Both raise FAILED_PRECONDITION where there is nothing to go back to, and say to what there is; CONFLICT where only a
    number of replicas is taken back and a rollout is under way; PERMISSION_DENIED.
    """
    no_deploy = _no_deploy(ports, principal, service, environment)
    kept = frozenset(r.digest for r in await ports.artifacts.list(service)) if to is not None else frozenset()
    now, rollout_id = ports.clock.now(), ports.clock.new_id("ro")

    def choose(view: Snapshot, deployment: Deployment) -> Version:
        if to is not None:
            version = _named(view, deployment, to, kept)
        else:
            version = _taken_back(view, deployment, of) if of is not None else _previous(deployment)
        if no_deploy is not None and _was_taken_back(view, deployment, version):
            raise no_deploy
        return version

    def is_same(view: Snapshot, active: Rollout) -> bool:
        """Whether the rollout under way is what is to be taken back."""
        left = _is_rollback(view, active) and _ends(view, active)
        return to is None and of in (None, active.operation_id) and not (of is None and (active.unchanged or left))

    def target(view: Snapshot) -> Version | None:
        deployment, active = view.deployment(service, environment), view.active_rollout(service, environment)
        if deployment is None:
            raise _nowhere(service, environment)
        return active.old if active is not None and is_same(view, active) else choose(view, deployment)

    def unit(tx: Transaction) -> str:
        version = target(tx)
        deployment, active = tx.deployment(service, environment), tx.active_rollout(service, environment)
        assert deployment is not None  # noqa: S101 - else there is no target
        if active is None:
            assert version is not None  # noqa: S101 - it was chosen
            for other in _waiting(tx, deployment):
                end_waiting(tx, other, f"operation {record.operation} goes elsewhere", now)
            operation = _operation(record, principal, deployment, version, reason, now)
            _begin(tx, deployment, operation, version, rollout_id, now)
            record.continues = True
            return operation.id
        asked_again = _is_rollback(tx, active) and not _ends(tx, active)
        if asked_again and (is_same(tx, active) or _goes_to(active, version)):  # who ask for the same get the same
            record.outcome, record.body = "under way", {"as": active.operation_id}
            return active.operation_id
        stays = version is None or (active.old is not None and version.name == active.old.name)
        if stays and of not in (None, active.operation_id):
            raise _number_alone(active, of)
        waiting = _waiting(tx, deployment)
        again = next((o for o in waiting if version is not None and o.request["to"] == version.name), None)
        if again is not None:
            record.outcome, record.body = "under way", {"as": again.id}
            return again.id
        _abort(tx, active, principal, record, reason, now)
        if to is not None or not stays:
            for other in waiting:  # the last word counts
                end_waiting(tx, other, f"operation {record.operation} goes elsewhere", now)
        if version is None or stays:
            return active.operation_id
        operation = _operation(record, principal, deployment, version, reason, now)
        words = f"waits until operation {active.operation_id} is taken back"
        tx.save_operation(operation.model_copy(update={"phase": "pending", "reason": words}))
        record.continues = True
        return operation.id

    return Rollback(target, unit)


def _ends(view: Snapshot, active: Rollout) -> bool:
    return active.phase.going_back or any(m.kind is MessageKind.ABORT for m in view.messages(active.id))


def _no_deploy(ports: Ports, principal: Principal, service: str, environment: str) -> PlatformError | None:
    """Why the principal may not deploy there; None where it may."""
    if principal.name == PLATFORM.name and principal.role is PLATFORM.role:
        return None
    try:
        authorise(ports, principal, "deploy_service", service=service, environment=environment)
    except PlatformError as exc:
        return exc
    return None


def _was_taken_back(view: Snapshot, deployment: Deployment, version: Version) -> bool:
    periods = view.live_periods(deployment.service, deployment.environment)
    last = next((p for p in reversed(periods) if p.version.name == version.name), None)
    return last is not None and last.taken_back


async def start_rollback(
    ports: Ports, principal: Principal, service: str, environment: str, reason: str, record: Record, *, leaving: str
) -> None:
    """Starts a rollout to the previous version. leaving: the version that must be live for it.

    Raises FAILED_PRECONDITION where there is none, or another one is live; CONFLICT where a rollout is active.
    """
    now, rollout_id = ports.clock.now(), ports.clock.new_id("ro")

    def unit(tx: Transaction) -> None:
        deployment = tx.deployment(service, environment)
        if deployment is None or deployment.live is None:
            raise _nowhere(service, environment)
        if leaving != deployment.live.name:
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                f"version {leaving} is not live in {service}/{environment} any more",
                "somebody else has changed it meanwhile",
            )
        version = _previous(deployment)
        operation = _operation(record, principal, deployment, version, reason, now)
        _begin(tx, deployment, operation, version, rollout_id, now)

    await ports.store.write(unit)
    record.continues = True


def begin_waiting(tx: Transaction, deployment: Deployment, rollout_id: str, now: datetime) -> None:
    """Begins the rollback that has waited for the end of the rollout before it, if there is one: the last asked for."""
    service, environment = deployment.service, deployment.environment
    waiting = _waiting(tx, deployment)
    if not waiting:
        return
    operation = waiting[0]
    for other in waiting[1:]:  # of rows that are older than the rule that there is only one
        end_waiting(tx, other, f"operation {operation.id} goes elsewhere", now)
    known = former(deployment, tx.live_periods(service, environment))
    version = chosen((*((deployment.live,) if deployment.live else ()), *known), operation.request["to"])
    if version is None:
        reason = f"version {operation.request['to']} is no longer kept"
        lost = {"state": OperationState.FAILED, "phase": Phase.FAILED, "progress": 1.0, "reason": reason}
        tx.save_operation(operation.model_copy(update={**lost, "updated_at": now, "finished_at": now}))
        return
    operation = operation.model_copy(update={"reason": operation.request.get("reason", ""), "updated_at": now})
    _begin(tx, deployment, operation, version, rollout_id, now)


def _waiting(view: Snapshot, deployment: Deployment) -> list[Operation]:
    return waiting_rollbacks(view, deployment.service, deployment.environment)


def waiting_rollbacks(view: Snapshot, service: str, environment: str) -> list[Operation]:
    """Those whose rollout has not begun, the newest first."""
    # Any number of changes may wait for an approval, which counts as running.
    running = view.operations(service=service, environment=environment, running=True, limit=UNENDED)
    own = [o for o in running if o.kind == KIND and o.state is OperationState.RUNNING]
    return [o for o in own if view.rollout_of(o.id) is None]


def end_waiting(tx: Transaction, operation: Operation, reason: str, now: datetime) -> None:
    """Ends a rollback whose rollout has not begun. Its log entry is completed by the reconciler."""
    ended = {"state": OperationState.ROLLED_BACK, "phase": Phase.ROLLED_BACK, "progress": 1.0, "reason": reason}
    tx.save_operation(operation.model_copy(update={**ended, "updated_at": now, "finished_at": now}))


def _goes_to(rollout: Rollout, version: Version | None) -> bool:
    """With whatever number of replicas: it may have been sized, or scaled since."""
    return version is not None and rollout.new is not None and version.name == rollout.new.name


def _is_rollback(view: Snapshot, rollout: Rollout) -> bool:
    operation = view.operation(rollout.operation_id)
    return operation is not None and operation.kind == KIND


def _previous(deployment: Deployment) -> Version:
    if deployment.live is None or deployment.previous is None:
        raise _nowhere(deployment.service, deployment.environment)
    return deployment.previous


def _named(view: Snapshot, deployment: Deployment, to: str, kept: frozenset[str]) -> Version:
    periods = view.live_periods(deployment.service, deployment.environment)
    versions = [v for v in former(deployment, periods) if v.template.release in kept]
    active = view.active_rollout(deployment.service, deployment.environment)
    live = deployment.live if active is not None else None  # the way back from what is under way
    version = chosen((*((live,) if live else ()), *versions), to)
    if version is not None:
        return version
    if deployment.live is not None and chosen((deployment.live,), to) is not None:
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"{to[:80]} is what is live in {deployment.service}/{deployment.environment}",
            _listed(versions, periods),
        )
    raise PlatformError(
        ErrorCode.FAILED_PRECONDITION,
        f"{deployment.service}/{deployment.environment} cannot go back to {to[:80]}: "
        "it was never live there, or its release is not kept any more",
        _listed(versions, periods),
    )


def _listed(versions: Iterable[Version], periods: Iterable[LivePeriod]) -> str:
    """What can be gone back to: each version with its release, and until when it was live."""
    until = {p.version.name: p.until for p in periods}
    lines = [
        f"{v.name} (release {v.template.release.removeprefix('sha256:')[:12]}"
        + (f", live until {at:%Y-%m-%d %H:%M:%S}Z)" if (at := until.get(v.name)) else ")")
        for v in versions
    ]
    if not lines:
        return "there is no version to go back to; deploy_service deploys any release"
    more = f", and {len(lines) - NAMED} older ones" if len(lines) > NAMED else ""
    return f"there is: {', '.join(lines[:NAMED])}{more}"


def _taken_back(view: Snapshot, deployment: Deployment, operation_id: str) -> Version:
    """What was live before an operation. Raises where what it deployed is not live, as it deployed it."""
    rollout, live = view.rollout_of(operation_id), deployment.live
    made = rollout.new if rollout and rollout.phase is Phase.SUCCEEDED else None
    if made is None or live is None or made.name != live.name:
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"what operation {operation_id} deployed is not live",
            "roll back by service and environment to leave the version that is live now",
        )
    if rollout is not None and rollout.unchanged and rollout.old is not None:  # it changed their number alone
        if made.replicas == live.replicas:
            return rollout.old
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"{live.replicas} replicas are live, not the {made.replicas} of operation {operation_id}",
            "scale_resources sets the number; roll back by service and environment to leave the version",
        )
    return _previous(deployment)


def _number_alone(active: Rollout, operation_id: str | None) -> PlatformError:
    return PlatformError(
        ErrorCode.CONFLICT,
        f"operation {operation_id} has changed the number of replicas alone, "
        f"and operation {active.operation_id} is rolling out {active.service}/{active.environment} now",
        "scale_resources tells the number to that one; or wait until it has ended",
    )


def _nowhere(service: str, environment: str) -> PlatformError:
    return PlatformError(
        ErrorCode.FAILED_PRECONDITION,
        f"{service}/{environment} has no version to go back to",
        "deploy_service deploys any release; manage_operation history lists them",
    )


def _abort(tx: Transaction, active: Rollout, principal: Principal, record: Record, reason: str, now: datetime) -> None:
    record.outcome, record.body = "delivered", {"to": active.operation_id}
    if active.phase.going_back:
        record.outcome, record.body = "under way", {"as": active.operation_id}
        return
    message = Message(id=record.operation, kind=MessageKind.ABORT, by=principal.name, reason=reason, at=now)
    tx.add_message(active.id, message)


def _operation(
    record: Record, principal: Principal, deployment: Deployment, version: Version, reason: str, now: datetime
) -> Operation:
    return Operation(
        id=record.operation,
        kind=KIND,
        principal=principal,
        service=deployment.service,
        environment=deployment.environment,
        tenant=deployment.tenant,
        request={"to": version.name, "reason": reason},
        phase=Phase.STARTING,
        reason=reason,
        created_at=now,
        updated_at=now,
        log_entry=record.seq,
    )


def _begin(
    tx: Transaction, deployment: Deployment, operation: Operation, version: Version, rollout_id: str, now: datetime
) -> None:
    """Stores the rollout and its operation. Whoever goes back decides it: a watch ends."""
    version = _sized(deployment, version, now)
    if deployment.watch is not None:
        tx.save_deployment(deployment.model_copy(update={"watch": None}))
    rollout = Rollout(
        id=rollout_id,
        operation_id=operation.id,
        service=deployment.service,
        environment=deployment.environment,
        tenant=deployment.tenant,
        strategy=Strategy.BLUE_GREEN if deployment.strategy is Strategy.CANARY else deployment.strategy,
        old=deployment.live,
        new=version,
        replicas=version.replicas,
        phase=Phase.STARTING,
        ready_timeout_seconds=deployment.ready_timeout_seconds,
        drain_timeout_seconds=deployment.drain_timeout_seconds,
        rollback_window_seconds=deployment.rollback_window_seconds,
        started_at=now,
        phase_since=now,
        reason=operation.reason,
    )
    tx.add_rollout(begin(rollout, now).model_copy(update={"epoch": 0}))
    tx.save_operation(operation.model_copy(update={"phase": Phase.STARTING}))


def _sized(deployment: Deployment, version: Version, now: datetime) -> Version:
    """What is started first gets as many instances as are live, if it had fewer: the load is that of today."""
    warm, live = deployment.warm(now), deployment.live
    if live is None or version.name in {live.name, warm.name if warm else ""}:
        return version
    return version.model_copy(update={"replicas": max(version.replicas, live.replicas)})
