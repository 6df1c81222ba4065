"""Service level objectives as they are compiled, measured and reported: one service, environment and target each."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .rules import Severity
from .value import Value

MINUTE, HOUR, DAY = 60, 3600, 86400
PLATFORM = "santiago"  # as service and environment: the platform itself


class Method(StrEnum):
    """What the budget is of: requests; slices of time that are good or bad as a whole; or each slice's own ratio."""

    OCCURRENCES = "Occurrences"
    TIMESLICES = "Timeslices"
    RATIO_TIMESLICES = "RatioTimeslices"


class Events(Value):
    """total, and exactly one of good and bad: PromQL. counter: they are counters that only rise, selectors or sums of
    one; else each is what happened in the minute up to now, or in proportion to it (a rate)."""

    kind: Literal["events"] = "events"
    good: str = ""
    bad: str = ""
    total: str
    counter: bool = True

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.good) == bool(self.bad):
            raise ValueError("exactly one of good and bad is needed")
        return self


class Ratio(Value):
    """A ratio that somebody else made, in [0, 1]. Each minute weighs the same: its traffic is not known."""

    kind: Literal["ratio"] = "ratio"
    expression: str
    of_failures: bool


class Threshold(Value):
    """A minute is good for each series whose value keeps to the threshold."""

    kind: Literal["threshold"] = "threshold"
    expression: str
    operator: Literal["<=", ">=", "<", ">"]
    value: float


Indicator = Annotated[Events | Ratio | Threshold, Field(discriminator="kind")]


class Calendar(Value):
    """Periods that begin at moments of the calendar. unit: a fixed length in seconds, or months.

    start: of some period, local wall-clock time in seconds since 1970 as if it were UTC. offsets: (from when in Unix
    seconds, offset of the time zone from UTC in seconds), oldest first.
    """

    months: Annotated[int, Field(ge=0)] = 0
    start: int = 0
    offsets: tuple[tuple[int, int], ...] = ((0, 0),)


class BurnAlert(Value):
    """Fires when the budget burned at the rate in all windows, for `for_seconds`. burn: 1 spends exactly the budget.

    targets: names of who is told, as the file has them. no_data: fires where there is no burn rate, instead.
    """

    name: str
    severity: Severity
    conditions: Annotated[tuple[tuple[float, tuple[int, ...]], ...], Field(min_length=1)]
    operator: Literal["<=", ">=", "<", ">"] = ">"
    for_seconds: float = 0
    description: str = ""
    targets: tuple[str, ...] = ()
    no_data: bool = False


class Slo(Value):
    """target: in [0, 1). period_seconds: of the window; the longest one of a calendar. slice_seconds, slice_target: of
    both methods of slices, slice_target of Timeslices alone. alerts: None: the usual ones. sla: it is promised to
    customers; nothing is gated by it.
    """

    service: str
    environment: str
    name: str
    title: str = ""
    description: str = ""
    indicator: Indicator
    target: Annotated[float, Field(ge=0, lt=1)]
    period_seconds: Annotated[int, Field(ge=MINUTE)] = 28 * DAY
    calendar: Calendar | None = None
    method: Method = Method.OCCURRENCES
    slice_seconds: Annotated[int, Field(ge=MINUTE, multiple_of=MINUTE)] = MINUTE
    slice_target: Annotated[float, Field(ge=0, le=1)] = 0
    alerts: tuple[BurnAlert, ...] | None = None
    owner: str = ""
    runbook_url: str = ""
    sla: bool = False

    @property
    def budget_ratio(self) -> float:
        """The share that may be bad. Rounded, so that 99.9% leaves 0.001."""
        return round(1 - self.target, 12)

    @property
    def kept_seconds(self) -> int:
        """How long its samples must be kept: two windows, so that a window can be compared with the one before."""
        return 2 * self.period_seconds

    @property
    def labels(self) -> dict[str, str]:
        """Of all its series."""
        return {"service": self.service, "environment": self.environment, "slo": self.name}

    @property
    def step_seconds(self) -> int:
        """Between two samples of what its windows sum."""
        return MINUTE if self.method is Method.OCCURRENCES else self.slice_seconds
