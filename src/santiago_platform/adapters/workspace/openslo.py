"""OpenSLO v1: what an author writes of objectives. Source: https://github.com/OpenSLO/OpenSLO, README."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

API_VERSION = "openslo/v1"

ObjectName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,251}[A-Za-z0-9])?$")]
LabelKey = Annotated[
    str, StringConstraints(pattern=r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")
]
Shorthand = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,5}[mhdwMQY]$")]
ConditionShorthand = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,6}[mhdw]$")]
Description = Annotated[str, StringConstraints(max_length=1050)]
Operator = Literal["lte", "gte", "lt", "gt"]


class _Part(BaseModel):
    """camelCase in the file; unknown keys are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=False, validate_by_alias=True
    )


class Metadata(_Part):
    name: ObjectName
    display_name: str = ""
    labels: dict[LabelKey, str | list[str]] = {}
    annotations: dict[LabelKey, str] = {}


class MetricSource(_Part):
    """spec: of the type; whatever there is."""

    metric_source_ref: str = ""
    type: str = ""
    spec: dict[str, Any] = {}

    @model_validator(mode="after")
    def _known(self) -> Self:
        if not (self.metric_source_ref or self.type):
            raise ValueError("type is needed where metricSourceRef is not given")
        return self


class Metric(_Part):
    metric_source: MetricSource


class RatioMetric(_Part):
    counter: bool = False
    good: Metric | None = None
    bad: Metric | None = None
    total: Metric | None = None
    raw_type: Literal["success", "failure"] | None = None
    raw: Metric | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        parts = (self.good, self.bad, self.total)
        if self.raw is not None:
            if any(part is not None for part in parts):
                raise ValueError("raw is used without good, bad and total")
            if self.raw_type is None:
                raise ValueError("rawType (success or failure) is needed with raw")
            return self
        if self.raw_type is not None:
            raise ValueError("rawType is used with raw alone")
        if self.total is None:
            raise ValueError("either total, with good or bad, or raw is needed")
        if (self.good is None) == (self.bad is None):
            raise ValueError("exactly one of good and bad is needed")
        return self


class SliSpec(_Part):
    description: Description = ""
    threshold_metric: Metric | None = None
    ratio_metric: RatioMetric | None = None

    @model_validator(mode="after")
    def _one_metric(self) -> Self:
        if (self.threshold_metric is None) == (self.ratio_metric is None):
            raise ValueError("exactly one of thresholdMetric and ratioMetric is needed")
        return self


class Indicator(_Part):
    """An SLI inside an SLO."""

    metadata: Metadata | None = None
    spec: SliSpec


class CalendarStart(_Part):
    start_time: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?$")]
    time_zone: str


class TimeWindow(_Part):
    duration: Shorthand
    is_rolling: bool | None = None
    calendar: CalendarStart | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.calendar is not None and self.is_rolling:
            raise ValueError("a rolling window has no calendar")
        if self.calendar is None and not self.is_rolling:
            raise ValueError("a window is rolling (isRolling: true) or has a calendar")
        return self


class Objective(_Part):
    display_name: str = ""
    op: Operator | None = None
    value: float | None = None
    target: Annotated[float, Field(ge=0, lt=1)] | None = None
    target_percent: Annotated[float, Field(ge=0, lt=100)] | None = None
    time_slice_target: Annotated[float, Field(ge=0, le=1)] | None = None
    time_slice_window: Annotated[int, Field(gt=0)] | Shorthand | None = None

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.target is None) == (self.target_percent is None):
            raise ValueError("exactly one of target and targetPercent is needed")
        return self

    @property
    def ratio(self) -> float:
        """The target, in [0, 1)."""
        return self.target if self.target is not None else round((self.target_percent or 0) / 100, 12)


class Condition(_Part):
    kind: Literal["burnrate"] = "burnrate"
    op: Operator = "gte"
    threshold: Annotated[float, Field(ge=0)]
    lookback_window: Shorthand
    alert_after: ConditionShorthand = "0m"


class AlertConditionSpec(_Part):
    description: Description = ""
    severity: str
    condition: Condition


class ConditionRef(_Part):
    condition_ref: str


class InlineCondition(_Part):
    api_version: Literal["openslo/v1"] = "openslo/v1"
    kind: Literal["AlertCondition"]
    metadata: Metadata
    spec: AlertConditionSpec


class NotificationTargetSpec(_Part):
    description: Description = ""
    target: str


class TargetRef(_Part):
    target_ref: str


class InlineTarget(_Part):
    api_version: Literal["openslo/v1"] = "openslo/v1"
    kind: Literal["AlertNotificationTarget"]
    metadata: Metadata
    spec: NotificationTargetSpec


class AlertPolicySpec(_Part):
    description: Description = ""
    alert_when_no_data: bool = False
    alert_when_resolved: bool = False
    alert_when_breaching: bool = False
    conditions: Annotated[list[ConditionRef | InlineCondition], Field(min_length=1, max_length=1)]
    notification_targets: list[TargetRef | InlineTarget] = []


class PolicyRef(_Part):
    alert_policy_ref: str


class InlinePolicy(_Part):
    api_version: Literal["openslo/v1"] = "openslo/v1"
    kind: Literal["AlertPolicy"]
    metadata: Metadata
    spec: AlertPolicySpec


class SloSpec(_Part):
    description: Description = ""
    service: str
    indicator: Indicator | None = None
    indicator_ref: str | None = None
    time_window: Annotated[list[TimeWindow], Field(min_length=1, max_length=1)]
    budgeting_method: Literal["Occurrences", "Timeslices", "RatioTimeslices"]
    objectives: Annotated[list[Objective], Field(min_length=1)]
    alert_policies: list[str | PolicyRef | InlinePolicy] = []

    @model_validator(mode="after")
    def _one_indicator(self) -> Self:
        if (self.indicator is None) == (self.indicator_ref is None):
            raise ValueError("exactly one of indicator and indicatorRef is needed")
        return self


class ServiceSpec(_Part):
    description: Description = ""


class DataSourceSpec(_Part):
    description: Description = ""
    type: str
    connection_details: Any = None


class _Object(_Part):
    api_version: Literal["openslo/v1"]
    metadata: Metadata


class Service(_Object):
    kind: Literal["Service"]
    spec: ServiceSpec = ServiceSpec()


class Sli(_Object):
    kind: Literal["SLI"]
    spec: SliSpec


class Slo(_Object):
    kind: Literal["SLO"]
    spec: SloSpec


class DataSource(_Object):
    kind: Literal["DataSource"]
    spec: DataSourceSpec


class AlertPolicy(_Object):
    kind: Literal["AlertPolicy"]
    spec: AlertPolicySpec


class AlertCondition(_Object):
    kind: Literal["AlertCondition"]
    spec: AlertConditionSpec


class AlertNotificationTarget(_Object):
    kind: Literal["AlertNotificationTarget"]
    spec: NotificationTargetSpec


KINDS: dict[str, type[_Object]] = {
    "Service": Service,
    "SLI": Sli,
    "SLO": Slo,
    "DataSource": DataSource,
    "AlertPolicy": AlertPolicy,
    "AlertCondition": AlertCondition,
    "AlertNotificationTarget": AlertNotificationTarget,
}
