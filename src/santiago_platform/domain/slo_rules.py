"""Compiles an SLO to rules of Prometheus: ratios of counts over the whole window, never means of ratios.

Each minute's increments are recorded, and every window sums those. A window that is idle burns nothing; an error series
that is not there yet counts as none; a counter that begins anew counts what it shows.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise

from . import promql
from .burn_rate import usual_alerts
from .rules import Rule, RuleGroup, literal
from .slo import HOUR, MINUTE, BurnAlert, Calendar, Events, Method, Ratio, Slo, Threshold

BAD, TOTAL = "slo:bad_events:increase1m", "slo:total_events:increase1m"
BAD_SLICES, TOTAL_SLICES = "slo:bad_slices:count", "slo:total_slices:count"
BURN = "slo:burn_rate:"  # and the window
SLI, REMAINING, OBJECTIVE = "slo:sli:ratio", "slo:error_budget_remaining:ratio", "slo:objective:ratio"
PERIOD_BAD, PERIOD_TOTAL = "slo:period_bad_events:sum", "slo:period_total_events:sum"
_GAP = "5m"  # how long a series may be away and still go on where it was


def rule_groups(slo: Slo) -> tuple[RuleGroup, ...]:
    """Everything that measures it and tells of it: deterministic, and in one group, evaluated each minute, so that what
    sums minutes is at the same moments as what records them."""
    measured = (*_event_rules(slo), *_slice_rules(slo), *_calendar_rules(slo))
    told = (*_burn_rules(slo), *_budget_rules(slo), *_alert_rules(slo))
    name = f"slo:{slo.service}:{slo.environment}:{slo.name}"
    return (RuleGroup(name=name, interval_seconds=MINUTE, rules=(*measured, *told)),)


def increments(expression: str) -> str:
    """How much a counter rose in the minute up to now, all its series together, from sample to sample.

    A series that is seen for the first time counts whole where its target was scraped a minute ago already: it appeared
    with its first event. A target that is new itself may have counted for days, so it only begins to be read.
    Nothing is extrapolated, and what a gap of up to five minutes hid is counted when it ends.
    """
    now = promql.summed(expression)
    before = f"last_over_time({now}[{_GAP}] offset 1m)"
    appeared = f"{now} and on (job, instance) (up offset 1m == 1)"
    return f"sum(({now} - {before} >= 0) or ({now} < {before}) or ({appeared}))"


def _event_rules(slo: Slo) -> tuple[Rule, ...]:
    total = _of(slo, TOTAL)
    match slo.indicator:
        case Events() as events:
            count: Callable[[str], str] = increments if events.counter else _of_this_minute
            counted = f"({count(events.good or events.bad)} or on () {total} * 0)"
            bad = f"clamp_min({total} - on () {counted}, 0)" if events.good else counted
            return _record(slo, TOTAL, count(events.total)), _record(slo, BAD, bad)
        case Ratio() as ratio:
            share = f"avg(clamp(({ratio.expression}) >= -Inf, 0, 1))"
            bad = share if ratio.of_failures else f"1 - {share}"
            return _record(slo, BAD, bad), _record(slo, TOTAL, f"{_of(slo, BAD)} * 0 + 1")
        case Threshold() as threshold:
            measured = f"({threshold.expression}) >= -Inf"  # what is no number was not measured
            kept = f"count(({measured}) {threshold.operator} {threshold.value!r})"
            bad = f"{total} - on () ({kept} or on () {total} * 0)"
            return _record(slo, TOTAL, f"count({measured})"), _record(slo, BAD, bad)


def _slice_rules(slo: Slo) -> tuple[Rule, ...]:
    """One sample a slice, at its end. A slice without traffic is good: nobody was failed in it."""
    if slo.method is Method.OCCURRENCES:
        return ()
    bad, total = (_sum(_of(slo, of), slo.slice_seconds) for of in (BAD, TOTAL))
    share, minutes = f"({bad} / ({total} > 0) or {total} * 0)", slo.slice_seconds // MINUTE
    if slo.method is Method.TIMESLICES:
        share = f"({share} > bool {_number(1 - slo.slice_target)})"
    return (
        _record(slo, BAD_SLICES, f"{share} and on () (floor(vector(time()) / {MINUTE}) % {minutes} == 0)"),
        _record(slo, TOTAL_SLICES, f"{_of(slo, BAD_SLICES)} * 0 + 1"),
    )


def _burn_rules(slo: Slo) -> tuple[Rule, ...]:
    windows = {window for alert in alerts(slo) for _, windows in alert.conditions for window in windows}
    rules = []
    for window in sorted(windows):
        bad, total = (_sum(_of(slo, of), window) for of in _summed(slo))
        rate = f"({bad} / ({total} > 0) or {total} * 0) / {_number(slo.budget_ratio)}"
        rules.append(_record(slo, BURN + promql.duration(window), rate))
    return tuple(rules)


def _budget_rules(slo: Slo) -> tuple[Rule, ...]:
    bad, total = (_over_period(slo, of) for of in _summed(slo))
    counted = _of(slo, PERIOD_TOTAL)
    share = f"({_of(slo, PERIOD_BAD)} / ({counted} > 0) or {counted} * 0)"
    return (
        _record(slo, PERIOD_TOTAL, total),
        _record(slo, PERIOD_BAD, bad),
        _record(slo, SLI, f"1 - {share}"),
        _record(slo, REMAINING, f"1 - {share} / {_number(slo.budget_ratio)}"),
        _record(slo, OBJECTIVE, f"vector({slo.target!r})"),
    )


def _over_period(slo: Slo, of: str) -> str:
    if slo.calendar is None:
        return _sum(_of(slo, of), slo.period_seconds)
    set_back = HOUR if len(slo.calendar.offsets) > 1 else 0  # a period in which the clocks are is longer
    inside = _sum(_of(slo, _marked(of)), slo.period_seconds + set_back)
    return f"sum without (period) ({inside} and on (period) {_period(slo.calendar, slo.period_seconds)})"


def _calendar_rules(slo: Slo) -> tuple[Rule, ...]:
    """What is summed, once more with the number of its period, so that the present period's can be told."""
    if slo.calendar is None:
        return ()
    period = _period(slo.calendar, slo.period_seconds)
    mark = f"* on () group_left (period) {period}"
    return tuple(_record(slo, _marked(of), f"{_of(slo, of)} {mark}") for of in _summed(slo))


