"""One service in one environment, and its figures: these change all the time, and are loaded beside it."""

from __future__ import annotations

import json
from typing import Any

from ....domain.errors import ErrorCode, PlatformError
from ....domain.identity import Principal
from ....domain.quantity import memory_rounded
from ....domain.signal import Signal
from ....operations.manage_operation import OperationCommand, manage_operation
from ....operations.query_metrics import MetricsAnswer, MetricsQuery, query_metrics
from ....operations.read_architecture import ArchitectureQuery, read_architecture
from ....operations.read_versions import VersionsQuery, VersionsView, read_versions
from ....ports import Ports
from ....tools.schema import parse
from ..page import Given, Page

WINDOW_SECONDS = 900
SIGNALS = (Signal.TRAFFIC, Signal.ERRORS, Signal.LATENCY)


async def _load(ports: Ports, who: Principal, given: Given) -> dict[str, Any]:
    place = {"service": given["service"], "environment": given["environment"]}
    found = await read_architecture(ports, who, parse(ArchitectureQuery, place))
    history = parse(OperationCommand, {"action": "history", "limit": 10, **place})
    here = next(iter(found.services), None)
    requirements = dict(here.requirements) if here else {}
    if (memory := requirements.pop("memory_bytes", "")).isdecimal():
        requirements["memory"] = memory_rounded(int(memory))
    return {
        **place,
        "requirements": requirements,
        "title": f"{place['service']} in {place['environment']}",
        "here": here,
        "versions": await _versions(ports, who, parse(VersionsQuery, place)),
        "operations": (await manage_operation(ports, who, history)).operations,
        "figures": f"/console/figures/{place['service']}/{place['environment']}" if here else "",
    }


async def _versions(ports: Ports, who: Principal, query: VersionsQuery) -> VersionsView | None:
    try:
        return await read_versions(ports, who, query)
    except PlatformError as exc:
        if exc.code is not ErrorCode.NOT_FOUND:
            raise
        return None


async def _figures(ports: Ports, who: Principal, given: Given) -> dict[str, Any]:
    place = {"service": given["service"], "environment": given["environment"], "window_seconds": WINDOW_SECONDS}
    charts = []
    for signal in SIGNALS:
        try:
            answer = await query_metrics(ports, who, parse(MetricsQuery, {"signal": signal, **place}))
        except PlatformError as exc:
            if exc.code not in (ErrorCode.UNAVAILABLE, ErrorCode.DEADLINE_EXCEEDED):
                raise
            charts.append({"signal": signal, "unit": exc.message, "rows": [], "points": "[]"})
            continue
        charts.append(_chart(signal, answer))
    about = f"in {given['environment']}, last {WINDOW_SECONDS // 60} minutes"
    return {"charts": charts, "heading": f"Figures of {given['service']}", "about": about}


def _chart(signal: Signal, answer: MetricsAnswer) -> dict[str, Any]:
    """points: as uPlot takes them: the times, then the values of each series at them, or null."""
    times = sorted({point.at for series in answer.series for point in series.points})
    lines = []
    for series in answer.series:
        at = {point.at: point.value for point in series.points}
        lines.append([at.get(time) for time in times])
    rows = [(" ".join(s.labels.values()) or "all", s.last, s.mean, s.maximum) for s in answer.series]
    return {"signal": signal, "unit": answer.unit, "rows": rows, "points": json.dumps([times, *lines])}


SERVICE = Page(
    path="/console/services/{service}/{environment}",
    template="service.html",
    title="Service",
    load=_load,
    section="services",
)
FIGURES = Page(
    path="/console/figures/{service}/{environment}",
    template="figures.html",
    title="Figures",
    load=_figures,
    section="services",
    live=False,
)
