"""What was asked for, what should run and what does: requirements, desired and live state, drift."""

from __future__ import annotations

from collections.abc import Sequence

from ..domain.deployment import Deployment, Version
from ..domain.environment import Settings
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Name, Principal
from ..domain.quantity import memory_rounded
from ..domain.quota import Row, usage
from ..domain.rollout import Desired, Rollout, desired
from ..domain.route import RouteStatus, hostname
from ..domain.value import Value
from ..ports import Ports
from ..ports.compute import InstanceState, InstanceStatus
from .authority import authorise, is_shown
from .jobs import in_words
from .parity import ParityView, parity
from .read_monitoring import unapplied
from .secrets import in_use
from .tenancy import disk_bytes, is_own, of_all_tenants, require_service

DOCUMENT_CHARACTERS = 8_000
SERVICES = 100


class ArchitectureQuery(Value):
    """None means all. include_documents: the texts under docs/architecture too, bounded. include_parity: what differs
    between environments, and why it may."""

    service: Name | None = None
    environment: Name | None = None
    include_documents: bool = False
    include_parity: bool = False


class InstanceView(Value):
    """memory: in use, where it is known."""

    id: str
    state: str
    restarts: int
    pid: int
    address: str
    memory: str = ""
    reason: str = ""


class VersionView(Value):
    version: str
    release: str
    replicas: int
    traffic_percent: float | None
    instances: tuple[InstanceView, ...]


class ServiceView(Value):
    """url: through the ingress, by Host header. address: HOST:PORT of its own, by which programs on this machine reach
    it; empty for a worker. traffic_percent None: the proxies do not agree yet.

    jobs: a line for each of the live version: how its last run ended, and when the next one is.
    drift: where live differs from desired; empty outside a rollout means that it is as it should be.
    """

    service: str
    environment: str
    url: str
    address: str
    live: str
    rollback_to: str
    generation: int
    versions: tuple[VersionView, ...]
    requirements: dict[str, str]
    jobs: tuple[str, ...] = ()
    rollout: str = ""
    drift: tuple[str, ...] = ()


class DocumentView(Value):
    path: str
    text: str


class Architecture(Value):
    """undeployed: services that are defined and run nowhere. environments: that may be deployed to.

    parity: by service, each environment beside the one before it in santiago.yaml.

    Where the workspace has several tenants, tenants has what the caller's own uses of its quotas, for the owner what
    each does, and the owner alone gets documents: they are of the whole workspace.
    """

    environments: tuple[str, ...]
    services: tuple[ServiceView, ...]
    undeployed: tuple[str, ...]
    tenants: tuple[str, ...] = ()
    documents: tuple[DocumentView, ...] = ()
    parity: dict[str, tuple[ParityView, ...]] = {}


async def read_architecture(ports: Ports, principal: Principal, query: ArchitectureQuery) -> Architecture:
    """Raises PlatformError: NOT_FOUND for an unknown service or environment, PERMISSION_DENIED."""
    settings = ports.workspace.last_good_settings()
    authorise(ports, principal, "read_architecture", settings, service=query.service, environment=query.environment)
    if query.environment is not None and query.environment not in settings.environments:
        raise PlatformError(
            ErrorCode.NOT_FOUND,
            f"there is no environment {query.environment}",
            f"santiago.yaml has: {', '.join(sorted(settings.environments))}",
        )
    if query.service is not None:
        await require_service(ports, principal, settings, query.service)
    everyones = await ports.store.read(
        lambda v: [(d, v.active_rollout(d.service, d.environment)) for d in v.deployments()]
    )
    rows = [(d, rollout) for d, rollout in everyones if is_own(principal, settings, d.service)]
    shown = [
        (d, rollout)
        for d, rollout in rows
        if is_shown(ports, principal, "read_architecture", settings, d.service, d.environment)
    ]
    defined = [service for service in ports.workspace.services() if is_own(principal, settings, service)]
    wanted = [
        (deployment, rollout)
        for deployment, rollout in shown
        if query.service in (None, deployment.service) and query.environment in (None, deployment.environment)
    ][:SERVICES]
    port = settings.addresses.ingress_port
    instances = await ports.compute.list(query.service, query.environment)
    running: dict[tuple[str, str], list[InstanceStatus]] = {}
    for status in instances:
        running.setdefault((status.instance.template.service, status.instance.template.environment), []).append(status)
    services = [
        await _service(ports, deployment, rollout, running.get((deployment.service, deployment.environment), []), port)
        for deployment, rollout in wanted
    ]
    deployed = {d.service for d, _ in rows}
    several = len(settings.tenant_names) > 1
    shared = query.include_documents and (of_all_tenants(principal) or not several)
    documents = ports.workspace.documents() if shared else []
    tenants = sorted(settings.tenant_names if of_all_tenants(principal) else {principal.tenant}) if several else []
    return Architecture(
        environments=tuple(sorted(settings.environments)),
        services=tuple(services),
        undeployed=tuple(s for s in defined if s not in deployed and query.service in (None, s)),
        tenants=tuple([await _tenant(ports, settings, tenant, everyones) for tenant in tenants]),
        parity=_parity(settings, query, [d for d, _ in shown]) if query.include_parity else {},
        documents=tuple(DocumentView(path=path, text=text[:DOCUMENT_CHARACTERS]) for path, text in documents[:20]),
    )


