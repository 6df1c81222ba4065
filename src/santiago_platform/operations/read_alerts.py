"""Shows alerts: what they are, and which of them fire now."""

from __future__ import annotations

from typing import Annotated

from pydantic import WithJsonSchema

from ..domain.alert import Alert
from ..domain.errors import PlatformError
from ..domain.identity import Principal
from ..domain.silence import Silence
from ..domain.value import Value
from ..ports import Ports
from .authority import ALL, authorise, is_shown
from .operation_view import OperationView
from .tenancy import is_own, require_service

LIMIT = 200
UNKNOWN = "unknown"


class AlertView(Value):
    """state: firing, pending, quiet, or unknown while Prometheus does not answer."""

    name: str
    service: str
    environment: str
    state: str
    severity: str
    expression: str
    for_seconds: float
    summary: str = ""
    runbook_url: str = ""
    owner: str = ""
    route: str = ""
    by: str = ""


class AlertsAnswer(Value):
    """operation: of a change, as manage_operation shows it, with what came of trying the alert. silences: None while
    Alertmanager does not answer."""

    alerts: tuple[AlertView, ...] = ()
    silences: tuple[Silence, ...] | None = ()
    operation: Annotated[OperationView | None, WithJsonSchema({"type": "object"})] = None


async def read_alerts(
    ports: Ports, principal: Principal, service: str | None = None, environment: str | None = None
) -> AlertsAnswer:
    """Of one service, of one environment, or all that the principal may see. Raises PERMISSION_DENIED, NOT_FOUND."""
    settings = ports.workspace.last_good_settings()
    authorise(ports, principal, "query_metrics", settings, service=service, environment=environment or ALL)
    if service is not None:
        await require_service(ports, principal, settings, service)

    def shown(alert: Alert | Silence) -> bool:
        return (
            service in (None, alert.service)
            and environment in (None, alert.environment)
            and is_own(principal, settings, alert.service)
            and is_shown(ports, principal, "query_metrics", settings, alert.service, alert.environment)
        )

    found = [alert for alert in await ports.store.read(lambda v: v.alerts()) if shown(alert)][:LIMIT]
    states = await _states(ports) if found else {}
    try:
        silences = tuple(silence for silence in await ports.silences.active() if shown(silence))[:LIMIT]
    except PlatformError:
        silences = None
    return AlertsAnswer(alerts=tuple(_view(alert, states) for alert in found), silences=silences)


async def _states(ports: Ports) -> dict[tuple[str, str, str], str] | None:
    """Of those that are not quiet. None where Prometheus does not answer."""
    now = ports.clock.now().timestamp()
    try:
        series = await ports.metrics.query("ALERTS", start=now, end=now, step=1, limit=10_000)
    except PlatformError:
        return None
    states: dict[tuple[str, str, str], str] = {}
    for labels in sorted((s.labels for s in series), key=lambda labels: labels.get("alertstate") == "firing"):
        names = [labels.get(name, "") for name in ("service", "environment", "alertname")]
        states[names[0], names[1], names[2]] = labels.get("alertstate", UNKNOWN)
    return states


def _view(alert: Alert, states: dict[tuple[str, str, str], str] | None) -> AlertView:
    spec = alert.spec
    return AlertView(
        name=alert.name,
        service=alert.service,
        environment=alert.environment,
        state=UNKNOWN if states is None else states.get(alert.key, "quiet"),
        severity=spec.severity,
        expression=alert.expression,
        for_seconds=spec.for_seconds,
        summary=spec.summary,
        runbook_url=spec.runbook_url,
        owner=spec.owner or "",
        route=spec.route or "",
        by=alert.by,
    )
