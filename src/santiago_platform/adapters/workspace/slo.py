"""Resolves a file of OpenSLO: references, windows and queries, to the objectives that hold in each environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NoReturn
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ...domain import promql
from ...domain.errors import PlatformError
from ...domain.expression import ExpressionError, confined
from ...domain.rules import Severity
from ...domain.slo import DAY, HOUR, MINUTE, BurnAlert, Calendar, Events, Indicator, Method, Ratio, Slo, Threshold
from . import openslo
from .slo_signal import EDGES_MS, SIGNAL_TYPE, signal_events, signal_of
from .yaml_document import Document, Path, nearest, parse_all, validate

SLA, RUNBOOK = "santiago/sla", "santiago/runbook"  # annotations of an SLO
ENVIRONMENT, OWNER = "environment", "owner"  # labels of an SLO

_UNITS = {"m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY, "M": 30 * DAY, "Q": 91 * DAY, "Y": 365 * DAY}
_MONTHS = {"M": (1, 31 * DAY), "Q": (3, 92 * DAY), "Y": (12, 366 * DAY)}
_OPERATORS: Mapping[str, Any] = {"lte": "<=", "gte": ">=", "lt": "<", "gt": ">"}
_SEVERITIES = {
    **dict.fromkeys(("page", "critical", "sev0", "sev1", "p0", "p1"), Severity.PAGE),
    **dict.fromkeys(("ticket", "warning", "sev2", "sev3", "p2", "p3"), Severity.TICKET),
    **dict.fromkeys(("info", "sev4", "sev5", "p4", "p5"), Severity.INFO),
}
_ZONES_FROM, _ZONES_TO = 2020, 2045


def read_slos(
    text: str, where: str, *, service: str, environments: Sequence[str], confine: bool = False
) -> tuple[Slo, ...]:
    """In the order of the file, each in the environments that its label names, else in all. confine: its queries read
    the service's own series alone.

    Raises PlatformError(INVALID_ARGUMENT), beginning `WHERE:LINE: `, for what is not OpenSLO v1 or refers to nothing.
    """
    return _read(text, where, service, tuple(environments), confine)


@lru_cache(maxsize=256)
def _read(text: str, where: str, service: str, environments: tuple[str, ...], confine: bool) -> tuple[Slo, ...]:
    objects = _Objects(where)
    for document in parse_all(text, where):
        objects.add(document)
    found: list[Slo] = []
    for document, written in objects.slos:
        found.extend(_Resolver(objects, document, written, service, environments, confine).slos())
    seen: set[tuple[str, str]] = set()
    for slo in found:
        if (slo.environment, slo.name) in seen:
            raise objects.slos[0][0].error((), f"two objectives are named {slo.name}", "give each its displayName")
        seen.add((slo.environment, slo.name))
    return tuple(found)


class _Objects:
    """What the file defines, by kind and name."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._by_name: dict[tuple[str, str], tuple[Document, Any]] = {}

    def add(self, document: Document) -> None:
        value = document.value
        if not isinstance(value, dict):
            raise document.error((), "it is no object of OpenSLO", "it has apiVersion, kind, metadata and spec")
        version = value.get("apiVersion")
        if version != openslo.API_VERSION:
            raise document.error(
                ("apiVersion",), f"apiVersion is {version!s:.40}, not {openslo.API_VERSION}", "it is read in that form"
            )
        kind = value.get("kind")
        if not isinstance(kind, str) or kind not in openslo.KINDS:
            raise document.error(("kind",), f"there is no kind {kind!s:.40}", nearest(str(kind), list(openslo.KINDS)))
        found = validate(document, openslo.KINDS[kind])
        key = kind, found.metadata.name
        if key in self._by_name:
            raise document.error(("metadata", "name"), f"there are two of kind {kind} with the name {key[1]}")
        self._by_name[key] = document, found

    @property
    def slos(self) -> list[tuple[Document, openslo.Slo]]:
        return [(document, found) for document, found in self._by_name.values() if isinstance(found, openslo.Slo)]

    def find(self, kind: str, name: str, document: Document, path: Path) -> tuple[Document, Any]:
        """Raises PlatformError(INVALID_ARGUMENT) at `path` for what there is not."""
        if (kind, name) not in self._by_name:
            names = [known for of, known in self._by_name if of == kind]
            hint = nearest(name, names) or f"write a document of kind {kind} into this file"
            raise document.error(path, f"there is no {kind} {name}", hint)
        return self._by_name[kind, name]


