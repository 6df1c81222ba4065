"""An alert: the condition of a service that is worth a person's attention, and what would have come of it. Pure."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from .errors import ErrorCode, PlatformError
from .expression import ExpressionError, check_condition, confined, same
from .identity import Name
from .rules import Rule, RuleGroup, Severity, literal
from .signal import Point, Signal
from .value import Value

ALERTS = "_alerts"  # the owner of their rules: no service can be named so
INTERVAL_SECONDS = 5.0  # between two evaluations
AlertName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{2,63}$")]
_TEMPLATE = re.compile(r"\{\{\s*\$(value|labels\.[a-zA-Z_]+)\s*\}\}")
# What each signal can be, both ends included.
_RANGES: Mapping[Signal, tuple[float, float]] = {
    Signal.LATENCY: (0, math.inf),
    Signal.ERRORS: (0, 1),
    Signal.TRAFFIC: (0, math.inf),
    Signal.SATURATION: (0, math.inf),
}
_SAID = {
    Signal.LATENCY: "p95 in seconds",
    Signal.ERRORS: "a ratio: 0.05 is 5%",
    Signal.TRAFFIC: "requests a second",
    Signal.SATURATION: "requests in flight",
}


class Comparison(StrEnum):
    ABOVE = ">"
    AT_LEAST = ">="
    BELOW = "<"
    AT_MOST = "<="


class AlertSpec(Value):
    """Either expression, a condition in PromQL, or signal, comparison and threshold (latency: p95 in seconds, errors: a
    ratio, traffic: requests a second, saturation: requests in flight). The expression reads the series of its service
    in its environment alone.

    for_seconds: how long it must hold. summary: may have {{ $value }} and {{ $labels.NAME }}. owner: who looks after
    it. route: a role, or a receiver of `notify`.
    """

    expression: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    signal: Signal | None = None
    comparison: Comparison = Comparison.ABOVE
    threshold: Annotated[float, Field(allow_inf_nan=False)] | None = None
    for_seconds: Annotated[float, Field(ge=0, le=86400)] = 60
    severity: Severity = Severity.TICKET
    summary: Annotated[str, Field(max_length=300)] = ""
    runbook_url: Annotated[str, Field(pattern=r"^(https?://\S+)?$", max_length=500)] = ""
    owner: Name | None = None
    route: Name | None = None


class Alert(Value):
    """expression: confined, in its one way of writing. by: who made it."""

    name: AlertName
    service: Name
    environment: Name
    expression: str
    spec: AlertSpec
    by: Name
    at: datetime

    @property
    def key(self) -> tuple[str, str, str]:
        return self.service, self.environment, self.name

    def rule(self) -> Rule:
        optional = {"owner": self.spec.owner, "route": self.spec.route}
        about = {"service": self.service, "environment": self.environment, "severity": str(self.spec.severity)}
        says = self.spec.summary or f"{self.name} of {self.service} in {self.environment}: {{{{ $value }}}}"
        more = {"runbook_url": literal(self.spec.runbook_url)} if self.spec.runbook_url else {}
        holds = literal(self.expression)
        return Rule(
            alert=self.name,
            expr=self.expression,
            for_seconds=self.spec.for_seconds,
            labels={**about, **{name: value for name, value in optional.items() if value}},
            annotations={"summary": says, "description": f"{holds} for {self.spec.for_seconds:g} s", **more},
        )

    def said(self) -> str:
        """In one line, for a person."""
        spec = self.spec
        what = f"{spec.signal} {spec.comparison} {spec.threshold:g}" if spec.signal else self.expression
        held = f" for {spec.for_seconds:g} s" if spec.for_seconds else ""
        to = f", to {spec.route}" if spec.route else ""
        return f"{self.name} of {self.service}/{self.environment}: {spec.severity} when {what}{held}{to}"


def groups_of(alerts: Iterable[Alert]) -> tuple[RuleGroup, ...]:
    """One for each service and environment, in a fixed order."""
    by_place: dict[tuple[str, str], list[Alert]] = {}
    for alert in sorted(alerts, key=lambda a: a.key):
        by_place.setdefault((alert.service, alert.environment), []).append(alert)
    return tuple(
        RuleGroup(
            name=f"alerts/{service}/{environment}",
            interval_seconds=INTERVAL_SECONDS,
            rules=tuple(alert.rule() for alert in found),
        )
        for (service, environment), found in by_place.items()
    )


def condition(spec: AlertSpec, of_signal: str, service: str, environment: str) -> str:
    """The PromQL of an alert. of_signal: of its signal, where it is of one.

    Raises PlatformError(INVALID_ARGUMENT) for what is no condition, can never hold or always does, or reads series that
    are not the service's.
    """
    if (spec.expression is None) == (spec.signal is None):
        raise _refused("an alert has either expression or signal", f"signals: {', '.join(Signal)}")
    check_template(spec.summary)
    if spec.signal is not None:
        if spec.threshold is None:
            raise _refused(f"signal {spec.signal} needs a threshold", f"{spec.signal} is {_SAID[spec.signal]}")
        _check_threshold(spec.signal, spec.comparison, spec.threshold)
        expression = f"({of_signal}) {spec.comparison} {spec.threshold!r}"
    else:
        if spec.threshold is not None:
            raise _refused("an expression has its threshold in itself", "leave threshold out")
        expression = spec.expression or ""
    try:
        check_condition(expression)
        return confined(expression, {"service": service, "environment": environment})
    except ExpressionError as exc:
        raise _refused(f"expression: {exc}", "an alert fires while its expression gives series of its service") from exc


def check_template(text: str) -> None:
    """Raises INVALID_ARGUMENT for a template that does more than to name the value and labels: those of Prometheus can
    ask for any series."""
    if "{{" in _TEMPLATE.sub("", text):
        raise _refused("summary has a template that may not be used", "{{ $value }} and {{ $labels.NAME }} may be")


def check_duplicate(alert: Alert, others: Iterable[Alert]) -> None:
    """Raises CONFLICT where another alert of the service has its name, or fires under the same condition."""
    for other in others:
        if (other.service, other.environment) != (alert.service, alert.environment):
            continue
        if other.name == alert.name:
            raise PlatformError(
                ErrorCode.CONFLICT,
                f"{alert.service}/{alert.environment} has an alert {other.name}: {other.said()}",
                "take another name, or remove that one first",
            )
        if same(other.expression, alert.expression):
            raise PlatformError(
                ErrorCode.CONFLICT,
                f"alert {other.name} of {alert.service}/{alert.environment} has the same condition: {other.said()}",
                "one of them is enough; another threshold makes another condition",
            )


def _check_threshold(signal: Signal, comparison: Comparison, threshold: float) -> None:
    low, high = _RANGES[signal]
    holds = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}[comparison]
    at_ends = {bool(holds(low, threshold)), bool(holds(high, threshold))}
    if len(at_ends) == 1:
        word = "always holds" if at_ends == {True} else "can never hold"
        raise _refused(
            f"{signal} {comparison} {threshold:g} {word}: {signal} is {_SAID[signal]}, from {low:g} to {high:g}",
            "give a threshold in between",
        )


def _refused(message: str, hint: str) -> PlatformError:
    return PlatformError(ErrorCode.INVALID_ARGUMENT, message, hint)


class Firing(Value):
    """A time for which an alert would have fired, Unix seconds."""

    since: float
    until: float


def firings(points: Sequence[Point], *, step_seconds: float, for_seconds: float) -> tuple[Firing, ...]:
    """When an alert would have fired whose expression gave `points`, looked at each `step_seconds` until the last one.

    A point that is missing resets it, as Prometheus does without keep_firing_for.
    """
    runs: list[list[float]] = []
    for point in points:
        if runs and point.at - runs[-1][-1] <= step_seconds * 1.5:
            runs[-1].append(point.at)
        else:
            runs.append([point.at])
    found = []
    for run in runs:
        since, last = run[0] + for_seconds, run[-1]
        if last >= since:
            found.append(Firing(since=since, until=last + step_seconds))
    return tuple(found)
