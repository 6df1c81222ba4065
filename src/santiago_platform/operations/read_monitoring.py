"""Shows by which rules services are watched, and whether what is written differs from what is in force."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import WithJsonSchema

from ..domain.errors import PlatformError
from ..domain.identity import PLATFORM, Principal
from ..domain.monitoring import Monitoring, differences
from ..domain.slo import PLATFORM as ITSELF
from ..domain.value import Value
from ..ports import Ports
from ..ports.store import Snapshot
from .authority import ALL, authorise, is_shown
from .configure_monitoring import compiled, source_of
from .operation_view import OperationView
from .tenancy import is_own, require_service


class MonitoringView(Value):
    """rules: names of what is in force. loaded: whether the evaluator says that it runs exactly these; None where it
    could not be asked. differs: what would come, go and change if slo.yaml were applied."""

    service: str
    environment: str
    rules: tuple[str, ...]
    alerts: int
    loaded: bool | None
    differs: tuple[str, ...] = ()
    problem: str = ""
    by: str


class MonitoringAnswer(Value):
    """operation: of a change, as manage_operation shows it."""

    monitoring: tuple[MonitoringView, ...] = ()
    operation: Annotated[OperationView | None, WithJsonSchema({"type": "object"})] = None


async def read_monitoring(
    ports: Ports, principal: Principal, service: str | None = None, environment: str | None = None
) -> MonitoringAnswer:
    """Of one service, of one environment, or all that the principal may see. Raises PERMISSION_DENIED, NOT_FOUND."""
    settings = ports.workspace.last_good_settings()
    authorise(ports, principal, "query_metrics", settings, service=service, environment=environment or ALL)
    if service not in (None, ITSELF):  # what is shown of the platform itself is decided row by row
        await require_service(ports, principal, settings, service)

    def shown(row: Monitoring) -> bool:
        return (
            service in (None, row.service)
            and environment in (None, row.environment)
            and is_own(principal, settings, row.service)
            and is_shown(ports, principal, "query_metrics", settings, row.service, row.environment)
        )

    rows = [row for row in await ports.store.read(lambda v: _rows(v, ports.clock.now())) if shown(row)]
    return MonitoringAnswer(monitoring=tuple([await _view(ports, row) for row in rows]))


def _rows(view: Snapshot, now: datetime) -> list[Monitoring]:
    """Those that there are, and empty ones where a service is live without: its slo.yaml may not be readable."""
    live = [(d.service, d.environment) for d in view.deployments() if d.live is not None]
    unwatched = [place for place in live if view.monitoring(*place) is None]
    none = [Monitoring(service=s, environment=e, by=PLATFORM.name, at=now) for s, e in unwatched]
    return sorted([*view.monitorings(), *none], key=lambda row: (row.service, row.environment))


def unapplied(ports: Ports, row: Monitoring) -> tuple[str, ...]:
    """What would come, go and change if slo.yaml were applied. Raises INVALID_ARGUMENT for one that cannot be read."""
    slos = [slo for slo in ports.workspace.slos(row.service) if slo.environment == row.environment]
    if not slos or source_of(slos) == row.source:
        return ()
    return differences(row.groups, compiled(slos).groups)


async def _view(ports: Ports, row: Monitoring) -> MonitoringView:
    rules = [rule for group in row.groups for rule in group.rules]
    problem = ""
    differs: tuple[str, ...] = ()
    try:
        differs = unapplied(ports, row)
    except PlatformError as exc:
        problem = exc.message
    return MonitoringView(
        service=row.service,
        environment=row.environment,
        rules=tuple(dict.fromkeys(rule.alert or rule.record for rule in rules)),
        alerts=sum(1 for rule in rules if rule.alert),
        loaded=await _is_loaded(ports, row),
        differs=differs,
        problem=problem,
        by=row.by,
    )


async def _is_loaded(ports: Ports, row: Monitoring) -> bool | None:
    try:
        loaded = await ports.rules.loaded(row.service)
    except PlatformError:
        return None
    names = {group.name for group in row.groups}
    mine = [group for group in loaded if group.name in names]
    return len(mine) == len(names) and not differences(mine, row.groups)
