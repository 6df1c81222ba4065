"""Recording and alert rules as Prometheus evaluates them, and the cases that show what they do."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from .value import Value


class Severity(StrEnum):
    """A page wakes somebody; a ticket waits for working hours; info is only told."""

    PAGE = "page"
    TICKET = "ticket"
    INFO = "info"


class RulesTarget(StrEnum):
    """What evaluates rules."""

    PROMETHEUS = "prometheus"  # that `santiago up` starts
    RULER = "ruler"  # Mimir, Cortex and what speaks like them
    EXPORT = "export"  # somebody else, who loads what is written


class RulesFormat(StrEnum):
    """What an export writes."""

    FILES = "files"
    OBJECTS = "objects"  # PrometheusRule, of the operator


class MonitoringSettings(Value):
    """`monitoring` in santiago.yaml. url: of the ruler, or of whoever loads an export. directory, format: of an export;
    within the workspace, or absolute. org_id: the ruler's tenant. token_file: what it is asked with."""

    rules: RulesTarget = RulesTarget.PROMETHEUS
    url: Annotated[str, Field(pattern=r"^https?://\S+$", max_length=1000)] | None = None
    directory: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    format: RulesFormat = RulesFormat.FILES
    org_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.|-]{1,150}$")] | None = None
    token_file: Annotated[str, Field(min_length=1, max_length=1000)] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.rules is RulesTarget.RULER and self.url is None:
            raise ValueError("rules: ruler needs url")
        if self.rules is RulesTarget.EXPORT and self.directory is None:
            raise ValueError("rules: export needs directory")
        return self


def literal(text: str) -> str:
    """As an alert's label or annotation that says just this: Prometheus takes those for templates, and a template can
    query the series of everybody."""
    return text.replace("{{", '{{ "{{" }}')


class Rule(Value):
    """Either records `record` or fires `alert`. expr: PromQL. for_seconds: how long it must hold before it fires.

    An alert carries the labels `service`, `environment` and `severity`, and `slo`, `version` or `owner` where it has
    one; its annotations are `summary`, `description` and `runbook_url`.
    """

    record: str = ""
    alert: str = ""
    expr: str
    for_seconds: Annotated[float, Field(ge=0)] = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.record) == bool(self.alert):
            raise ValueError("a rule has either record or alert")
        return self


class RuleGroup(Value):
    """Rules that are evaluated one after the other, so a later one may use what an earlier one recorded."""

    name: str
    interval_seconds: Annotated[float, Field(gt=0)] = 60
    rules: tuple[Rule, ...]


class RuleTest(Value):
    """A case: these series in, these alerts and values out.

    series: by selector, values in promtool's notation ("0+60x10"). alerts: name, moment in seconds, and the labels that
    are expected to fire then; none where nothing may. values: expression, moment, and what it must be by labels.
    """

    name: str
    interval_seconds: float = 60
    series: dict[str, str]
    alerts: tuple[tuple[str, float, tuple[dict[str, str], ...]], ...] = ()
    values: tuple[tuple[str, float, dict[str, float]], ...] = ()
