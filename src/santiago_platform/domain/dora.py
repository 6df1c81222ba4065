"""The five DORA metrics of software delivery, from deploys to production. Pure.

Formulas: dora.dev, "DORA's software delivery performance metrics". The platform knows which rollout did harm, so a
failure is attributed to that one and never to whatever was deployed last before somebody noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from statistics import median

from .value import Value

BAND_SOURCE = "Accelerate State of DevOps Report 2023; it has no bands of the rework rate, and later ones have others"

_DAY = timedelta(days=1).total_seconds()


class Metric(StrEnum):
    LEAD_TIME = "change_lead_time"
    FREQUENCY = "deployment_frequency"
    RECOVERY_TIME = "failed_deployment_recovery_time"
    FAIL_RATE = "change_fail_rate"
    REWORK_RATE = "deployment_rework_rate"


class Band(StrEnum):
    ELITE = "elite"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Standing(StrEnum):
    """Of a value against its target."""

    MET = "met"
    NOT_MET = "not met"
    NO_DATA = "no data"
    NO_TARGET = "no target"


class Trend(StrEnum):
    """Against the period before, of the same length."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "same"
    NO_DATA = "no data"


class Unit(StrEnum):
    SECONDS = "seconds"
    PER_DAY = "a day"
    RATIO = "ratio"


class _Scale(Value):
    """bands: where elite, high and medium end; beyond the last one it is low. at_edge: a value at an edge, or at the
    target, still is within. more_is_better: edges are undercut, not exceeded."""

    unit: Unit
    target: float | None = None
    bands: tuple[float, float, float] | None = None
    at_edge: bool = True
    target_at_edge: bool = False
    more_is_better: bool = False

    def within(self, value: float, edge: float, at_edge: bool) -> bool:
        if value == edge:
            return at_edge
        return value > edge if self.more_is_better else value < edge

    def band(self, value: float) -> Band | None:
        for band, edge in zip(Band, self.bands or (), strict=False):
            if self.within(value, edge, self.at_edge):
                return band
        return Band.LOW if self.bands else None

    def standing(self, value: float | None) -> Standing:
        if self.target is None:
            return Standing.NO_TARGET
        if value is None:
            return Standing.NO_DATA
        return Standing.MET if self.within(value, self.target, self.target_at_edge) else Standing.NOT_MET


# Targets: of the platform engineer's role. Once a day is high and not yet elite: that is "on demand".
SCALES: Mapping[Metric, _Scale] = {
    Metric.LEAD_TIME: _Scale(unit=Unit.SECONDS, target=3600, bands=(_DAY, 7 * _DAY, 30 * _DAY), at_edge=False),
    Metric.FREQUENCY: _Scale(
        unit=Unit.PER_DAY,
        target=1,
        bands=(1, 1 / 7, 1 / 30),
        at_edge=False,
        target_at_edge=True,
        more_is_better=True,
    ),
    Metric.RECOVERY_TIME: _Scale(unit=Unit.SECONDS, target=1800, bands=(3600, _DAY, 7 * _DAY), at_edge=False),
    Metric.FAIL_RATE: _Scale(unit=Unit.RATIO, target=0.05, bands=(0.05, 0.10, 0.15)),
    Metric.REWORK_RATE: _Scale(unit=Unit.RATIO),
}


class Deploy(Value):
    """A deploy to production that has ended.

    first: nothing of the service was live there. reached_users: some of their requests went to the new version.
    succeeded: it took over and was proven, as far as it could be, whatever came later. reached_at: when it took over,
    else when users first got it. failed: it did harm: why, in words; empty where it did not. recovered_at: when what it
    had done was undone; None while it is not, or where that is not known. self_aborted: a canary that was taken back
    at one of its steps. fixes: the incident that it was said to fix. committed: when its commits were made that users
    did not have before; None where git does not have them any more.
    """

    operation: str
    service: str
    environment: str
    tenant: str
    release: str = ""
    ended_at: datetime
    first: bool = False
    succeeded: bool = False
    reached_users: bool = False
    reached_at: datetime
    failed: str = ""
    recovered_at: datetime | None = None
    self_aborted: bool = False
    fixes: str = ""
    committed: tuple[datetime, ...] | None = None


class Measure(Value):
    """value: None where there is nothing to measure. samples: of how many commits, deploys or failures it is.

    band: None where the value has none. before: the value of the period before.
    """

    metric: Metric
    unit: Unit
    value: float | None
    samples: int
    target: float | None
    standing: Standing
    band: Band | None
    before: float | None
    trend: Trend