def _parity(
    settings: Settings, query: ArchitectureQuery, deployments: Sequence[Deployment]
) -> dict[str, tuple[ParityView, ...]]:
    services = sorted({d.service for d in deployments if query.service in (None, d.service)})[:SERVICES]
    found = parity(settings, services, {(d.service, d.environment): d for d in deployments})
    return {
        service: tuple(view for view in views if query.environment in (None, view.here))
        for service, views in found.items()
    }


async def _tenant(ports: Ports, settings: Settings, tenant: str, rows: Sequence[Row]) -> str:
    """At the height of what is rolling out."""
    quotas = settings.quotas(tenant)
    used = usage([row for row in rows if settings.tenant_of(row[0].service) == tenant], ports.clock.now())
    shares = {
        "instances": (str(used.instances), quotas.instances),
        "memory": (memory_rounded(used.memory_bytes), quotas.memory),
        "disk": (memory_rounded(await disk_bytes(ports, settings, tenant)), quotas.disk),
    }
    parts = [f"{what} {used}" + ("" if quota is None else f" of {quota}") for what, (used, quota) in shares.items()]
    return f"{tenant}: {', '.join(parts)}"


async def _service(
    ports: Ports, deployment: Deployment, rollout: Rollout | None, instances: list[InstanceStatus], port: int
) -> ServiceView:
    service, environment = deployment.service, deployment.environment
    now = ports.clock.now()
    want = desired(deployment, rollout, now)
    route = await ports.traffic.status(service, environment)
    versions = {version.name: version for version, _ in want.replicas}
    versions |= {
        name: Version(template=status.instance.template, replicas=0)
        for status in instances
        if (name := status.instance.template.version) not in versions
    }
    live = deployment.live
    return ServiceView(
        service=service,
        environment=environment,
        url=f"http://{hostname(service, environment)}:{port}/",
        address=route.address,
        live=live.name if live else "",
        rollback_to=deployment.previous.name if deployment.previous else "",
        generation=deployment.generation,
        versions=tuple(_version(version, instances, route) for version in versions.values()),
        requirements=_requirements(ports, live, instances) if live else {},
        jobs=await ports.store.read(lambda v: in_words(v, deployment, now)) if live and live.jobs else (),
        rollout=f"{rollout.operation_id}: {rollout.phase}" if rollout else "",
        drift=() if rollout else (*_drift(want, instances, route), *await _unwatched(ports, service, environment)),
    )


def _version(version: Version, instances: list[InstanceStatus], route: RouteStatus) -> VersionView:
    total = sum(route.weights.values()) if route.weights else 0
    share = 100 * route.weights.get(version.name, 0) / total if route.weights is not None and total else None
    return VersionView(
        version=version.name,
        release=version.template.release,
        replicas=version.replicas,
        traffic_percent=share if share is not None else (0.0 if route.weights == {} else None),
        instances=tuple(
            InstanceView(
                id=s.instance.id,
                state=s.state,
                restarts=s.restarts,
                pid=s.pid,
                address=", ".join(f"{e.host}:{e.port}" for e in s.endpoints.values()),
                memory=memory_rounded(s.memory_bytes) if s.memory_bytes is not None else "",
                reason=s.reason,
            )
            for s in instances
            if s.instance.template.version == version.name
        ),
    )


def _requirements(ports: Ports, version: Version, instances: list[InstanceStatus]) -> dict[str, str]:
    template, limits = version.template, version.template.limits
    gaps = {s.not_enforced for s in instances if s.not_enforced and s.instance.template.version == version.name}
    found = {
        "ports": ", ".join(f"{p.name}={p.target}" for p in template.ports),
        "readiness": template.http_health_path or ("command" if template.readiness.command else "accepts TCP"),
        "memory_bytes": str(limits.memory_bytes) if limits.memory_bytes is not None else "",
        "cpu_cores": str(limits.cpu_cores) if limits.cpu_cores is not None else "",
        "secrets": in_use(ports, template),
        "not_enforced": "; ".join(sorted(gaps)),
    }
    return {name: value for name, value in found.items() if value}


async def _unwatched(ports: Ports, service: str, environment: str) -> tuple[str, ...]:
    """Where slo.yaml says otherwise than what is in force; what was taken out of force was asked for."""
    row = await ports.store.read(lambda v: v.monitoring(service, environment))
    if row is None or not row.source:
        return ()
    try:
        count = len(unapplied(ports, row))
    except PlatformError as exc:
        return (f"slo.yaml: {exc.message}",)
    return (f"slo.yaml: {count} rules are not in force as it says: configure_monitoring applies it",) if count else ()


def _drift(want: Desired, instances: list[InstanceStatus], route: RouteStatus) -> list[str]:
    found = []
    for version, count in want.replicas:
        ready = sum(s.state is InstanceState.READY and s.instance.template.version == version.name for s in instances)
        if ready != count:
            found.append(f"version {version.name}: {ready} of {count} instances are ready")
    routed = any(version.template.ports for version, _ in want.replicas)
    if routed and route.weights != want.weights:
        found.append(f"traffic: {route.weights if route.weights is not None else 'unknown'}, not {want.weights}")
    return found
