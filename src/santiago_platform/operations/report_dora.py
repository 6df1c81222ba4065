"""How software is delivered: the DORA metrics of each service and tenant, from the records of operations and git."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Annotated

from pydantic import Field

from ..domain.change_failure import DEPLOY, ROLLBACK, TOOK_OVER, Change, Harm, deploys
from ..domain.dora import BAND_SOURCE, Delivery, Deploy, measured
from ..domain.environment import EnvironmentKind, Settings
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Name, Principal
from ..domain.incident import Incident
from ..domain.operation import Operation
from ..domain.value import Value
from ..ports import Ports
from ..ports.store import Snapshot
from .authority import authorise, is_shown
from .tenancy import known_services, require_service

OPERATIONS_AT_MOST = 2_000  # of one service, the newest ones
INCIDENTS_AT_MOST = 1_000  # of one service in one environment, the newest ones
ROLLOUTS_AT_ONCE = 50  # in one read, so that nobody waits for it
LONGEST_ROLLOUT = timedelta(days=14)  # what began that long before the periods may have ended within them
LISTED = 20


class DoraQuery(Value):
    """days: of the period, which ends now. service: None means all."""

    service: Name | None = None
    days: Annotated[int, Field(ge=1, le=180)] = 30


class DeliveryOf(Value):
    """name: of a service, or of a tenant."""

    name: str
    delivery: Delivery


class FailureView(Value):
    """A deploy that did harm. why: untrusted text. recovery_seconds: None while it is not over, or not known."""

    operation: str
    service: str
    environment: str
    at: datetime
    why: str
    recovery_seconds: float | None


class DoraReport(Value):
    """failures: newest first, at most 20. band_source: where the bands come from. notes: what the figures lack."""

    since: datetime
    until: datetime
    days: int
    environments: tuple[str, ...]
    services: tuple[DeliveryOf, ...]
    tenants: tuple[DeliveryOf, ...]
    failures: tuple[FailureView, ...]
    band_source: str = BAND_SOURCE
    notes: tuple[str, ...] = ()


async def report_dora(
    ports: Ports, principal: Principal, query: DoraQuery, *, until: datetime | None = None
) -> DoraReport:
    """Of the environments of kind production that the principal may see; of services that were deployed there.

    until: the period's end, in place of now. Raises PlatformError: NOT_FOUND (service), PERMISSION_DENIED.
    """
    settings = ports.workspace.last_good_settings()
    authorise(ports, principal, "read_operation", settings, service=query.service)
    if query.service is not None:
        await require_service(ports, principal, settings, query.service)
    services = [query.service] if query.service is not None else await known_services(ports, principal, settings)
    end, period = until or ports.clock.now(), timedelta(days=query.days)
    production, found, notes = _production(settings), [], []
    for service in services:
        shown = {e for e in production if is_shown(ports, principal, "read_operation", settings, service, e)}
        recorded, whole = await _recorded(ports, service, end - 2 * period - LONGEST_ROLLOUT)
        if not whole:
            notes.append(f"{service}: of the last {OPERATIONS_AT_MOST:,} operations alone")
        found.append((service, await _deploys(ports, service, shown, recorded)))
    found = [(service, known) for service, known in found if known]
    without = sum(d.succeeded and d.committed is None for d in chain(*(known for _, known in found)))
    if without:
        notes.append(f"of {without} deploys the commits are not known any more: they have no lead time")
    return DoraReport(
        since=end - period,
        until=end,
        days=query.days,
        environments=tuple(production),
        services=tuple(_of(service, known, end, period) for service, known in found),
        tenants=_by_tenant(settings, found, end, period),
        failures=_failures(chain(*(known for _, known in found)), end - period, end),
        notes=tuple(notes),
    )


async def harms(ports: Ports, service: str, environment: str, operations: Sequence[str]) -> Mapping[str, Harm]:
    """What incidents say of the operations that caused them: why, and when the last of theirs was resolved.

    Only what the version itself shows is held against a deploy: that it came shortly before is no evidence of harm.
    """
    found = await ports.store.read(
        lambda view: view.incidents(service=service, environment=environment, limit=INCIDENTS_AT_MOST)
    )
    blamed: dict[str, list[Incident]] = {}
    for incident in found:
        if incident.certain_suspect in operations:
            blamed.setdefault(incident.certain_suspect, []).append(incident)
    return {operation: _harm(incidents) for operation, incidents in blamed.items()}


def _harm(incidents: Sequence[Incident]) -> Harm:
    """Of one operation, newest first."""
    ends = [incident.resolved_at for incident in incidents if incident.resolved_at is not None]
    first = incidents[-1]
    return Harm(why=f"incident {first.id}: {first.title}", until=max(ends) if len(ends) == len(incidents) else None)


def _production(settings: Settings) -> list[str]:
    return [name for name in settings.environments if settings.kind_of(name) is EnvironmentKind.PRODUCTION]


async def _recorded(ports: Ports, service: str, since: datetime) -> tuple[list[Change], bool]:
    """The ended deploys and rollbacks of a service, everywhere; and whether these are all."""
    operations = await ports.store.read(
        lambda view: list(view.operations(service=service, running=False, since=since, limit=OPERATIONS_AT_MOST))
    )
    wanted = [o for o in operations if o.kind in (DEPLOY, ROLLBACK) and o.state.finished]
    changes: list[Change] = []
    for begin in range(0, len(wanted), ROLLOUTS_AT_ONCE):
        some = wanted[begin : begin + ROLLOUTS_AT_ONCE]
        changes += await ports.store.read(lambda view, some=some: _changes(view, some))  # type: ignore[misc]
        await ports.clock.sleep(0)  # a read itself lets nobody else go on
    return changes, len(operations) < OPERATIONS_AT_MOST


def _changes(view: Snapshot, operations: Iterable[Operation]) -> list[Change]:
    with_rollouts = ((operation, view.rollout_of(operation.id)) for operation in operations)
    return [
        Change(operation=operation, rollout=rollout)
        for operation, rollout in with_rollouts
        if rollout is not None and rollout.phase.finished
    ]


async def _deploys(
    ports: Ports, service: str, environments: Iterable[str], recorded: Sequence[Change]
) -> tuple[Deploy, ...]:
    built = {c.rollout.new.template.release: c.rollout.git_ref for c in recorded if c.rollout.new and c.rollout.git_ref}
    found: list[Deploy] = []
    for environment in environments:
        changes = [c for c in recorded if c.operation.environment == environment]
        committed = {
            c.operation.id: await _committed(ports, service, c, built)
            for c in changes
            if c.operation.kind == DEPLOY and c.operation.state in TOOK_OVER
        }
        deployed = [c.operation.id for c in changes if c.operation.kind == DEPLOY]
        found += deploys(changes, committed, await harms(ports, service, environment, deployed))
    return tuple(sorted(found, key=lambda deploy: deploy.ended_at))


async def _committed(
    ports: Ports, service: str, change: Change, built: Mapping[str, str]
) -> tuple[datetime, ...] | None:
    new, old = change.rollout.new, change.rollout.old
    commit = await _commit(ports, new.template.release, built) if new else None
    after = await _commit(ports, old.template.release, built) if old else None
    if commit is None or (old is not None and after is None):
        return None
    return await ports.artifacts.committed(service, after, commit)


async def _commit(ports: Ports, release: str, built: Mapping[str, str]) -> str | None:
    """Which commit a release was built from; None where neither a rollout nor the release itself is there to say it."""
    if release in built:
        return built[release]
    try:
        return (await ports.artifacts.get(release)).commit
    except PlatformError as exc:
        if exc.code is not ErrorCode.NOT_FOUND:
            raise
        return None


def _of(name: str, known: Sequence[Deploy], end: datetime, period: timedelta) -> DeliveryOf:
    return DeliveryOf(name=name, delivery=measured(known, end=end, period=period))


def _by_tenant(
    settings: Settings, found: Sequence[tuple[str, Sequence[Deploy]]], end: datetime, period: timedelta
) -> tuple[DeliveryOf, ...]:
    by_tenant: dict[str, list[Deploy]] = {}
    for service, known in found:
        by_tenant.setdefault(settings.tenant_of(service), []).extend(known)
    return tuple(_of(tenant, known, end, period) for tenant, known in sorted(by_tenant.items()))


def _failures(known: Iterable[Deploy], since: datetime, until: datetime) -> tuple[FailureView, ...]:
    failed = [d for d in known if d.failed and since < d.ended_at <= until]
    newest = sorted(failed, key=lambda d: d.ended_at, reverse=True)[:LISTED]
    return tuple(
        FailureView(
            operation=d.operation,
            service=d.service,
            environment=d.environment,
            at=d.reached_at,
            why=d.failed[:300],
            recovery_seconds=max(0.0, (d.recovered_at - d.reached_at).total_seconds()) if d.recovered_at else None,
        )
        for d in newest
    )
