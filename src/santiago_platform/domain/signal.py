"""Metrics as they are asked for and answered: bounded, summarised, never a dump."""

from __future__ import annotations

from enum import StrEnum

from .value import Value


class Signal(StrEnum):
    LATENCY = "latency"
    ERRORS = "errors"
    TRAFFIC = "traffic"
    SATURATION = "saturation"


class Point(Value):
    """at: Unix seconds."""

    at: float
    value: float


class Series(Value):
    """One labelled line of points, with its summary. All None where there are no points."""

    labels: dict[str, str]
    points: tuple[Point, ...]
    last: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None


class LogLine(Value):
    """A line that a service wrote: untrusted text. at: when the logger took it, Unix seconds. job: that wrote it."""

    at: float
    instance: str
    service: str
    environment: str
    version: str
    level: str
    text: str
    truncated: bool = False
    job: str = ""