def _marked(name: str) -> str:
    return name.replace("slo:", "slo:calendar_", 1)


def _period(calendar: Calendar, length_seconds: int) -> str:
    """1, with the number of the period that now is in as the label `period`."""
    offset = str(calendar.offsets[0][1])
    for (_, before), (since, after) in pairwise(calendar.offsets):
        offset += f" + (time() >= bool {since}) * {after - before}"
    if calendar.months == 0:
        number = f"(vector(time() + {offset}) - {calendar.start}) / {length_seconds}"
    else:
        start = datetime.fromtimestamp(calendar.start, UTC)
        into_month = calendar.start - int(start.replace(day=1, hour=0, minute=0, second=0).timestamp())
        local = f"vector(time() + {offset} - {into_month})"
        first = start.year * 12 + start.month - 1
        number = f"(year({local}) * 12 + month({local}) - 1 - {first}) / {calendar.months}"
    return f'count_values("period", floor({number}))'


def alerts(slo: Slo) -> tuple[BurnAlert, ...]:
    """Its own, else the usual ones; an SLA is reported and pages nobody."""
    if slo.alerts is not None:
        return slo.alerts
    return () if slo.sla else usual_alerts(slo.period_seconds, slo.budget_ratio, slo.step_seconds)


def _alert_rules(slo: Slo) -> tuple[Rule, ...]:
    return tuple(_alert(slo, alert) for alert in alerts(slo))


def _alert(slo: Slo, alert: BurnAlert) -> Rule:
    def rate(window: int) -> str:
        return _of(slo, BURN + promql.duration(window))

    if alert.no_data:
        expression = " or ".join(f"absent({rate(window)})" for _, windows in alert.conditions for window in windows)
    else:
        expression = " or ".join(
            "(" + " and ".join(f"{rate(window)} {alert.operator} {_number(burn)}" for window in windows) + ")"
            for burn, windows in alert.conditions
        )
    owner = {"owner": slo.owner} if slo.owner else {}
    words = {
        "summary": f"{slo.service} in {slo.environment}: {slo.title or slo.name} "
        + ("is not measured" if alert.no_data else f"burns its error budget ({slo.target:.5g} must be good)"),
        "description": alert.description,
        "runbook_url": slo.runbook_url,
        "notify": ", ".join(alert.targets),
    }
    labels = {**slo.labels, "severity": alert.severity, **owner}
    return Rule(
        alert=alert.name,
        expr=expression,
        for_seconds=alert.for_seconds,
        labels={key: literal(text) for key, text in labels.items()},
        annotations={key: literal(text) for key, text in words.items() if text},
    )


def _summed(slo: Slo) -> tuple[str, str]:
    return (BAD, TOTAL) if slo.method is Method.OCCURRENCES else (BAD_SLICES, TOTAL_SLICES)


def _record(slo: Slo, name: str, expression: str) -> Rule:
    return Rule(record=name, expr=expression, labels=slo.labels)


def _of(slo: Slo, name: str) -> str:
    return promql.series(name, slo.labels)


def _of_this_minute(expression: str) -> str:
    return f"sum(({expression}) >= 0)"


def _sum(series: str, seconds: int) -> str:
    """Of the samples of the last `seconds`. A second less: the first moment is in the range up to version 2 of
    Prometheus and is not since version 3, and a sample too many would be counted twice by two windows in a row."""
    return f"sum_over_time({series}[{seconds - 1}s])"


def _number(value: float) -> str:
    return f"{value:.12g}"
