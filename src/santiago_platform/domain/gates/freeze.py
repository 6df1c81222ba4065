"""A gate that is closed in windows of time, by recurrence rules of RFC 5545 in a time zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, ClassVar, Literal
from zoneinfo import ZoneInfo

from dateutil.rrule import rrule, rrulestr
from pydantic import AfterValidator, Field, model_validator

from ..gate import Answer, Facts, Gate, Outcome

# One rule, without its name; finer ones than daily would recur millions of times.
RARE_RULE = r"^$|^FREQ=(DAILY|WEEKLY|MONTHLY|YEARLY)(;[A-Z]+=[A-Z0-9,+-]+)*$"
# Which parts of a rule each frequency takes: those of RFC 5545 that choose days, as long as there is no other way to
# say the same. The hour is that of `start`. A rule is walked day by day, so what could be written is bounded here.
_ANY = frozenset({"FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYMONTH", "BYDAY"})
_MONTHLY = _ANY | {"BYMONTHDAY", "BYSETPOS"}
_PARTS = {"DAILY": _ANY, "WEEKLY": _ANY, "MONTHLY": _MONTHLY, "YEARLY": _MONTHLY | {"BYYEARDAY", "BYWEEKNO"}}
_INTERVAL = re.compile(r"[1-9][0-9]{0,3}")  # the library never ends on one of 0


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as exc:
        raise ValueError(f"{name!r} is no time zone; one is named as in Europe/Berlin") from exc
    return name


def _local(start: datetime) -> datetime:
    if start.tzinfo is not None:
        raise ValueError("write it without an offset: it is a time on the clock of `timezone`")
    if not 2000 <= start.year < 2200:
        raise ValueError("the year is from 2000 to 2199")
    return start


def _check_parts(rule: str) -> None:
    parts = [part.split("=") for part in rule.split(";")]
    known = _PARTS[parts[0][1]]
    names = [name for name, _ in parts]
    for name, value in parts:
        if name not in known:
            frequency, takes = rule.partition(";")[0], ", ".join(sorted(known))
            raise ValueError(f"{name} is not taken with {frequency}, which takes {takes}")
        if names.count(name) > 1:
            raise ValueError(f"{name} is given twice")
        if name == "INTERVAL" and not _INTERVAL.fullmatch(value):
            raise ValueError("INTERVAL is from 1 to 9999")


class FreezeGate(Gate):
    """Closed from `start` for `duration`, and again at each recurrence of `rule`.

    start: a time on the clock of `timezone`, as DTSTART with TZID. rule: an RRULE, daily or rarer; none means once.
    duration: ISO 8601; its whole days are days on the clock, what is beyond them exact, so that a window of P1D ends
    at the hour at which it began, on the day after a change to summer time too. except_fixes: what is marked as the fix
    of an incident passes, loudly.
    Source: RFC 5545, 3.3.6, 3.3.10 and 3.8.5.3.
    """

    of_release: ClassVar[bool] = False

    type: Literal["freeze"]
    start: Annotated[datetime, AfterValidator(_local)]
    duration: Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(days=366))]
    timezone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    rule: Annotated[str, Field(max_length=500, pattern=RARE_RULE)] = ""
    reason: Annotated[str, Field(max_length=200)] = ""
    except_fixes: bool = False

    @model_validator(mode="after")
    def _rule_can_be_read(self) -> FreezeGate:
        if not self.rule:
            return self
        try:
            _check_parts(self.rule)
            first = next(iter(self._recurrence()), None)
        except (ValueError, TypeError, KeyError, IndexError) as exc:
            raise ValueError(f"the rule {self.rule!r} is no RRULE of RFC 5545: {exc}") from exc
        if first is None:
            raise ValueError(f"the rule {self.rule!r} never recurs")
        return self

    def answer(self, facts: Facts) -> Answer:
        window = self.window(facts.now)
        if window is None:
            return self.says(Outcome.PASS, "no freeze now")
        began, ends = (moment.astimezone(ZoneInfo(self.timezone)) for moment in window)
        why = f" ({self.reason})" if self.reason else ""
        said = f"frozen from {began:%Y-%m-%d %H:%M} to {ends:%Y-%m-%d %H:%M %Z}{why}"
        hint = f"wait until {ends.astimezone(UTC):%Y-%m-%d %H:%M}Z; a rollback does not wait"
        answer = self.says(Outcome.FAIL, said, hint)
        return self.excepted(answer, facts) if self.except_fixes else answer

    def window(self, now: datetime) -> tuple[datetime, datetime] | None:
        """(began, ends) of the window that `now`, with an offset, lies in; the end is not in it. None outside."""
        began = self._last_start(now)
        if began is None:
            return None
        days, rest = divmod(self.duration, timedelta(days=1))
        ends = (began + timedelta(days=days)).astimezone(UTC) + rest  # within one zone, adding days moves the clock
        return (began.astimezone(UTC), ends) if began <= now < ends else None

    def _last_start(self, now: datetime) -> datetime | None:
        zone = ZoneInfo(self.timezone)
        if not self.rule:
            return self.start.replace(tzinfo=zone)
        # In UTC: two times of one zone are compared by their clocks, of which one shows each time twice a year.
        return self._recurrence().before(now.astimezone(UTC), inc=True)

    def _recurrence(self) -> rrule:
        rule = rrulestr(self.rule, dtstart=self.start.replace(tzinfo=ZoneInfo(self.timezone)))
        assert isinstance(rule, rrule)  # noqa: S101 - it is one rule
        return rule
