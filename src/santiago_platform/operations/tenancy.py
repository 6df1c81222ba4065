"""Whose things a principal may see, touch and name: those of its own tenant; the owner those of all."""

from __future__ import annotations

from collections.abc import Iterable

from ..domain.deployment import Deployment
from ..domain.environment import Settings
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Principal, Role
from ..domain.quota import check_disk, check_operations, check_quota, usage
from ..domain.rollout import Rollout
from ..domain.session import alone
from ..ports import Ports
from ..ports.store import Snapshot


def of_all_tenants(principal: Principal) -> bool:
    return principal.role is Role.OWNER


def sight(principal: Principal) -> Principal:
    """All that decides what a principal is shown: to those of equal sight, what reads an equal request is the same.

    Policies may go by anything of it but the session.
    """
    return alone(principal)


def is_own(principal: Principal, settings: Settings, service: str) -> bool:
    return of_all_tenants(principal) or settings.tenant_of(service) == principal.tenant


async def known_services(ports: Ports, principal: Principal, settings: Settings) -> list[str]:
    """Names that the principal may know: of what is defined and of what was deployed."""
    deployed = await ports.store.read(lambda v: {d.service for d in v.deployments()})
    return sorted(s for s in {*ports.workspace.services(), *deployed} if is_own(principal, settings, s))


async def require_service(ports: Ports, principal: Principal, settings: Settings, service: str) -> None:
    """Raises NOT_FOUND, with the same words for a service that there is not and for another tenant's."""
    known = await known_services(ports, principal, settings)
    if service in known:
        return
    if is_own(principal, settings, service) and await ports.artifacts.list(service):
        return  # its folder is gone, its releases are not
    raise PlatformError(
        ErrorCode.NOT_FOUND,
        f"there is no service {service}",
        f"services/NAME/score.yaml makes one; there are: {', '.join(known) or 'none'}",
    )


def require_quota(view: Snapshot, settings: Settings, rollout: Rollout) -> None:
    """Raises RESOURCE_EXHAUSTED where the rollout needs more than its tenant may have, FAILED_PRECONDITION where it
    cannot be counted. What all others of the tenant need is in it, those that are rolling out at their most."""
    quotas = settings.quotas(rollout.tenant)
    if quotas.instances is None and quotas.memory is None:
        return
    new = rollout.new.template if rollout.new else None
    if quotas.memory is not None and new is not None and new.limits.memory_bytes is None:
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"{rollout.service} has no memory limit, and its tenant {rollout.tenant} has a quota of memory",
            "say containers.NAME.resources.limits.memory in its score.yaml",
        )
    here = (rollout.service, rollout.environment)
    rows = [
        (d, view.active_rollout(d.service, d.environment))
        for d in view.deployments()
        if settings.tenant_of(d.service) == rollout.tenant
    ]
    others = [row for row in rows if (row[0].service, row[0].environment) != here]
    mine = [d for d, _ in rows if (d.service, d.environment) == here] or [
        Deployment(service=rollout.service, environment=rollout.environment, tenant=rollout.tenant)
    ]
    now = rollout.started_at
    before = usage([*others, *((d, None) for d in mine)], now)
    check_quota(rollout.tenant, quotas, before, usage([*others, *((d, rollout) for d in mine)], now))


def require_operations(view: Snapshot, settings: Settings, tenant: str) -> None:
    """Raises RESOURCE_EXHAUSTED where as many of the tenant's operations run as may."""
    quotas = settings.quotas(tenant)
    if quotas.operations is not None:
        running = view.operations(tenant=tenant, running=True, limit=quotas.operations)
        check_operations(tenant, quotas, len(running))


async def require_disk(ports: Ports, settings: Settings, tenant: str) -> None:
    """Raises RESOURCE_EXHAUSTED where the tenant's services keep more on disk than they may."""
    quotas = settings.quotas(tenant)
    if quotas.disk is not None:
        check_disk(tenant, quotas, await disk_bytes(ports, settings, tenant))


async def disk_bytes(ports: Ports, settings: Settings, tenant: str) -> int:
    """What the tenant's services keep on disk."""
    deployed = await ports.store.read(lambda v: {d.service for d in v.deployments()})
    return await ports.compute.disk_bytes(services_of(settings, tenant, {*ports.workspace.services(), *deployed}))


def services_of(settings: Settings, tenant: str, services: Iterable[str]) -> list[str]:
    return sorted(service for service in services if settings.tenant_of(service) == tenant)
