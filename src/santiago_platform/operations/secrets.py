"""Sets, lists and removes secrets. Nothing is restarted: the next deploy of a service gives it the newest version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import Field

from ..domain.change_plan import plan_of_secret, plan_of_secret_removal
from ..domain.change_request import Decision as Approved
from ..domain.change_request import MovedError
from ..domain.deployment import Version
from ..domain.environment import Settings
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Principal
from ..domain.operation import Operation, OperationState
from ..domain.plan import fingerprint
from ..domain.policy import Decision as Ruling
from ..domain.secret import Secret, SecretVersion
from ..domain.value import Value
from ..domain.workload import Template
from ..ports import Ports
from ..ports.store import Snapshot, Transaction
from .authority import authorise
from .change import Record, change
from .change_request import OPEN_AT_ONCE, Ended, Live, Prepared, hold, needs_of, wanted
from .operation_view import OperationView, view
from .tenancy import is_own, of_all_tenants, require_service

SET, REMOVE, READ = "set_secret", "remove_secret", "read_secrets"
RUNS = 1000  # of jobs, or of changes, that have not ended
HELD_WITHIN = timedelta(minutes=1)  # from the sealing of a value to the row of what waits


class RemoveRequest(Value):
    """version: None means all."""

    secret: Secret
    version: Annotated[int, Field(ge=1)] | None = None


class SecretView(Value):
    """used_by: SERVICE/ENVIRONMENT of what refers to this version: what is live, kept to go back to, or rolling out."""

    environment: str
    name: str
    service: str | None
    version: int
    newest: bool
    at: datetime
    fingerprint: str
    used_by: tuple[str, ...] = ()


class SecretList(Value):
    """By environment, service, name and version."""

    secrets: tuple[SecretView, ...]


async def set_secret(ports: Ports, principal: Principal, secret: Secret, content: bytes) -> SecretView | OperationView:
    """A new version with this value, UTF-8 text; the newest one where it has the value already. Where it takes an
    approval, the operation that waits, and the value is kept sealed, as a version that nothing gets.

    Raises PlatformError: PERMISSION_DENIED, NOT_FOUND (the environment, the service), INVALID_ARGUMENT (the value),
    RESOURCE_EXHAUSTED.
    """
    async with change(ports, principal, SET, str(secret), secret.model_dump(exclude_none=True)) as record:
        ruling = await _admit(ports, principal, SET, secret)
        try:
            value = content.decode()
        except UnicodeDecodeError:
            raise PlatformError(
                ErrorCode.INVALID_ARGUMENT, "the value is not UTF-8 text", "encode what is no text, as base64 does"
            ) from None  # its words would have a part of the value
        settings = ports.workspace.settings()
        wants = wanted(settings, secret.environment, needs_of(settings, secret.environment, ruling))
        if wants is not None:
            staged = await ports.secrets.stage(secret, value)
            try:
                held = await hold(ports, record, _setting(ports, principal, staged, ruling, record), wants)
            except PlatformError:
                await ports.secrets.remove(secret, staged.version)
                raise
            return await ports.store.read(lambda snapshot: view(snapshot, held))
        made = await ports.secrets.put(secret, value)
        record.outcome = "set"
        record.body = {"version": made.version, "fingerprint": made.fingerprint}
    return _view(made, newest=True)


async def prepare_setting(
    ports: Ports,
    principal: Principal,
    arguments: Mapping[str, Any],
    record: Record,
    approvals: tuple[Approved, ...] = (),
) -> Prepared:
    """Of a value that waits. Raises MovedError where it is gone."""
    secret, version = Secret.model_validate(arguments["secret"]), arguments["version"]
    ruling = await _admit(ports, principal, SET, secret)
    staged = next((v for v in await ports.secrets.list() if (v.secret, v.version) == (secret, version)), None)
    if staged is None or not staged.pending:
        raise MovedError(f"the value that waited as version {version} of {secret} is gone")
    return _setting(ports, principal, staged, ruling, record)


def _setting(ports: Ports, principal: Principal, staged: SecretVersion, ruling: Ruling, record: Record) -> Prepared:
    secret, newest = staged.secret, ports.secrets.newest(staged.secret)
    asked = {"secret": secret.model_dump(exclude_none=True), "version": staged.version}
    before = newest.version if newest else None
    operation = _operation(ports, principal, SET, secret, record, {**asked, "before": before})
    settings = ports.workspace.settings()

    def begin_it(tx: Transaction) -> None:
        _require_calm(tx, secret)
        tx.save_operation(operation)

    return Prepared(
        operation=operation,
        arguments=asked,
        plan=plan_of_secret(staged, newest),
        live=_live(ports, str(secret), before),
        needs=needs_of(settings, secret.environment, ruling),
        begin=begin_it,
    )


async def carry_setting(ports: Ports, operation: Operation) -> Ended | None:
    """Once it is approved: the value that has waited becomes the newest one, unless there is a newer one by now."""
    asked = operation.request
    secret, version = Secret.model_validate(asked["secret"]), asked["version"]
    newest = ports.secrets.newest(secret)
    known = {v.version: v for v in await ports.secrets.list() if v.secret == secret}
    if (staged := known.get(version)) is not None and staged.pending:
        if (newest.version if newest else None) != asked["before"]:
            await ports.secrets.remove(secret, version)
            now = f"version {newest.version} was set" if newest else "it was removed"
            return Ended(OperationState.FAILED, f"secret {secret}: {now} meanwhile, so nothing was changed")
        staged = await ports.secrets.publish(secret, version)
    if staged is None:
        return Ended(OperationState.FAILED, f"secret {secret}: the value that waited as version {version} was removed")
    # One that was published before a crash stays, whatever was set since: something may refer to it.
    return Ended(OperationState.SUCCEEDED, f"secret {secret}: version {version}, fingerprint {staged.fingerprint}")


async def forget_unwanted(ports: Ports) -> None:
    """Removes values for which nobody waits any more: of what was rejected, is void, or was cut off half-way."""
    pending = [version for version in await ports.secrets.list() if version.pending]
    if not pending:
        return
    now = ports.clock.now()

    def wanted(view: Snapshot) -> set[tuple[Secret, int]]:
        waiting = [r.arguments for r in view.change_requests(open=True, limit=OPEN_AT_ONCE) if r.kind == SET]
        begun = [o.request for o in view.operations(running=True, limit=RUNS) if o.kind == SET]
        return {(Secret.model_validate(asked["secret"]), asked["version"]) for asked in (*waiting, *begun)}

    kept = await ports.store.read(wanted)
    for version in pending:
        # What was sealed a moment ago may be about to be stored as what waits.
        if (version.secret, version.version) not in kept and now - version.at > HELD_WITHIN:
            await ports.secrets.remove(version.secret, version.version)


async def list_secrets(ports: Ports, principal: Principal) -> SecretList:
    """Those of services and environments that the principal may see, without their values. Raises PERMISSION_DENIED."""
    settings = ports.workspace.last_good_settings()
    authorise(ports, principal, READ, settings)
    known = [version for version in await ports.secrets.list() if not version.pending]
    versions = [version for version in known if _sees(principal, settings, version.secret)]
    templates = await _templates(ports)
    views = []
    for version in versions:
        newest = ports.secrets.newest(version.secret) == version
        views.append(_view(version, newest=newest, used_by=_used_by(templates, version.secret, version.version)))
    return SecretList(secrets=tuple(views))


async def remove_secret(ports: Ports, principal: Principal, request: RemoveRequest) -> OperationView | None:
    """The operation that waits, where it takes an approval.

    Raises PlatformError: PERMISSION_DENIED, NOT_FOUND, FAILED_PRECONDITION (something refers to it)."""
    secret, version = request.secret, request.version
    asked = {**secret.model_dump(exclude_none=True), "version": version or "all"}
    async with change(ports, principal, REMOVE, str(secret), asked) as record:
        prepared = await prepare_removal(ports, principal, request.model_dump(mode="json"), record)
        wants = wanted(ports.workspace.settings(), secret.environment, prepared.needs)
        if wants is not None:
            held = await hold(ports, record, prepared, wants)
            return await ports.store.read(lambda snapshot: view(snapshot, held))
        await ports.secrets.remove(secret, version)
        record.outcome = "removed"
    return None


async def prepare_removal(
    ports: Ports,
    principal: Principal,
    arguments: Mapping[str, Any],
    record: Record,
    approvals: tuple[Approved, ...] = (),
) -> Prepared:
    """Raises as `remove_secret` does."""
    request = RemoveRequest.model_validate(arguments)
    secret, version = request.secret, request.version
    ruling = await _admit(ports, principal, REMOVE, secret, of_the_past=True)
    known = sorted(v.version for v in await ports.secrets.list() if v.secret == secret and not v.pending)
    if not known or version not in (None, *known):
        raise PlatformError(
            ErrorCode.NOT_FOUND,
            f"there is no secret {secret}" + (f" with a version {version}" if known else ""),
            "`santiago secret list` shows what there is",
        )
    gone = known if version is None else [version]
    await _require_unused(ports, secret, gone)
    settings = ports.workspace.settings()
    operation = _operation(
        ports, principal, REMOVE, secret, record, {"secret": secret.model_dump(exclude_none=True), "versions": gone}
    )

    def begin_it(tx: Transaction) -> None:
        _require_calm(tx, secret)
        tx.save_operation(operation)

    return Prepared(
        operation=operation,
        arguments=request.model_dump(mode="json"),
        plan=plan_of_secret_removal(secret, gone),
        live=_live(ports, str(secret), known),
        needs=needs_of(settings, secret.environment, ruling),
        begin=begin_it,
    )


async def carry_removal(ports: Ports, operation: Operation) -> Ended | None:
    """Of exactly the versions that the plan named."""
    secret, versions = Secret.model_validate(operation.request["secret"]), operation.request["versions"]
    await _require_unused(ports, secret, versions)
    for version in versions:
        await ports.secrets.remove(secret, version)
    return Ended(OperationState.SUCCEEDED, f"secret {secret}: removed {', '.join(map(str, versions))}")


async def _require_unused(ports: Ports, secret: Secret, versions: Iterable[int]) -> None:
    templates = await _templates(ports)
    for number in versions:
        if users := _used_by(templates, secret, number):
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                f"version {number} of {secret} is referred to by {', '.join(users)}: live, kept, or rolling out",
                "deploy what no longer refers to it first, twice where the version before is kept to go back to",
            )


def _require_calm(tx: Transaction, secret: Secret) -> None:
    """Raises CONFLICT where a change of it has begun that is not yet done."""
    running = [o for o in tx.operations(running=True, limit=RUNS) if o.kind in (SET, REMOVE)]
    if any(Secret.model_validate(o.request["secret"]) == secret for o in running):
        raise PlatformError(
            ErrorCode.CONFLICT, f"another change of the secret {secret} is under way", "it is a matter of a moment"
        )


def _live(ports: Ports, secret: str, versions: object) -> Live:
    """Secrets are not in the store: what was changed since is found where the change is carried out."""
    seen = fingerprint({"secret": secret, "versions": versions, "policy": ports.policy.version()})
    return lambda _view: seen


def _operation(
    ports: Ports, principal: Principal, kind: str, secret: Secret, record: Record, request: dict[str, Any]
) -> Operation:
    settings, now = ports.workspace.settings(), ports.clock.now()
    return Operation(
        id=record.operation,
        kind=kind,
        principal=principal,
        tenant=settings.tenant_of(secret.service) if secret.service else settings.tenant,
        service=secret.service or "",
        environment=secret.environment,
        request=request,
        phase="applying",
        reason=f"secret {secret}",
        created_at=now,
        updated_at=now,
        log_entry=record.seq,
    )


def in_use(ports: Ports, live: Template) -> str:
    """The secrets of a live version, each with the version that it has, and whether a newer one waits for a deploy."""
    found = []
    for ref in live.secrets:
        newest = ports.secrets.newest(ref.secret(live.environment))
        stale = newest is not None and newest.version != ref.version
        waits = f" (stale: the next deploy gives {newest.version})" if newest and stale else ""
        found.append(f"{ref.name}={ref.version}{waits}")
    return ", ".join(found)


async def _admit(
    ports: Ports, principal: Principal, action: str, secret: Secret, *, of_the_past: bool = False
) -> Ruling:
    """An approval that is needed is waited for. of_the_past: what santiago.yaml and the workspace no longer know
    counts, too."""
    settings = ports.workspace.settings()
    service, environment, removes = secret.service, secret.environment, action == REMOVE
    where: dict[str, Any] = {"service": service, "environment": environment}
    ruling = authorise(ports, principal, action, settings, **where, destroys=removes, waits=True)
    if not _sees(principal, settings, secret):
        raise PlatformError(
            ErrorCode.NOT_FOUND,
            f"there is no such thing as {secret} in your tenant",
            "name a service of yours with --service; what is for all services is of the workspace's own tenant",
        )
    if of_the_past:
        return ruling
    if secret.environment not in settings.environments:
        known = ", ".join(sorted(settings.environments))
        raise PlatformError(
            ErrorCode.NOT_FOUND, f"there is no environment {secret.environment}", f"santiago.yaml has: {known}"
        )
    if secret.service is not None:
        await require_service(ports, principal, settings, secret.service)
    return ruling


def _sees(principal: Principal, settings: Settings, secret: Secret) -> bool:
    if secret.service is None:  # only services of the workspace's own tenant can refer to it
        return of_all_tenants(principal) or principal.tenant == settings.tenant
    return is_own(principal, settings, secret.service)


async def _templates(ports: Ports) -> set[Template]:
    """All that runs, may be gone back to, or is about to run."""

    def read(view: Snapshot) -> set[Template]:
        versions: list[Version | None] = []
        for deployment in view.deployments():
            periods = view.live_periods(deployment.service, deployment.environment)
            versions += [deployment.live, deployment.previous, *(period.version for period in periods)]
        for rollout in view.active_rollouts():
            versions += [rollout.old, rollout.new]
        runs = view.job_runs(unfinished=True, limit=RUNS)
        return {v.template for v in versions if v is not None} | {run.template for run in runs}

    return await ports.store.read(read) | {status.instance.template for status in await ports.compute.list()}


def _used_by(templates: set[Template], secret: Secret, version: int) -> tuple[str, ...]:
    users = {
        f"{t.service}/{t.environment}"
        for t in templates
        for ref in t.secrets
        if ref.version == version and ref.secret(t.environment) == secret
    }
    return tuple(sorted(users))


def _view(version: SecretVersion, *, newest: bool, used_by: tuple[str, ...] = ()) -> SecretView:
    return SecretView(
        environment=version.secret.environment,
        name=version.secret.name,
        service=version.secret.service,
        version=version.version,
        newest=newest,
        at=version.at,
        fingerprint=version.fingerprint,
        used_by=used_by,
    )
