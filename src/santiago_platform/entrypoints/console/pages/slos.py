"""Service level objectives, what is left of their error budgets, and how that came about: a chart, loaded beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ....domain.identity import Principal
from ....operations.report_slo import SloView, report_slo
from ....ports import Ports
from ..page import Given, Page

CHARTS_AT_MOST = 12


async def _load(ports: Ports, who: Principal, _: Given) -> dict[str, Any]:
    report = await report_slo(ports, who, history=False)
    measured = any(slo.remaining_ratio is not None for slo in report.slos)
    return {"report": report, "windows": _windows, "figures": "/console/figures/slos" if measured else ""}


async def _figures(ports: Ports, who: Principal, _: Given) -> dict[str, Any]:
    report = await report_slo(ports, who)
    worst = sorted((slo for slo in report.slos if slo.history), key=lambda slo: slo.remaining_ratio or 0)
    charts = [_chart(slo) for slo in worst[:CHARTS_AT_MOST]]
    return {"charts": charts, "heading": "Error budgets", "about": "the worst first"}


def _windows(rates: Mapping[str, float]) -> list[tuple[str, float]]:
    """Burn rates by window, the shortest first: "5m", "1h", "3d"."""
    return sorted(rates.items(), key=lambda rate: ("smhdw".find(rate[0][-1:]), len(rate[0]), rate[0]))


def _chart(slo: SloView) -> dict[str, Any]:
    values = [point.value for point in slo.history]
    title = f"{slo.service} in {slo.environment}: {slo.title or slo.slo}"
    return {
        "signal": title,
        "unit": "share of the error budget that is left",
        "rows": [("error budget left", values[-1], sum(values) / len(values), max(values))],
        "points": json.dumps([[point.at for point in slo.history], values]),
    }


SLOS = Page(path="/console/slos", template="slos.html", title="SLOs and error budgets", load=_load, section="slos")
SLO_FIGURES = Page(
    path="/console/figures/slos",
    template="figures.html",
    title="Error budgets",
    load=_figures,
    section="slos",
    live=False,
)
