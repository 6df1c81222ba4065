"""Reads time series: PromQL, or a named signal of a service. A summary, not a dump."""

from __future__ import annotations

from itertools import product
from typing import Annotated

from pydantic import Field

from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Name, Principal
from ..domain.signal import Point, Series, Signal
from ..domain.value import Value
from ..ports import Ports
from .authority import ALL, authorise
from .tenancy import known_services, of_all_tenants, require_service

POINTS = 60


class MetricsQuery(Value):
    """Exactly one of expression (PromQL) and signal. window_seconds: how far back from now; 0 asks for one instant.

    step_seconds: between points; None chooses at most 60 points. limit: series at most.
    """

    expression: Annotated[str, Field(max_length=2000)] | None = None
    signal: Signal | None = None
    service: Name | None = None
    environment: Name | None = None
    version: Annotated[str, Field(pattern=r"^[0-9a-f]{1,64}$")] | None = None
    window_seconds: Annotated[float, Field(ge=0, le=31 * 86400)] = 300
    step_seconds: Annotated[float, Field(ge=1)] | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20


class MetricsAnswer(Value):
    """expression: what was asked of Prometheus. truncated: points or series were left out."""

    expression: str
    unit: str
    series: tuple[Series, ...]
    truncated: bool = False


_UNITS = {
    Signal.LATENCY: "seconds (p95)",
    Signal.ERRORS: "ratio of responses that are 5xx",
    Signal.TRAFFIC: "requests per second",
    Signal.SATURATION: "requests in flight",
}


async def query_metrics(ports: Ports, principal: Principal, query: MetricsQuery) -> MetricsAnswer:
    """Raises PlatformError: INVALID_ARGUMENT (with Prometheus' words), UNAVAILABLE, PERMISSION_DENIED."""
    settings = ports.workspace.last_good_settings()
    authorise(ports, principal, "query_metrics", settings, service=query.service, environment=query.environment or ALL)
    if query.service is not None:
        await require_service(ports, principal, settings, query.service)
    expression = _expression(ports, query)
    if query.expression is not None and len(settings.tenant_names) > 1 and not of_all_tenants(principal):
        raise PlatformError(
            ErrorCode.PERMISSION_DENIED,
            "an expression would read the series of every tenant: only the owner may ask so",
            f"ask by signal, service and environment; signals: {', '.join(Signal)}",
        )
    if query.expression is not None:  # it reads what it likes
        for service, environment in product(await known_services(ports, principal, settings), settings.environments):
            authorise(ports, principal, "query_metrics", settings, service=service, environment=environment)
    end = ports.clock.now().timestamp()
    step = query.step_seconds or max(1.0, query.window_seconds / POINTS)
    series = await ports.metrics.query(
        expression, start=end - query.window_seconds, end=end, step=step, limit=query.limit + 1
    )
    shown = [_bounded(s) for s in series[: query.limit]]
    cut = len(series) > query.limit or any(len(s.points) > POINTS for s in series)
    unit = _UNITS[query.signal] if query.signal else ""
    return MetricsAnswer(expression=expression, unit=unit, series=tuple(shown), truncated=cut)


def _expression(ports: Ports, query: MetricsQuery) -> str:
    if (query.expression is None) == (query.signal is None):
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT,
            "give exactly one of expression and signal",
            f"signals: {', '.join(Signal)}; or expression in PromQL",
        )
    if query.expression is not None:
        return query.expression
    if query.signal is None or query.service is None or query.environment is None:
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT,
            f"signal {query.signal} needs service and environment",
            "read_architecture lists them",
        )
    return ports.metrics.expression(query.signal, query.service, query.environment, query.version)


def _bounded(series: Series) -> Series:
    """The series with its summary, and its last points alone where there are too many."""
    values = [p.value for p in series.points]
    kept: tuple[Point, ...] = series.points[-POINTS:]
    if not values:
        return series
    return series.model_copy(
        update={
            "points": kept,
            "last": values[-1],
            "minimum": min(values),
            "maximum": max(values),
            "mean": sum(values) / len(values),
        }
    )
