"""Sets, lists and removes secrets. Nothing is restarted: the next deploy of a service gives it the newest version."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from ..domain.deployment import Version
from ..domain.environment import Settings
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Principal
from ..domain.secret import Secret, SecretVersion
from ..domain.value import Value
from ..domain.workload import Template
from ..ports import Ports
from ..ports.store import Snapshot
from .authority import authorise
from .change import change
from .tenancy import is_own, of_all_tenants, require_service

SET, REMOVE, READ = "set_secret", "remove_secret", "read_secrets"
RUNS = 1000  # of jobs that have not ended


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


async def set_secret(ports: Ports, principal: Principal, secret: Secret, content: bytes) -> SecretView:
    """A new version with this value, UTF-8 text; the newest one where it has the value already.

    Raises PlatformError: PERMISSION_DENIED, NOT_FOUND (the environment, the service), INVALID_ARGUMENT (the value),
    RESOURCE_EXHAUSTED.
    """
    async with change(ports, principal, SET, str(secret), secret.model_dump(exclude_none=True)) as record:
        await _admit(ports, principal, SET, secret)
        try:
            value = content.decode()
        except UnicodeDecodeError:
            raise PlatformError(
                ErrorCode.INVALID_ARGUMENT, "the value is not UTF-8 text", "encode what is no text, as base64 does"
            ) from None  # its words would have a part of the value
        made = await ports.secrets.put(secret, value)
        record.outcome = "set"
        record.body = {"version": made.version, "fingerprint": made.fingerprint}
    return _view(made, newest=True)


async def list_secrets(ports: Ports, principal: Principal) -> SecretList:
    """Those of services and environments that the principal may see, without their values. Raises PERMISSION_DENIED."""
    settings = ports.workspace.last_good_settings()
    authorise(ports, principal, READ, settings)
    versions = [version for version in await ports.secrets.list() if _sees(principal, settings, version.secret)]
    templates = await _templates(ports)
    views = []
    for version in versions:
        newest = ports.secrets.newest(version.secret) == version
        views.append(_view(version, newest=newest, used_by=_used_by(templates, version.secret, version.version)))
    return SecretList(secrets=tuple(views))


async def remove_secret(ports: Ports, principal: Principal, request: RemoveRequest) -> None:
    """Raises PlatformError: PERMISSION_DENIED, NOT_FOUND, FAILED_PRECONDITION (something refers to it)."""
    secret, version = request.secret, request.version
    asked = {**secret.model_dump(exclude_none=True), "version": version or "all"}
    async with change(ports, principal, REMOVE, str(secret), asked) as record:
        await _admit(ports, principal, REMOVE, secret, of_the_past=True)
        known = {v.version for v in await ports.secrets.list() if v.secret == secret}
        if not known or version not in (None, *known):
            raise PlatformError(
                ErrorCode.NOT_FOUND,
                f"there is no secret {secret}" + (f" with a version {version}" if known else ""),
                "`santiago secret list` shows what there is",
            )
        templates = await _templates(ports)
        for number in sorted(known) if version is None else [version]:
            if users := _used_by(templates, secret, number):
                raise PlatformError(
                    ErrorCode.FAILED_PRECONDITION,
                    f"version {number} of {secret} is referred to by {', '.join(users)}: live, kept, or rolling out",
                    "deploy what no longer refers to it first, twice where the version before is kept to go back to",
                )
        await ports.secrets.remove(secret, version)
        record.outcome = "removed"


def in_use(ports: Ports, live: Template) -> str:
    """The secrets of a live version, each with the version that it has, and whether a newer one waits for a deploy."""
    found = []
    for ref in live.secrets:
        newest = ports.secrets.newest(ref.secret(live.environment))
        stale = newest is not None and newest.version != ref.version
        waits = f" (stale: the next deploy gives {newest.version})" if newest and stale else ""
        found.append(f"{ref.name}={ref.version}{waits}")
    return ", ".join(found)


async def _admit(ports: Ports, principal: Principal, action: str, secret: Secret, *, of_the_past: bool = False) -> None:
    """of_the_past: what santiago.yaml and the workspace no longer know counts, too."""
    settings = ports.workspace.settings()
    service, environment, removes = secret.service, secret.environment, action == REMOVE
    authorise(ports, principal, action, settings, service=service, environment=environment, destroys=removes)
    if not _sees(principal, settings, secret):
        raise PlatformError(
            ErrorCode.NOT_FOUND,
            f"there is no such thing as {secret} in your tenant",
            "name a service of yours with --service; what is for all services is of the workspace's own tenant",
        )
    if of_the_past:
        return
    if secret.environment not in settings.environments:
        known = ", ".join(sorted(settings.environments))
        raise PlatformError(
            ErrorCode.NOT_FOUND, f"there is no environment {secret.environment}", f"santiago.yaml has: {known}"
        )
    if secret.service is not None:
        await require_service(ports, principal, settings, secret.service)


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