class Delivery(Value):
    """How deploys went. days: that were looked at: of what was first deployed within the period, since then.

    deploys: that reached users; succeeded, failed: of these. canaries_aborted: that were taken back at a step, and of
    them those of which users saw no errors. stopped_before_users: deploys that ended before any request went to them,
    which no metric counts. without_commits: deploys whose commits are not known any more.
    """

    days: float
    deploys: int
    succeeded: int
    failed: int
    canaries_aborted: int
    canaries_aborted_unnoticed: int
    stopped_before_users: int
    without_commits: int
    measures: tuple[Measure, ...]

    def of(self, metric: Metric) -> Measure:
        return next(measure for measure in self.measures if measure.metric is metric)


def measured(deploys: Iterable[Deploy], *, end: datetime, period: timedelta) -> Delivery:
    """Of the deploys that ended within `period` before `end`, with the trend against the period before that."""
    known = tuple(deploys)
    now, then = _within(known, end - period, end), _within(known, end - 2 * period, end - period)
    days, days_before = _days(known, end - period, end), _days(known, end - 2 * period, end - period)
    values, before = _values(now, days), _values(then, days_before)
    aborted = [d for d in now if d.self_aborted and d.reached_users]
    return Delivery(
        days=days,
        deploys=sum(d.reached_users for d in now),
        succeeded=sum(d.succeeded for d in now),
        failed=sum(bool(d.failed) for d in now),
        canaries_aborted=len(aborted),
        canaries_aborted_unnoticed=sum(not d.failed for d in aborted),
        stopped_before_users=sum(not d.reached_users for d in now),
        without_commits=sum(d.succeeded and d.committed is None for d in now),
        measures=tuple(_measure(metric, *values[metric], before[metric][0]) for metric in Metric),
    )


def _within(deploys: Iterable[Deploy], start: datetime, end: datetime) -> list[Deploy]:
    return [d for d in deploys if start < d.ended_at <= end]


def _days(deploys: Sequence[Deploy], start: datetime, end: datetime) -> float:
    """Whole length, or since the first deploy of all where that lies within; at least one day, so that what began
    this morning does not count as dozens a day; 0 where it had not begun."""
    oldest = min(deploys, key=lambda d: d.ended_at, default=None)
    since = max(start, oldest.ended_at) if oldest is not None and oldest.first else start
    return max(1.0, (end - since).total_seconds() / _DAY) if since < end else 0.0


def _values(deploys: Sequence[Deploy], days: float) -> dict[Metric, tuple[float | None, int]]:
    """Each metric's value, and of how many samples it is."""
    reached = [d for d in deploys if d.reached_users]
    lead = [max(0.0, (d.reached_at - at).total_seconds()) for d in deploys if d.succeeded for at in d.committed or ()]
    recovery = [
        max(0.0, (d.recovered_at - d.reached_at).total_seconds()) for d in reached if d.failed and d.recovered_at
    ]
    succeeded = sum(d.succeeded for d in deploys)
    return {
        Metric.LEAD_TIME: (median(lead) if lead else None, len(lead)),
        Metric.FREQUENCY: (succeeded / days if days else None, succeeded),
        Metric.RECOVERY_TIME: (median(recovery) if recovery else None, len(recovery)),
        Metric.FAIL_RATE: (_share(reached, lambda d: bool(d.failed)), len(reached)),
        Metric.REWORK_RATE: (_share(reached, lambda d: bool(d.fixes)), len(reached)),
    }


def _share(deploys: Sequence[Deploy], counts: Callable[[Deploy], bool]) -> float | None:
    return sum(counts(d) for d in deploys) / len(deploys) if deploys else None


def _measure(metric: Metric, value: float | None, samples: int, before: float | None) -> Measure:
    scale = SCALES[metric]
    return Measure(
        metric=metric,
        unit=scale.unit,
        value=value,
        samples=samples,
        target=scale.target,
        standing=scale.standing(value),
        band=None if value is None else scale.band(value),
        before=before,
        trend=_trend(scale, value, before),
    )


def _trend(scale: _Scale, value: float | None, before: float | None) -> Trend:
    if value is None or before is None:
        return Trend.NO_DATA
    if value == before:
        return Trend.SAME
    return Trend.BETTER if (value > before) is scale.more_is_better else Trend.WORSE
