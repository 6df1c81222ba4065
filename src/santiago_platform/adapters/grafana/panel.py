"""What the dashboards are made of: panels that ask Prometheus, variables and annotations, in one style."""

from __future__ import annotations

from typing import TypeVar

from grafana_foundation_sdk.builders.common import VizLegendOptions, VizTooltipOptions
from grafana_foundation_sdk.builders.dashboard import (
    AnnotationQuery,
    Dashboard,
    DatasourceVariable,
    QueryVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as StatPanel
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeriesPanel
from grafana_foundation_sdk.models import common, dashboard

P = TypeVar("P", TimeSeriesPanel, StatPanel)
SOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")

# Units as Grafana names them.
SECONDS, REQUESTS, RATIO, BYTES, SHORT = "s", "reqps", "percentunit", "bytes", "short"
PERCENT, CELSIUS, WATT, MEBIBYTES = "percent", "celsius", "watt", "mbytes"


class _TitledAnnotation(dashboard.AnnotationQuery):
    """With how a mark is titled, which the SDK's own lacks."""

    title_format = ""

    def to_json(self) -> dict[str, object]:
        return {**super().to_json(), "titleFormat": self.title_format, "step": "10s"}


class Mark(AnnotationQuery):
    """title: with `{{label}}`."""

    def __init__(self, title: str) -> None:
        self._internal = _TitledAnnotation()
        self._internal.title_format = title


def board(uid: str, title: str, description: str, *variables: QueryVariable) -> Dashboard:
    """An empty dashboard of the last hour. `datasource`: which Prometheus it asks."""
    made = (
        Dashboard(title)
        .uid(f"santiago-{uid}")
        .description(description)
        .tags(["santiago", uid])
        .readonly()
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .timezone("browser")
        .refresh("10s")
        .time("now-1h", "now")
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for variable in variables:
        made = made.with_variable(variable)
    return made


def variable(name: str, label: str, of: str, *, every: bool = False) -> QueryVariable:
    """The values of a label. of: the series that have it. every: several may be chosen, at first all are."""
    made = (
        QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"query": f"label_values({of}, {name})", "refId": name})
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    )
    return made.multi(True).include_all(True).all_value(".+") if every else made


def mark(name: str, expression: str, title: str, colour: str) -> Mark:
    """A line through all panels wherever the expression has a value. title: with `{{label}}`."""
    return Mark(title).name(name).datasource(SOURCE).enable(True).icon_color(colour).expr(expression)


def row(title: str) -> Row:
    return Row(title)


def graph(
    title: str, unit: str, *queries: tuple[str, str], says: str = "", width: int = 8, from_zero: bool = True
) -> TimeSeriesPanel:
    """queries: PromQL, and the name of its lines. says: what it means, for who points at it."""
    made = (
        TimeSeriesPanel()
        .title(title)
        .description(says)
        .datasource(SOURCE)
        .unit(unit)
        .span(width)
        .height(8)
        .line_width(2)
        .fill_opacity(8)
        .show_points(common.VisibilityMode.NEVER)
        .span_nulls(False)
        .legend(
            VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs([])
        )
        .tooltip(VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
    )
    return _asking(made.min(0) if from_zero else made, queries)


def number(
    title: str, unit: str, expression: str, *, says: str = "", width: int = 4, edges: tuple[float, ...] = ()
) -> StatPanel:
    """Its last value. edges: from which on it is yellow, then red; falling ones: below which; one: red from there."""
    made = StatPanel().title(title).description(says).datasource(SOURCE).unit(unit).span(width).height(4)
    made = made.graph_mode(common.BigValueGraphMode.NONE).color_mode(common.BigValueColorMode.VALUE).no_value("no data")
    return _asking(made.thresholds(_thresholds(*edges)), ((expression, ""),), instant=True)


def _asking(panel: P, queries: tuple[tuple[str, str], ...], *, instant: bool = False) -> P:
    for number, (expression, name) in enumerate(queries):
        query = Dataquery().expr(expression).ref_id(chr(ord("A") + number)).datasource(SOURCE)
        query = query.instant() if instant else query.range()
        panel = panel.with_target(query.legend_format(name) if name else query)
    return panel


def _thresholds(*edges: float) -> ThresholdsConfig:
    """Without edges all is green."""
    rising = list(edges) == sorted(edges)
    first, *others = ("green", "yellow", "red") if rising else ("red", "yellow", "green")
    coloured = zip(sorted(edges), others[len(others) - len(edges) :], strict=True)
    steps = [dashboard.Threshold(value=None, color=first)]
    steps += [dashboard.Threshold(value=edge, color=colour) for edge, colour in coloured]
    return ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)
