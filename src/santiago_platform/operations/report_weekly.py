"""The platform's weekly report: delivery, service levels, incidents, the AI budget and cost, each from its own source.

A source that is not there, or that the reader may not see, makes its section say so: nothing is left out in silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from decimal import Decimal

from ..domain.dora import Delivery
from ..domain.environment import EnvironmentKind, Settings
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Principal
from ..domain.incident import Incident
from ..domain.incident_report import times
from ..domain.report import (
    Chart,
    ChartKind,
    Point,
    Report,
    Section,
    Table,
    Week,
    WeekName,
    last_ended_week,
    shown,
    week,
)
from ..domain.rules import Severity
from ..domain.value import Value
from ..ports import Ports
from .authority import authorise
from .read_incidents import opened_between
from .report_dora import DoraQuery, report_dora
from .report_slo import report_slo
from .tenancy import of_all_tenants

CHARTED_AT_MOST = 20  # in one chart
LISTED = 50  # incidents
_Made = Callable[[Ports, Principal, Settings, Week], Awaitable[Section]]


class WeeklyQuery(Value):
    """week: as 2026-W07; None means the last one that has ended."""

    week: WeekName | None = None


async def report_weekly(ports: Ports, principal: Principal, query: WeeklyQuery) -> Report:
    """Of what the principal may see. Raises PlatformError: INVALID_ARGUMENT (no such week, or not ended yet),
    PERMISSION_DENIED."""
    settings = ports.workspace.last_good_settings()
    authorise(ports, principal, "read_operation", settings)
    last = last_ended_week(ports.clock.now())
    of = week(query.week) if query.week else last
    if of.until > last.until:
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT, f"{of.name} has not ended", f"the last one that has is {last.name}"
        )
    made = [await _section(title, make, ports, principal, settings, of) for title, make in _SECTIONS.items()]
    period = f"{of.name}, {of.days[0]} to {of.days[-1]}"
    return Report(name=of.name, title="Platform report", period=period, made_at=ports.clock.now(), sections=tuple(made))


async def _section(
    title: str, make: _Made, ports: Ports, principal: Principal, settings: Settings, of: Week
) -> Section:
    try:
        return await make(ports, principal, settings, of)
    except PlatformError as exc:
        return Section(title=title, missing=exc.message)


async def _delivery(ports: Ports, principal: Principal, settings: Settings, of: Week) -> Section:
    found = await report_dora(ports, principal, DoraQuery(days=7), until=of.until)
    if not found.services:
        return Section(title="Delivery", words=("Nothing was ever deployed to production.",))
    counts = [
        Point(x=s.name, y=count, series=series)
        for s in found.services[:CHARTED_AT_MOST]
        for series, count in _outcomes(s.delivery).items()
    ]
    failures = Table(
        columns=("operation", "service", "recovered after", "why"),
        rows=tuple((f.operation, f.service, shown(f.recovery_seconds, "seconds"), f.why) for f in found.failures),
    )
    return Section(
        title="Delivery",
        words=(*found.notes, f"Bands: {found.band_source}."),
        tables=(
            Table(
                columns=("service", "metric", "value", "target", "standing", "band", "week before", "trend"),
                rows=tuple(row for s in found.services for row in _measures(s.name, s.delivery)),
            ),
            *((failures,) if failures.rows else ()),
        ),
        charts=Chart.of(
            name="deploys",
            title="Deploys to production, by what they came to",
            kind=ChartKind.BARS,
            axes=("service", "deploys"),
            points=counts,
        ),
    )


def _outcomes(delivery: Delivery) -> dict[str, int]:
    return {
        "did no harm": delivery.deploys - delivery.failed,
        "failed": delivery.failed,
        "stopped before users": delivery.stopped_before_users,
    }


def _measures(name: str, delivery: Delivery) -> list[tuple[str, ...]]:
    return [
        (
            name,
            m.metric.replace("_", " "),
            shown(m.value, m.unit),
            shown(m.target, m.unit) if m.target is not None else "",
            m.standing,
            m.band or "",
            shown(m.before, m.unit),
            m.trend,
        )
        for m in delivery.measures
    ]


async def _service_levels(ports: Ports, principal: Principal, settings: Settings, of: Week) -> Section:
    """As they are when the report is made: their periods are longer than a week."""
    found = await report_slo(ports, principal, history=False)
    slos = [s for s in found.slos if settings.kind_of(s.environment) is EnvironmentKind.PRODUCTION]
    if not slos:
        return Section(title="Service levels", missing="; ".join(found.problems) or "no service has an SLO")
    rows = tuple(
        (
            slo.service,
            slo.environment,
            (slo.title or slo.slo) + (" (SLA)" if slo.sla else ""),
            {True: "met", False: "not met", None: "no data"}[slo.met],
            f"{slo.target:.6g}",
            f"{slo.sli_ratio:.6f}" if slo.sli_ratio is not None else "no data",
            shown(slo.remaining_ratio, "ratio"),
        )
        for slo in slos
    )
    left = [(f"{s.service}/{s.environment} {s.slo}", s.remaining_ratio) for s in slos if not s.sla]
    charts = Chart.of(
        name="error_budgets",
        title="Error budget left",
        kind=ChartKind.SHARES,
        axes=("objective", "share of the error budget"),
        points=[Point(x=name, y=ratio) for name, ratio in left if ratio is not None][:CHARTED_AT_MOST],
    )
    columns = ("service", "environment", "objective", "SLO", "target", "good", "error budget left")
    words = (*found.problems, *(f"Not kept to customers: {name}." for name in found.breached))
    return Section(title="Service levels", words=words, tables=(Table(columns=columns, rows=rows),), charts=charts)


async def _incidents(ports: Ports, principal: Principal, settings: Settings, of: Week) -> Section:
    """Those that were opened in the week, how fast they were acknowledged and over, and where they are written up."""
    opened = await opened_between(ports, principal, of.since, of.until)
    found = [i for i in opened if not i.environment or settings.kind_of(i.environment) is EnvironmentKind.PRODUCTION]
    if not found:
        return Section(title="Incidents", words=("None was opened in the week.",))
    by_severity = Counter(incident.severity for incident in found)
    counts = ", ".join(f"{by_severity[s]} {s}" for s in Severity if by_severity[s])
    still = sum(incident.is_open for incident in found)
    speed = Table(
        columns=("service", "severity", "incidents", "MTTA", "MTTR"),
        rows=tuple(
            (
                t.service or "the platform",
                t.severity,
                str(t.incidents),
                shown(t.mtta_seconds, "seconds"),
                shown(t.mttr_seconds, "seconds"),
            )
            for t in times(found)
        ),
    )
    columns = ("incident", "service", "environment", "severity", "opened (UTC)", "state", "what", "post-mortem")
    return Section(
        title="Incidents",
        words=(f"Opened: {counts}. Open still: {still}.", "MTTA and MTTR are medians from the first alert."),
        tables=(speed, Table(columns=columns, rows=tuple(_row(i) for i in found[:LISTED]))),
    )


def _row(incident: Incident) -> tuple[str, ...]:
    return (
        incident.id,
        incident.service or "the platform",
        incident.environment,
        incident.severity,
        f"{incident.opened_at:%Y-%m-%d %H:%M}",
        incident.state,
        incident.title,
        incident.postmortem,
    )


async def _ai_budget(ports: Ports, principal: Principal, settings: Settings, of: Week) -> Section:
    authorise(ports, principal, "read_budget", settings)
    whole = of_all_tenants(principal) or settings.tenant_names == {principal.tenant}
    days = await ports.store.read(lambda view: [(day, view.spent(day)) for day in of.days])
    if not whole:
        days = [(day, spent.of_tenant(principal.tenant)) for day, spent in days]
    tasks = sorted({task for _, spent in days for task in spent.by_task})
    total = sum((spent.total_usd for _, spent in days), Decimal(0))
    rows = [
        (str(day), *(f"{spent.by_task.get(task, Decimal(0)):.4f}" for task in tasks), f"{spent.total_usd:.4f}")
        for day, spent in days
    ]
    points = [
        Point(x=str(day), y=float(spent.by_task.get(task, 0)), series=str(task))
        for day, spent in days
        for task in tasks
    ]
    charts = Chart.of(
        name="ai_budget",
        title="Spent on advisors",
        kind=ChartKind.BARS,
        axes=("day", "USD"),
        points=points,
        limit=(float(settings.budget.daily_usd), "daily limit") if whole else None,
    )
    said = f"${total:.4f} was spent on advisors" + (f", of ${settings.budget.daily_usd:f} a day." if whole else ".")
    return Section(
        title="AI budget",
        words=(said,),
        tables=(Table(columns=("day", *tasks, "USD in all"), rows=tuple(rows)),) if tasks else (),
        charts=charts,
    )


async def _cost(ports: Ports, principal: Principal, settings: Settings, of: Week) -> Section:
    return Section(title="Cost", missing="nothing here knows what machines cost; what advisors cost is above")


_SECTIONS: dict[str, _Made] = {
    "Delivery": _delivery,
    "Service levels": _service_levels,
    "Incidents": _incidents,
    "AI budget": _ai_budget,
    "Cost": _cost,
}
