"""Changes how many replicas of a service run: a rollout of the same version, or a word to the one that is under way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from ..domain.change_plan import plan_of_rollout
from ..domain.change_request import Decision as Approved
from ..domain.deployment import Deployment
from ..domain.environment import Settings
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Name, Principal
from ..domain.operation import Operation
from ..domain.phase import SCALABLE, Phase
from ..domain.policy import Decision as Ruling
from ..domain.rollout import Message, MessageKind, Rollout
from ..domain.rollout_decision import begin
from ..domain.strategy import Strategy
from ..domain.value import Value
from ..ports import Ports
from ..ports.store import Snapshot, Transaction
from .authority import authorise
from .change import Record, change
from .change_request import Prepared, hold, live_of, needs_of, wanted
from .operation_view import OperationView, view
from .plan_view import Advice
from .tenancy import require_operations, require_quota, require_service


class ScaleRequest(Value):
    """replicas: of the live version, from now on; of both versions where a rollout is under way."""

    service: Name
    environment: Name
    replicas: Annotated[int, Field(ge=1, le=100)]
    reason: Annotated[str, Field(max_length=500)] = ""


async def scale_resources(
    ports: Ports, principal: Principal, request: ScaleRequest, *, advice: Advice | None = None, operation_id: str = ""
) -> OperationView:
    """The operation that ends once the instances are proven: a new one, or that of the rollout under way.

    advice: it was planned of words, and waits for whoever said them. operation_id: where it has one already.
    Raises PlatformError: FAILED_PRECONDITION (nothing is live), UNAVAILABLE (a rollout is about to end),
    RESOURCE_EXHAUSTED (a quota of its tenant), PERMISSION_DENIED.
    """
    subject = f"{request.service}/{request.environment}"
    asked = request.model_dump(mode="json", exclude_defaults=True)
    known = advice.id if advice is not None else operation_id
    async with change(ports, principal, "scale_resources", subject, asked, operation=known) as record:
        settings = ports.workspace.settings()
        ruling = _authorised(ports, principal, request, settings)
        await require_service(ports, principal, settings, request.service)
        _require_environment(settings, request.environment)
        wants = wanted(settings, request.environment, needs_of(settings, request.environment, ruling), advice)
        if wants is not None:
            held = await hold(ports, record, await prepare_scaling(ports, principal, asked, record), wants)
            return await ports.store.read(lambda v: view(v, held))
        operation_id = await ports.store.write(lambda tx: _scale(ports, principal, request, record, settings, tx))
    ports.activation.activate()

    return await ports.store.read(lambda v: view(v, v.operation(operation_id)))  # type: ignore[arg-type]


def _require_environment(settings: Settings, environment: str) -> None:
    if environment not in settings.environments:
        known = ", ".join(sorted(settings.environments))
        raise PlatformError(
            ErrorCode.NOT_FOUND, f"there is no environment {environment}", f"santiago.yaml has: {known}"
        )


def _authorised(ports: Ports, principal: Principal, request: ScaleRequest, settings: Settings) -> Ruling:
    """An approval that is needed is waited for."""
    service, environment = request.service, request.environment
    action = "scale_resources"
    return authorise(ports, principal, action, settings, service=service, environment=environment, waits=True)


async def prepare_scaling(
    ports: Ports,
    principal: Principal,
    arguments: Mapping[str, Any],
    record: Record,
    approvals: tuple[Approved, ...] = (),
) -> Prepared:
    """Raises as `scale_resources` does. It begins with UNAVAILABLE while a rollout is under way: approve it again when
    that has ended."""
    request = ScaleRequest.model_validate(arguments)
    settings = ports.workspace.settings()
    ruling = _authorised(ports, principal, request, settings)
    _require_environment(settings, request.environment)
    deployment = await ports.store.read(lambda view: _with_a_live_version(view, request))
    operation, started = _start(ports, principal, request, record, deployment)

    def begin_it(tx: Transaction) -> None:
        active = tx.active_rollout(request.service, request.environment)
        if active is not None:
            raise PlatformError(
                ErrorCode.UNAVAILABLE,
                f"operation {active.operation_id} is rolling out {request.service}/{request.environment} now",
                "approve this one again when that one has ended",
                retry_after=10,
            )
        _scale(ports, principal, request, record, settings, tx)

    return Prepared(
        operation=operation,
        arguments=request.model_dump(mode="json", exclude_defaults=True),
        plan=plan_of_rollout(started),
        live=live_of(ports, request.service, request.environment),
        needs=needs_of(settings, request.environment, ruling),
        begin=begin_it,
    )


async def check_scaling(ports: Ports, principal: Principal, request: ScaleRequest) -> None:
    """Raises what `scale_resources` would; changes and records nothing."""
    settings = ports.workspace.settings()
    _authorised(ports, principal, request, settings)
    await require_service(ports, principal, settings, request.service)
    _require_environment(settings, request.environment)

    def look(view: Snapshot) -> None:
        rollout = view.active_rollout(request.service, request.environment)
        if rollout is not None:
            require_quota(view, settings, _scaled(rollout, request.replicas))
            _require_scalable(rollout)
            return
        _, started = _start(ports, principal, request, Record(0, "dry-run"), _with_a_live_version(view, request))
        require_quota(view, settings, started)

    await ports.store.read(look)


def _scale(
    ports: Ports, principal: Principal, request: ScaleRequest, record: Record, settings: Settings, tx: Transaction
) -> str:
    rollout = tx.active_rollout(request.service, request.environment)
    if rollout is not None:
        require_quota(tx, settings, _scaled(rollout, request.replicas))
        _tell(ports, principal, request, record, rollout, tx)
        return rollout.operation_id
    operation, started = _start(ports, principal, request, record, _with_a_live_version(tx, request))
    require_quota(tx, settings, started)
    require_operations(tx, settings, started.tenant)
    tx.add_rollout(started)
    tx.save_operation(operation)
    record.continues = True
    return operation.id


def _with_a_live_version(view: Snapshot, request: ScaleRequest) -> Deployment:
    deployment = view.deployment(request.service, request.environment)
    if deployment is None or deployment.live is None:
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"nothing of {request.service} is live in {request.environment}: there is nothing to scale",
            "deploy_service takes replicas too",
        )
    return deployment


def _scaled(rollout: Rollout, replicas: int) -> Rollout:
    """The rollout once it has heard of it."""
    versions = {
        name: version.model_copy(update={"replicas": replicas})
        for name in ("old", "new")
        if (version := getattr(rollout, name)) is not None
    }
    return rollout.model_copy(update={"replicas": replicas, **versions})


def _require_scalable(rollout: Rollout) -> None:
    if rollout.phase not in SCALABLE:
        raise PlatformError(
            ErrorCode.UNAVAILABLE,
            f"the rollout {rollout.operation_id} is {rollout.phase}: its number of replicas is being proven",
            "ask again when it has ended; it is a matter of seconds",
            retry_after=2,
        )


def _tell(
    ports: Ports, principal: Principal, request: ScaleRequest, record: Record, rollout: Rollout, tx: Transaction
) -> None:
    _require_scalable(rollout)
    message = Message(
        id=record.operation,
        kind=MessageKind.SCALE,
        by=principal.name,
        reason=request.reason,
        replicas=request.replicas,
        at=ports.clock.now(),
    )
    tx.add_message(rollout.id, message)
    record.outcome, record.body = "delivered", {"to": rollout.operation_id}


def _start(
    ports: Ports, principal: Principal, request: ScaleRequest, record: Record, deployment: Deployment
) -> tuple[Operation, Rollout]:
    assert deployment.live is not None  # noqa: S101 - the caller has looked
    now = ports.clock.now()
    rollout = Rollout(
        id=ports.clock.new_id("ro"),
        operation_id=record.operation,
        service=request.service,
        environment=request.environment,
        tenant=deployment.tenant,
        strategy=Strategy.BLUE_GREEN,
        old=deployment.live,
        new=deployment.live.model_copy(update={"replicas": request.replicas}),
        replicas=request.replicas,
        phase=Phase.STARTING,
        ready_timeout_seconds=deployment.ready_timeout_seconds,
        drain_timeout_seconds=deployment.drain_timeout_seconds,
        rollback_window_seconds=deployment.rollback_window_seconds,
        started_at=now,
        phase_since=now,
    )
    operation = Operation(
        id=record.operation,
        kind="scale_resources",
        principal=principal,
        service=request.service,
        environment=request.environment,
        tenant=deployment.tenant,
        request=request.model_dump(mode="json", exclude_defaults=True),
        phase=Phase.STARTING,
        created_at=now,
        updated_at=now,
        log_entry=record.seq,
    )
    return operation, begin(rollout, now).model_copy(update={"epoch": 0})
