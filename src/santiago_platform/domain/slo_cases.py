"""What the rules of an SLO must do, as cases that are run before they are loaded.

The series are made from the selectors of its queries, so that what is tested is the SLO as it was written. Where one
is no selector, a recorded count is given instead: the way to it is not tested, and of most kinds one case alone can be.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Literal

from . import promql
from .promql import Selector
from .rules import RuleTest
from .slo import MINUTE, BurnAlert, Events, Method, Ratio, Slo, Threshold
from .slo_rules import BAD, BURN, TOTAL, alerts
from .value import Value

_TARGET = {"job": "case", "instance": "case"}
_A_MINUTE = 1000  # requests
_MINUTES = 30
_SAYS = {">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le}

Part = Literal["all", "fine", "failing"]


class _Feed(Value):
    """series: each with the part of the requests that it counts. counter: their values rise; else they are of a minute.
    unit: what all requests of a minute count. levels: the values of a minute that is fine, and of one that fails, in
    place of counts. only: the one share that can be shown."""

    series: dict[str, Part]
    counter: bool = False
    unit: float = _A_MINUTE
    levels: tuple[float, float] | None = None
    only: float | None = None


def rule_tests(slo: Slo) -> tuple[RuleTest, ...]:
    """Deterministic. Empty minutes, restarts and error series that appear late, besides each alert's own case."""
    feed = _written(slo) or _recorded(slo)
    shares = [0.0, *_shares(slo)] if feed.only is None else [feed.only]
    if feed.levels is not None:
        shares = [0.0, 1.0]
    cases = [_case(slo, feed, share) for share in shares]
    if feed.counter:
        cases += [_idle(slo, feed), _restart(slo, feed), *_late(slo, feed)]
    return tuple(cases)


def _shares(slo: Slo) -> list[float]:
    """Of failing requests: each makes one more alert fire."""
    if slo.method is Method.TIMESLICES:
        return [1.0]
    rates = [burn for alert in alerts(slo) for burn, _ in alert.conditions if burn > 0]
    return sorted({round(min(1.5 * burn * slo.budget_ratio, 1.0), 9) for burn in rates})


def _case(slo: Slo, feed: _Feed, share: float) -> RuleTest:
    """The share of the requests fails from the start, so that every window shows the same rate."""
    fails = share > 1 - slo.slice_target + 1e-12 if slo.method is Method.TIMESLICES else share
    burn = float(fails) / slo.budget_ratio
    waits = max((alert.for_seconds for alert in alerts(slo)), default=0)
    at = max(_MINUTES * MINUTE, 4 * slo.step_seconds) + waits
    fired = [alert for alert in alerts(slo) if not alert.no_data and _fires(alert, burn)]
    names = dict.fromkeys(alert.name for alert in alerts(slo))
    series = {name: _values(feed, part, share, round(at / MINUTE) + 1) for name, part in feed.series.items()}
    return RuleTest(
        name=f"burns at {burn:.4g}: " + (", ".join(f"{alert.name} ({alert.severity})" for alert in fired) or "silent"),
        series=_with_target(series, round(at / MINUTE) + 1),
        alerts=tuple((name, at, tuple(_labels(slo, alert) for alert in fired if alert.name == name)) for name in names),
    )


def _fires(alert: BurnAlert, burn: float) -> bool:
    return any(_SAYS[alert.operator](burn, rate) for rate, _ in alert.conditions)


def _labels(slo: Slo, alert: BurnAlert) -> dict[str, str]:
    owner = {"owner": slo.owner} if slo.owner else {}
    return {**slo.labels, "severity": alert.severity, **owner}


