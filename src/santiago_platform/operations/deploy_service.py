"""Deploys a release, or a git ref that is built first, to an environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from ..domain.canary import Canary
from ..domain.change_plan import plan_of_rollout
from ..domain.change_request import Decision as Approved
from ..domain.change_request import Need
from ..domain.deployment import Deployment, Version
from ..domain.environment import ServiceSettings, Settings
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Name, Principal
from ..domain.operation import Operation, OperationState
from ..domain.phase import Phase
from ..domain.plan import Plan
from ..domain.policy import Decision as Ruling
from ..domain.policy import Verdict
from ..domain.release import Release
from ..domain.rollout import Rollout
from ..domain.rollout_decision import begin
from ..domain.strategy import Strategy
from ..domain.value import Value
from ..ports import Ports
from ..ports.store import Transaction
from .authority import authorise
from .change import Record, change
from .change_request import Prepared, hold, live_of, needs_of, wanted
from .check_gates import Fixes, Subject, check_gates, require_gates, was_live
from .operation_view import OperationView, render, view
from .plan_view import Advice, view_of
from .release_service import template_of
from .require_fix import require_fix
from .tenancy import require_disk, require_operations, require_quota, require_service

Reference = Annotated[str, Field(max_length=200)]


class DeployRequest(Value):
    """Exactly one of release (a digest, or 12 or more of its hex digits), git_ref and from_environment (promotes
    the release that is live there). None elsewhere means: as santiago.yaml says.

    fixes: the incident that this is the fix of, open or of late, which gates that make an exception let pass, loudly.
    hold: stop before traffic moves, and wait for promote. dry_run: only say what would be done.
    """

    service: Name
    environment: Name
    release: Reference | None = None
    git_ref: Reference | None = None
    from_environment: Name | None = None
    strategy: Strategy | None = None
    replicas: Annotated[int, Field(ge=1, le=100)] | None = None
    fixes: Fixes | None = None
    hold: bool = False
    dry_run: bool = False


async def deploy_service(
    ports: Ports, principal: Principal, request: DeployRequest, *, advice: Advice | None = None
) -> OperationView:
    """Stores the desired state and returns at once; the rollout's loop does the rest.

    advice: it was planned of words, and waits for whoever said them.

    Raises PlatformError: INVALID_ARGUMENT, NOT_FOUND (service, environment, release, ref, the incident that it fixes),
    CONFLICT (a rollout is active), PERMISSION_DENIED, RESOURCE_EXHAUSTED (a quota of its tenant), FAILED_PRECONDITION
    (a gate does not pass, its tenant cannot be kept apart here, or its memory cannot be counted; its release has a base
    image, and no container can run here).
    """
    if request.dry_run:
        operation, rollout = await _plan(ports, principal, request, operation_id="dry-run", log_entry=0)
        return render(operation, rollout, view_of(await _described(ports, rollout, request)) if rollout.new else None)
    subject = f"{request.service}/{request.environment}"
    asked = request.model_dump(mode="json", exclude_defaults=True)
    known = advice.id if advice is not None else ""
    async with change(ports, principal, "deploy_service", subject, asked, operation=known) as record:
        operation, rollout = await _plan(
            ports,
            principal,
            request,
            operation_id=record.operation,
            log_entry=record.seq,
            build_first=advice is not None,
        )
        settings = ports.workspace.settings()
        ruling = _authorised(ports, principal, request, settings)
        needs = needs_of(settings, request.environment, ruling, operation.gates)
        wants = wanted(settings, request.environment, needs, advice)
        if wants is not None:
            prepared = await _prepared(ports, request, operation, rollout, settings, needs)
            operation = await hold(ports, record, prepared, wants)
            return await ports.store.read(lambda snapshot: view(snapshot, operation))
        operation, rollout = await ports.store.write(lambda tx: _start(tx, settings, operation, rollout))
        record.continues = True
    ports.activation.activate()
    return render(operation, rollout)


async def prepare_deploy(
    ports: Ports,
    principal: Principal,
    arguments: Mapping[str, Any],
    record: Record,
    approvals: tuple[Approved, ...],
) -> Prepared:
    """Raises as `deploy_service` does."""
    request = DeployRequest.model_validate(arguments)
    operation, rollout = await _plan(
        ports, principal, request, operation_id=record.operation, log_entry=record.seq, approvals=approvals
    )
    settings = ports.workspace.settings()
    ruling = _authorised(ports, principal, request, settings)
    needs = needs_of(settings, request.environment, ruling, operation.gates)
    return await _prepared(ports, request, operation, rollout, settings, needs)


async def _prepared(
    ports: Ports,
    request: DeployRequest,
    operation: Operation,
    rollout: Rollout,
    settings: Settings,
    needs: tuple[Need, ...],
) -> Prepared:
    assert rollout.new is not None  # noqa: S101 - what waits for somebody was built before

    def begin_it(tx: Transaction) -> None:
        _start(tx, settings, operation, rollout)

    return Prepared(
        operation=operation,
        arguments=_exact(request, rollout),
        plan=await _described(ports, rollout, request),
        live=live_of(ports, request.service, request.environment),
        needs=needs,
        begin=begin_it,
        release=rollout.new.template.release,
    )


async def _described(ports: Ports, rollout: Rollout, request: DeployRequest) -> Plan:
    assert rollout.new is not None  # noqa: S101 - the callers have looked
    release = await ports.artifacts.get(rollout.new.template.release)
    return plan_of_rollout(rollout, release.commit, fixes=request.fixes or "")


def _exact(request: DeployRequest, rollout: Rollout) -> dict[str, Any]:
    """What was asked for, with the release that it has come to."""
    assert rollout.new is not None  # noqa: S101 - what waits for somebody was built before
    named = request.model_copy(
        update={"git_ref": None, "from_environment": None, "release": rollout.new.template.release}
    )
    return named.model_dump(mode="json", exclude_defaults=True)


def _start(tx: Transaction, settings: Settings, operation: Operation, rollout: Rollout) -> tuple[Operation, Rollout]:
    """Stores both, with what is live at this very moment as the way back. What others have just begun counts, too."""
    require_quota(tx, settings, rollout)
    require_operations(tx, settings, rollout.tenant)
    deployment = tx.deployment(rollout.service, rollout.environment)
    if deployment is None:
        deployment = Deployment(service=rollout.service, environment=rollout.environment, tenant=rollout.tenant)
        tx.save_deployment(deployment)
    elif deployment.tenant != rollout.tenant:
        deployment = deployment.model_copy(update={"tenant": rollout.tenant})
        tx.save_deployment(deployment)
    if rollout.old != deployment.live:
        stale = rollout.model_copy(update={"old": deployment.live})
        rollout = begin(stale, rollout.started_at) if stale.new is not None else stale
    tx.add_rollout(rollout)
    tx.save_operation(operation)
    return operation, rollout


def _authorised(ports: Ports, principal: Principal, request: DeployRequest, settings: Settings) -> Ruling:
    """An approval that is needed is waited for."""
    service, environment = request.service, request.environment
    action = "deploy_service"
    return authorise(ports, principal, action, settings, service=service, environment=environment, waits=True)


async def _plan(
    ports: Ports,
    principal: Principal,
    request: DeployRequest,
    *,
    operation_id: str,
    log_entry: int,
    approvals: tuple[Approved, ...] = (),
    build_first: bool = False,
) -> tuple[Operation, Rollout]:
    """approvals: of exactly this change. build_first: somebody has to say yes to it, to exactly one release."""
    settings = ports.workspace.settings()
    ruling = _authorised(ports, principal, request, settings)
    await require_service(ports, principal, settings, request.service)
    tenant = settings.tenant_of(request.service)
    await ports.compute.admit(tenant)
    environment = settings.environments.get(request.environment)
    if environment is None:
        known = ", ".join(sorted(settings.environments))
        raise PlatformError(
            ErrorCode.NOT_FOUND,
            f"there is no environment {request.environment}",
            f"santiago.yaml has: {known}",
        )
    await require_fix(ports, principal, settings, request.service, request.environment, request.fixes)
    service_settings = environment.settings(request.service)
    deployment = await ports.store.read(lambda view: view.deployment(request.service, request.environment))
    replicas = request.replicas or service_settings.replicas or 1
    commit, version = await _what(ports, request, replicas)
    if (
        commit is not None
        and not request.dry_run
        and (build_first or environment.asks_somebody or ruling.verdict is Verdict.NEEDS_APPROVAL)
    ):
        built = await ports.artifacts.build(request.service, commit)
        version = await version_of(ports, built.digest, request.service, request.environment, replicas)
    release = await _built(ports, request.service, commit, version)
    known = template_of(ports, release, request.environment).version if release else ""
    by_canary = service_settings.strategy is Strategy.CANARY
    if by_canary and await was_live(ports, request.service, request.environment, known):
        # It has been judged there, as it is configured: who goes back to it wants it now.
        service_settings = service_settings.model_copy(update={"strategy": Strategy.BLUE_GREEN})
    rollout = _rollout(ports, request, service_settings, operation_id, tenant).model_copy(
        update={
            "old": deployment.live if deployment else None,
            "replicas": replicas,
            "git_ref": commit,
            "new": version,
        }
    )
    if rollout.new is not None:
        rollout = begin(rollout, rollout.started_at).model_copy(update={"epoch": 0})
    await ports.store.read(lambda view: require_quota(view, settings, rollout))
    await require_disk(ports, settings, tenant)
    operation = Operation(
        id=operation_id,
        kind="deploy_service",
        principal=principal,
        tenant=tenant,
        service=request.service,
        environment=request.environment,
        request=request.model_dump(mode="json", exclude_defaults=True),
        state=OperationState.PLANNED if request.dry_run else OperationState.RUNNING,
        phase=rollout.phase,
        created_at=rollout.started_at,
        updated_at=rollout.started_at,
        log_entry=log_entry,
    )
    if request.dry_run:
        subject = Subject(
            service=request.service,
            environment=request.environment,
            release=release,
            version=known,
            fixes=request.fixes or "",
        )
        return operation.model_copy(update={"gates": await check_gates(ports, settings, subject)}), rollout
    asked = await require_gates(ports, settings, operation, release, version=known, may_wait=True, approvals=approvals)
    return asked, rollout


def _rollout(
    ports: Ports, request: DeployRequest, settings: ServiceSettings, operation_id: str, tenant: str
) -> Rollout:
    now = ports.clock.now()
    strategy = request.strategy or settings.strategy or Strategy.BLUE_GREEN
    return Rollout(
        id=ports.clock.new_id("ro"),
        operation_id=operation_id,
        service=request.service,
        environment=request.environment,
        tenant=tenant,
        strategy=strategy,
        canary=(settings.canary or Canary()) if strategy is Strategy.CANARY else None,
        watch_seconds=_or(settings.watch_seconds, 600.0),
        hold=request.hold,
        runs_jobs=True,
        phase=Phase.RELEASING,
        ready_timeout_seconds=settings.ready_timeout_seconds or 60.0,
        drain_timeout_seconds=_or(settings.drain_timeout_seconds, 30.0),
        rollback_window_seconds=_or(settings.rollback_window_seconds, 600.0),
        started_at=now,
        phase_since=now,
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


async def _what(ports: Ports, request: DeployRequest, replicas: int) -> tuple[str | None, Version | None]:
    """The commit to build, or the version of a release that exists."""
    given = [n for n in ("release", "git_ref", "from_environment") if getattr(request, n) is not None]
    if len(given) != 1:
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT,
            f"say what to deploy by exactly one of release, git_ref and from_environment, not by {given or 'none'}",
            "git_ref HEAD builds and deploys the last commit",
        )
    if request.git_ref is not None:
        if request.service not in ports.workspace.services():
            raise PlatformError(
                ErrorCode.NOT_FOUND,
                f"there is no folder of the service {request.service} any more",
                f"services/{request.service}/score.yaml makes it anew; a release that was built can be deployed",
            )
        commit = await ports.artifacts.resolve(request.git_ref)
        if await ports.artifacts.has_base(request.service, commit):
            await ports.compute.admit_images()
        return commit, None
    digest = request.release or await _live_release(ports, request)
    if not (await ports.artifacts.get(digest)).local_only:
        await ports.compute.admit_images()
    return None, await version_of(ports, digest, request.service, request.environment, replicas)


async def _built(ports: Ports, service: str, commit: str | None, version: Version | None) -> Release | None:
    """The release that is to be deployed, where it is built already."""
    if version is not None:
        return await ports.artifacts.get(version.template.release)
    return next((release for release in await ports.artifacts.list(service) if release.commit == commit), None)


async def _live_release(ports: Ports, request: DeployRequest) -> str:
    source = request.from_environment or ""
    deployment = await ports.store.read(lambda view: view.deployment(request.service, source))
    if deployment is None or deployment.live is None:
        raise PlatformError(
            ErrorCode.NOT_FOUND,
            f"nothing of {request.service} is live in {source}",
            "deploy it there first, or give a release or a git_ref",
        )
    return deployment.live.template.release


async def version_of(ports: Ports, digest: str, service: str, environment: str, replicas: int) -> Version:
    """A release in an environment. Raises where the release is another service's."""
    release = await ports.artifacts.get(digest)
    if release.service != service:
        # Whose it is stays unsaid: it may be another tenant's.
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT,
            f"release {release.short} is not of service {service}",
            f"`santiago release {service}` builds one",
        )
    return Version(template=template_of(ports, release, environment), replicas=replicas, jobs=release.jobs)
