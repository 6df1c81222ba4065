"""A report: sections of words, tables and charts, however they are written in the end; and the weeks that it is of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from .errors import ErrorCode, PlatformError
from .value import Value

WeekName = Annotated[str, StringConstraints(pattern=r"^\d{4}-W\d{2}$")]


class Week(Value):
    """name: of ISO 8601. From Monday, inclusive, to the next Monday, in UTC."""

    name: WeekName
    since: datetime
    until: datetime

    @property
    def days(self) -> tuple[date, ...]:
        return tuple((self.since + timedelta(days=n)).date() for n in range(7))


def week(name: str) -> Week:
    """Raises PlatformError(INVALID_ARGUMENT) for a week that no calendar has."""
    try:
        monday = date.fromisocalendar(int(name[:4]), int(name[6:]), 1)
        since = datetime.combine(monday, time(), UTC)
        return Week(name=name, since=since, until=since + timedelta(days=7))
    except (ValueError, OverflowError) as exc:
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT, f"there is no week {name[:20]}", "for example 2026-W07"
        ) from exc


def last_ended_week(now: datetime) -> Week:
    year, number, _ = (now.astimezone(UTC) - timedelta(days=7)).isocalendar()
    return week(f"{year:04}-W{number:02}")


class Table(Value):
    """Cells are words for people; they may hold untrusted text."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class ChartKind(StrEnum):
    BARS = "bars"  # one on the other, by series
    SHARES = "shares"  # a bar for each x, from its value to nothing: ratios, which may be negative


class Point(Value):
    x: str
    y: float
    series: str = ""


class Chart(Value):
    """name: of its files. axes: what x and y are, with the unit. limit: a line at that value, and what it is."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_]{0,40}$")]
    title: str
    kind: ChartKind
    axes: tuple[str, str]
    points: Annotated[tuple[Point, ...], Field(min_length=1)]
    limit: tuple[float, str] | None = None

    @classmethod
    def of(cls, *, points: Sequence[Point], **fields: Any) -> tuple[Chart, ...]:
        """The chart of these points; none where there are none."""
        return (cls(points=tuple(points), **fields),) if points else ()


class Section(Value):
    """missing: why there is nothing to say, in words; empty where there is."""

    title: str
    missing: str = ""
    words: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()


class Report(Value):
    """name: of its folder."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,40}$")]
    title: str
    period: str
    made_at: datetime
    sections: tuple[Section, ...]

    @property
    def charts(self) -> tuple[Chart, ...]:
        return tuple(chart for section in self.sections for chart in section.charts)


def shown(value: float | None, unit: str) -> str:
    """A measure for people. unit: `seconds`, `ratio` or another one."""
    if value is None:
        return "no data"
    if unit == "ratio":
        return f"{value:.1%}"
    return duration(value) if unit == "seconds" else f"{value:.2f}"


def duration(seconds: float) -> str:
    """In the largest unit that gives at least one of it."""
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} s"