def _idle(slo: Slo, feed: _Feed) -> RuleTest:
    """There were requests, half of them failed, and then nobody asks any more: that is no number, and no burn."""
    at = max(_MINUTES * MINUTE, 4 * slo.step_seconds)
    windows = sorted({window for alert in alerts(slo) for _, spans in alert.conditions for window in spans})[:1]
    burned = (promql.series(BURN + promql.duration(window), slo.labels) for window in windows)
    still = f"{_A_MINUTE}x{at // MINUTE}"
    return RuleTest(
        name="idle: silent, and a burn of nothing",
        series=_with_target(dict.fromkeys(feed.series, still), at // MINUTE + 1),
        alerts=tuple((name, float(at), ()) for name in dict.fromkeys(alert.name for alert in alerts(slo))),
        values=tuple((name, float(at), {name: 0.0}) for name in burned),
    )


def _restart(slo: Slo, feed: _Feed) -> RuleTest:
    """Counters that begin anew: no minute has more than there were requests, and none has less than nothing."""
    values = {name: " ".join([_values(feed, part, 0, 10)] * 2) for name, part in feed.series.items()}
    within = f"{promql.series(TOTAL, slo.labels)}[20m]"
    labels = promql.series("", slo.labels)
    return RuleTest(
        name="counters begin anew: no jump",
        series=_with_target(values, 22),
        values=(
            (f"max_over_time({within})", 21.0 * MINUTE, {labels: float(_A_MINUTE)}),
            (f"min_over_time({within})", 21.0 * MINUTE, {labels: 0.0}),
        ),
    )


def _late(slo: Slo, feed: _Feed) -> list[RuleTest]:
    """A series of errors that appears with its first ones: they count."""
    failing = [name for name, part in feed.series.items() if part == "failing"]
    if not failing:
        return []
    values = {name: _values(feed, part, 0, 20) for name, part in feed.series.items()}
    values |= dict.fromkeys(failing, "_x9 7x9")
    counted = f"sum_over_time({promql.series(BAD, slo.labels)}[20m])"
    return [
        RuleTest(
            name="the error series appears with its first errors: they count",
            series=_with_target(values, 20),
            values=((counted, 19.0 * MINUTE, {promql.series("", slo.labels): 7.0}),),
        )
    ]


def _values(feed: _Feed, part: Part, share: float, minutes: int) -> str:
    amount = {"all": 1.0, "fine": 1 - share, "failing": share}[part] * feed.unit
    if feed.levels is not None:
        amount = feed.levels[round(share)]
    return f"{'0+' if feed.counter else ''}{amount:.9g}x{minutes}"


def _with_target(series: dict[str, str], minutes: int) -> dict[str, str]:
    return {**series, promql.series("up", _TARGET): f"1x{minutes}"}


def _recorded(slo: Slo) -> _Feed:
    """In place of what a query would give. What is recorded from it must not be given too."""
    total: dict[str, Part] = {promql.series(TOTAL, slo.labels): "all"}
    match slo.indicator:
        case Events() as events:  # without its other query, all is bad where the good are counted, else nothing
            return _Feed(series=total, only=1.0 if events.good else 0.0)
        case Ratio():
            return _Feed(series={promql.series(BAD, slo.labels): "failing"}, unit=1.0)
        case Threshold():
            return _Feed(series=total, only=1.0)


def _written(slo: Slo) -> _Feed | None:
    """None where a query is no selector, or no series was found that it matches."""
    indicator = slo.indicator
    if isinstance(indicator, Events):
        return _of_events(indicator)
    read = promql.selector(indicator.expression)
    labels = read.example() if read is not None else None
    if read is None or labels is None:
        return None
    name = _named(read, labels)
    if isinstance(indicator, Ratio):
        return _Feed(series={name: "failing" if indicator.of_failures else "fine"}, unit=1.0)
    value = indicator.value
    below, above = value - 1, value + 1
    levels = (below, above) if indicator.operator in ("<", "<=") else (above, below)
    return _Feed(series={name: "all"}, levels=levels)


def _of_events(events: Events) -> _Feed | None:
    total, part = (promql.selector(promql.summed(text)) for text in (events.total, events.good or events.bad))
    if total is None or part is None:
        return None
    whole, share = total.example(), part.example()
    if whole is None or share is None:
        return None
    one: Part = "fine" if events.good else "failing"
    other: Part = "failing" if events.good else "fine"
    if total.metric != part.metric:
        series: dict[str, Part] = {_named(total, whole): "all", _named(part, share): one}
    else:
        rest = _beside(total, part, whole)
        if rest is None or not total.matches(both := {**whole, **share}) or not part.matches(both):
            return None
        series = {_named(part, both): one, _named(total, rest): other}
    return _Feed(series=series, counter=events.counter)


def _beside(total: Selector, part: Selector, whole: dict[str, str]) -> dict[str, str] | None:
    """Labels that `total` matches and `part` does not."""
    tried: list[Callable[[], dict[str, str]]] = [lambda: whole]
    tried += [lambda m=m: {**whole, m.label: m.counterexample or ""} for m in part.matchers]  # type: ignore[misc]
    for labels in (make() for make in tried):
        if total.matches(labels) and not part.matches(labels):
            return labels
    return None


def _named(selector: Selector, labels: dict[str, str]) -> str:
    return promql.series(selector.metric, {**_TARGET, **{name: value for name, value in labels.items() if value}})