@dataclass(frozen=True)
class _Resolver:
    objects: _Objects
    document: Document
    slo: openslo.Slo
    service: str
    environments: tuple[str, ...]
    confine: bool

    def slos(self) -> Iterator[Slo]:
        spec = self.slo.spec
        if spec.service != self.service:
            self._refuse(
                ("spec", "service"), f"this is the file of {self.service}, not of {spec.service}", "each has its own"
            )
        period_seconds, calendar = self._window()
        for index, objective in enumerate(spec.objectives):
            where: Path = ("spec", "objectives", index)
            name = self.slo.metadata.name
            if len(spec.objectives) > 1:
                name += "-" + (objective.display_name.lower().replace(" ", "-") or str(index + 1))
            for environment in self._environments():
                slo = Slo(
                    service=self.service,
                    environment=environment,
                    name=name,
                    title=objective.display_name or self.slo.metadata.display_name,
                    description=spec.description,
                    indicator=self._indicator(objective, where, environment),
                    target=objective.ratio,
                    period_seconds=period_seconds,
                    calendar=calendar,
                    alerts=self._alerts() if spec.alert_policies else None,
                    owner=self._label(OWNER),
                    runbook_url=self.slo.metadata.annotations.get(RUNBOOK, ""),
                    **self._slices(objective, where),
                )
                self._check_windows(slo)
                yield slo
                yield from self._sla(slo)

    def _refuse(self, path: Path, problem: str, hint: str = "", document: Document | None = None) -> NoReturn:
        raise (document or self.document).error(path, problem, hint)

    def _label(self, key: str) -> str:
        value = self.slo.metadata.labels.get(key, "")
        return value if isinstance(value, str) else ", ".join(value)

    def _environments(self) -> tuple[str, ...]:
        said = self.slo.metadata.labels.get(ENVIRONMENT)
        names = [said] if isinstance(said, str) else list(said or self.environments)
        for name in names:
            if name not in self.environments:
                path = ("metadata", "labels", ENVIRONMENT)
                self._refuse(path, f"there is no environment {name}", nearest(name, list(self.environments)))
        return tuple(names)

    def _window(self) -> tuple[int, Calendar | None]:
        window = self.slo.spec.time_window[0]
        number, unit = int(window.duration[:-1]), window.duration[-1]
        where: Path = ("spec", "timeWindow", 0)
        if window.calendar is None:
            return _within_bounds(self, number * _UNITS[unit]), None
        try:
            zone = ZoneInfo(window.calendar.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            path = (*where, "calendar", "timeZone")
            self._refuse(
                path, f"there is no time zone {window.calendar.time_zone}", "name it as IANA does: Europe/Paris"
            )
        try:
            local = datetime.fromisoformat(window.calendar.start_time).replace(tzinfo=UTC)
        except ValueError:
            self._refuse((*where, "calendar", "startTime"), f"there is no time {window.calendar.start_time}")
        months, length = _MONTHS.get(unit, (0, _UNITS[unit]))
        if months and local.day > 28:
            self._refuse(
                (*where, "calendar", "startTime"), "not every month has this day", "begin at the 28th or before"
            )
        calendar = Calendar(months=months * number, start=int(local.timestamp()), offsets=_offsets(zone))
        return _within_bounds(self, number * length), calendar

    def _slices(self, objective: openslo.Objective, where: Path) -> dict[str, Any]:
        method = Method(self.slo.spec.budgeting_method)
        if method is Method.OCCURRENCES:
            return {"method": method}
        if objective.time_slice_window is None:
            self._refuse(where, f"timeSliceWindow is needed with {method}", "timeSliceWindow: 1m")
        if method is Method.TIMESLICES and objective.time_slice_target is None:
            self._refuse(where, f"timeSliceTarget is needed with {method}", "timeSliceTarget: 0.99")
        said = objective.time_slice_window
        seconds = said * MINUTE if isinstance(said, int) else int(said[:-1]) * _UNITS[said[-1]]
        return {"method": method, "slice_seconds": seconds, "slice_target": objective.time_slice_target or 0}

    def _check_windows(self, slo: Slo) -> None:
        if slo.slice_seconds > slo.period_seconds:
            self._refuse(("spec", "objectives"), "a time slice is longer than the window")
        for alert in slo.alerts or ():
            for _, windows in alert.conditions:
                if max(windows) > slo.period_seconds or min(windows) < slo.step_seconds:
                    self._refuse(
                        ("spec", "alertPolicies"),
                        f"{alert.name} looks back over {promql.duration(max(windows))}: "
                        "that is longer than the SLO's window or shorter than one of its slices",
                    )

    def _sla(self, slo: Slo) -> Iterator[Slo]:
        """What is promised to customers: the same, measured against a looser target."""
        said = self.slo.metadata.annotations.get(SLA)
        if said is None:
            return
        path = ("metadata", "annotations", SLA)
        try:
            target = round(float(said.removesuffix("%")) / 100, 12) if said.endswith("%") else float(said)
        except ValueError:
            target = -1.0
        if not 0 <= target < 1:
            self._refuse(path, f"{said!r:.40} is no target", "write 0.99 or 99%")
        if target >= slo.target:
            self._refuse(
                path,
                f"the SLA promises {target:.5g}, and the SLO is {slo.target:.5g}",
                "promise less than you aim for: the budget between them is the time to act",
            )
        yield slo.model_copy(update={"name": f"{slo.name}-sla", "target": target, "alerts": (), "sla": True})

    def _indicator(self, objective: openslo.Objective, where: Path, environment: str) -> Indicator:
        spec, document, path = self._sli()
        if spec is None:
            return signal_events(signal_of(self.slo.spec.indicator_ref or ""), self.service, environment)
        if spec.threshold_metric is not None:
            if len(self.slo.spec.objectives) > 1:
                self._refuse(("spec", "objectives"), "a thresholdMetric has exactly one objective")
            if objective.op is None or objective.value is None:
                self._refuse(where, "op and value are needed with a thresholdMetric", "op: lte, value: 0.3")
            expression = self._query(document, (*path, "thresholdMetric"), spec.threshold_metric, environment)
            return Threshold(expression=expression, operator=_OPERATORS[objective.op], value=objective.value)
        ratio = spec.ratio_metric
        assert ratio is not None  # noqa: S101 - the model has one of both
        inside = (*path, "ratioMetric")
        if ratio.raw is not None:
            expression = self._query(document, (*inside, "raw"), ratio.raw, environment)
            return Ratio(expression=expression, of_failures=ratio.raw_type == "failure")
        if ratio.good is not None and ratio.good.metric_source.type == SIGNAL_TYPE:
            return self._signal(document, inside, ratio, environment)
        queries = {
            key: self._query(document, (*inside, key), metric, environment, counter=ratio.counter)
            for key in ("good", "bad", "total")
            if (metric := getattr(ratio, key)) is not None
        }
        return Events(counter=ratio.counter, **queries)

    def _sli(self) -> tuple[openslo.SliSpec | None, Document, Path]:
        """With the document that has it, and where; None for one that the platform brings."""
        if self.slo.spec.indicator is not None:
            return self.slo.spec.indicator.spec, self.document, ("spec", "indicator", "spec")
        name, path = self.slo.spec.indicator_ref or "", ("spec", "indicatorRef")
        try:
            document, sli = self.objects.find("SLI", name, self.document, path)
        except PlatformError:
            if signal_of(name):
                return None, self.document, path
            raise
        return sli.spec, document, ("spec",)

    def _signal(self, document: Document, path: Path, ratio: openslo.RatioMetric, environment: str) -> Events:
        good, total = ratio.good, ratio.total
        assert good is not None  # noqa: S101 - see the model
        assert total is not None  # noqa: S101
        said = good.metric_source.spec
        name = str(said.get("signal", ""))
        if threshold := said.get("threshold"):
            name += f"-{threshold}"
        found = signal_of(name)
        if not found or set(said) - {"signal", "threshold"}:
            self._refuse(
                (*path, "good", "metricSource", "spec"),
                f"the platform measures no {name!r:.40}",
                "{signal: availability}, or {signal: latency, threshold: 250ms} with one of "
                + ", ".join(f"{edge}ms" for edge in EDGES_MS),
                document,
            )
        if total.metric_source.type != SIGNAL_TYPE or total.metric_source.spec.get("signal") != said["signal"]:
            self._refuse(
                (*path, "total"), "total is not of the same signal as good", "type: santiago, with it", document
            )
        return signal_events(found, self.service, environment)

    def _query(
        self, document: Document, path: Path, metric: openslo.Metric, environment: str, *, counter: bool = False
    ) -> str:
        source = metric.metric_source
        where = (*path, "metricSource")
        kind = source.type
        if source.metric_source_ref:
            _, found = self.objects.find("DataSource", source.metric_source_ref, document, (*where, "metricSourceRef"))
            kind = kind or found.spec.type
            if kind.lower() != found.spec.type.lower():
                self._refuse((*where, "type"), f"the DataSource is of type {found.spec.type}, not {kind}", "", document)
        if kind.lower() != "prometheus":
            self._refuse((*where, "type"), f"no metrics are read from {kind!s:.40}", "prometheus or santiago", document)
        query = source.spec.get("query")
        if not isinstance(query, str) or not query.strip():
            self._refuse((*where, "spec"), "query is missing", "spec: {query: 'PromQL'}", document)
        if "$environment" not in query and len(self._environments()) > 1:
            self._refuse(
                (*where, "spec", "query"),
                "it reads the same series for every environment",
                'use $environment in it, or say in metadata.labels which it is: {environment: "production"}',
                document,
            )
        if counter and promql.selector(promql.summed(query)) is None:
            self._refuse(
                (*where, "spec", "query"),
                "a counter is a selector or sum(selector): its increments are taken by themselves",
                "leave rate() out; or counter: false for what is a count of each minute or a rate",
                document,
            )
        asked = query.replace("$environment", environment).replace("$service", self.service).strip()
        if not self.confine:
            return asked
        try:
            return confined(asked, {"service": self.service})
        except ExpressionError as exc:
            self._refuse((*where, "spec", "query"), str(exc), "it reads the series of its own service alone", document)

    def _alerts(self) -> tuple[BurnAlert, ...]:
        found: list[BurnAlert] = []
        for index, said in enumerate(self.slo.spec.alert_policies):
            path: Path = ("spec", "alertPolicies", index)
            if isinstance(said, openslo.InlinePolicy):
                found.extend(self._policy(self.document, (*path, "spec"), said.metadata, said.spec))
                continue
            name = said if isinstance(said, str) else said.alert_policy_ref
            document, policy = self.objects.find("AlertPolicy", name, self.document, path)
            found.extend(self._policy(document, ("spec",), policy.metadata, policy.spec))
        return tuple(found)

    def _policy(
        self, document: Document, path: Path, metadata: openslo.Metadata, policy: openslo.AlertPolicySpec
    ) -> Iterator[BurnAlert]:
        said, where = policy.conditions[0], (*path, "conditions", 0)
        if isinstance(said, openslo.InlineCondition):
            spec, where = said.spec, (*where, "spec")
        else:
            document_of, found = self.objects.find(
                "AlertCondition", said.condition_ref, document, (*where, "conditionRef")
            )
            document, spec, where = document_of, found.spec, ("spec",)
        severity = _SEVERITIES.get(spec.severity.lower())
        if severity is None:
            self._refuse(
                (*where, "severity"),
                f"the severity {spec.severity!r:.40} is none that is known here",
                f"one of {', '.join(_SEVERITIES)}",
                document,
            )
        condition = spec.condition
        window = int(condition.lookback_window[:-1]) * _UNITS[condition.lookback_window[-1]]
        alert = BurnAlert(
            name=metadata.name,
            severity=severity,
            conditions=((condition.threshold, (window,)),),
            operator=_OPERATORS[condition.op],
            for_seconds=int(condition.alert_after[:-1]) * _UNITS[condition.alert_after[-1]],
            description=policy.description or spec.description,
            targets=tuple(self._target(document, path, target) for target in policy.notification_targets),
        )
        quiet = not (policy.alert_when_breaching or policy.alert_when_no_data or policy.alert_when_resolved)
        if policy.alert_when_breaching or policy.alert_when_resolved or quiet:
            yield alert
        if policy.alert_when_no_data:
            yield alert.model_copy(update={"name": f"{alert.name}-no-data", "no_data": True})

    def _target(self, document: Document, path: Path, said: openslo.TargetRef | openslo.InlineTarget) -> str:
        if isinstance(said, openslo.InlineTarget):
            return said.metadata.name
        self.objects.find("AlertNotificationTarget", said.target_ref, document, (*path, "notificationTargets"))
        return said.target_ref


def _within_bounds(resolver: _Resolver, seconds: int) -> int:
    if not HOUR <= seconds <= 366 * DAY:
        path = ("spec", "timeWindow", 0, "duration")
        raise resolver.document.error(path, "a window is from one hour to one year", "28d is the usual one")
    return seconds


@lru_cache(maxsize=64)
def _offsets(zone: ZoneInfo) -> tuple[tuple[int, int], ...]:
    """The changes of the zone's offset from 2020 to 2044, to the hour; one entry for a zone without any."""
    moment = datetime(_ZONES_FROM, 1, 1, tzinfo=UTC)
    found = [(0, _offset(zone, moment))]
    while moment.year < _ZONES_TO:
        following = moment + timedelta(days=1)
        if _offset(zone, following) != found[-1][1]:
            hour = next(n for n in range(1, 25) if _offset(zone, moment + timedelta(hours=n)) != found[-1][1])
            changed = moment + timedelta(hours=hour)
            found.append((int(changed.timestamp()), _offset(zone, changed)))
        moment = following
    return tuple(found)


def _offset(zone: ZoneInfo, moment: datetime) -> int:
    offset = moment.astimezone(zone).utcoffset()
    return int(offset.total_seconds()) if offset is not None else 0
