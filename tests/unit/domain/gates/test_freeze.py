"""Freeze windows: recurrence, time zones, and the two nights a year on which clocks are changed."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from santiago_platform.domain.gates.freeze import FreezeGate

BERLIN = "Europe/Berlin"


def gate(**fields: Any) -> FreezeGate:
    known = {"type": "freeze", "start": "2026-01-02T18:00:00", "duration": "PT63H", "timezone": BERLIN}
    return FreezeGate.model_validate({**known, **fields})


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def closed(gate: FreezeGate, text: str) -> bool:
    return gate.window(at(text)) is not None


def test_without_a_rule_it_is_closed_once() -> None:
    once = gate(duration="P1D")
    assert [closed(once, t) for t in ("2026-01-02T16:59:59", "2026-01-02T17:00:00", "2026-01-03T16:59:59")] == [
        False,
        True,
        True,
    ]
    assert not closed(once, "2026-01-03T17:00:00")
    assert not closed(once, "2027-01-02T18:00:00")


def test_every_weekend_is_closed_by_the_clock_of_its_zone() -> None:
    weekends = gate(rule="FREQ=WEEKLY;BYDAY=FR")  # Friday 18:00 to Monday 09:00
    assert closed(weekends, "2026-01-09T17:00:00")  # winter: UTC+1
    assert not closed(weekends, "2026-07-10T15:59:00")
    assert closed(weekends, "2026-07-10T16:00:00")  # summer: UTC+2
    assert not closed(weekends, "2026-07-08T12:00:00")


def test_a_day_is_a_day_on_the_clock_and_hours_are_hours_when_clocks_go_forward() -> None:
    # On 29 March 2026 at 02:00 the clocks in Berlin go to 03:00: that day has 23 hours.
    day = gate(start="2026-03-28T12:00:00", duration="P1D").window(at("2026-03-28T12:00:00"))
    assert day is not None
    assert (day[1].isoformat(), day[1] - day[0]) == ("2026-03-29T10:00:00+00:00", timedelta(hours=23))
    hours = gate(start="2026-03-29T00:00:00", duration="PT12H").window(at("2026-03-29T00:00:00"))
    assert hours is not None
    assert hours[1] - hours[0] == timedelta(hours=12)


def test_a_day_has_25_hours_when_clocks_go_back() -> None:
    day = gate(start="2026-10-24T12:00:00", duration="P1D").window(at("2026-10-24T12:00:00"))
    assert day is not None
    assert day[1] - day[0] == timedelta(hours=25)


def test_a_time_that_the_clock_leaves_out_counts_with_the_offset_before_it() -> None:
    nightly = gate(start="2026-03-01T02:30:00", duration="PT30M", rule="FREQ=DAILY")
    assert closed(nightly, "2026-03-29T01:30:00")  # RFC 5545: 02:30+01:00, which clocks show as 03:30
    assert not closed(nightly, "2026-03-29T01:29:59")


def test_a_time_that_the_clock_shows_twice_counts_the_first_time_alone() -> None:
    nightly = gate(start="2026-10-01T02:30:00", duration="PT90M", rule="FREQ=DAILY")
    assert closed(nightly, "2026-10-25T00:30:00")
    assert closed(nightly, "2026-10-25T01:15:00")  # 02:15 for the second time: within the 90 minutes
    assert not closed(nightly, "2026-10-25T02:00:00")


def test_a_rule_ends_by_until_or_by_count() -> None:
    until = gate(rule="FREQ=WEEKLY;BYDAY=FR;UNTIL=20260110T000000Z")
    count = gate(rule="FREQ=WEEKLY;BYDAY=FR;COUNT=2")
    for rule in (until, count):
        assert closed(rule, "2026-01-09T18:00:00")
        assert not closed(rule, "2026-01-16T18:00:00")


# The dearest that can be written: walked over all that the library knows of time, or over a day after the other.
DEAR = [
    "FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=DAILY;INTERVAL=7;BYDAY=TU",
    "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=31",
    "FREQ=YEARLY;BYDAY=MO;BYSETPOS=366",
    "FREQ=YEARLY;BYWEEKNO=53;BYMONTH=6",
    "FREQ=WEEKLY;INTERVAL=53;BYMONTH=2",
    "FREQ=DAILY",
    "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO",
]


@pytest.mark.parametrize("rule", DEAR)
def test_no_rule_costs_much_to_read_and_to_ask(rule: str) -> None:
    began = time.process_time()
    with suppress(ValidationError):
        gate(start="2000-01-07T18:00:00", rule=rule).window(at("2099-12-31T00:00:00"))
    assert time.process_time() - began < 2


@given(st.datetimes(datetime(2026, 1, 1), datetime(2029, 1, 1), timezones=st.just(UTC)))
def test_an_answer_holds_for_all_of_its_window(now: datetime) -> None:
    weekends = gate(rule="FREQ=WEEKLY;BYDAY=FR", duration="P2DT15H")
    window = weekends.window(now)
    if window is not None:
        began, ends = window
        assert began <= now < ends
        assert weekends.window(began) == window
        assert weekends.window(ends - timedelta(seconds=1)) == window
        assert weekends.window(ends) is None


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("rule", "FREQ=HOURLY", "pattern"),
        ("rule", "RRULE:FREQ=DAILY", "pattern"),
        ("rule", "FREQ=DAILY\nEXDATE:20260101", "pattern"),
        ("rule", "FREQ=WEEKLY;BYDAY=XX", "is no RRULE"),
        ("rule", "FREQ=WEEKLY;UNTIL=20260101T000000", "is no RRULE"),
        ("rule", "FREQ=WEEKLY;NOTHING=1", "is no RRULE"),
        ("rule", "FREQ=WEEKLY;BYDAY=FR;BYDAY=SA", "given twice"),
        ("rule", "FREQ=DAILY;INTERVAL=0", "from 1 to 9999"),
        ("rule", "FREQ=DAILY;INTERVAL=10000", "from 1 to 9999"),
        ("rule", "FREQ=DAILY;BYHOUR=1,2,3", "BYHOUR is not taken with FREQ=DAILY"),
        ("rule", "FREQ=WEEKLY;BYMONTHDAY=1", "BYMONTHDAY is not taken with FREQ=WEEKLY"),
        ("rule", "FREQ=YEARLY;BYEASTER=0", "BYEASTER is not taken"),
        ("rule", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "never recurs"),
        ("rule", "FREQ=DAILY;INTERVAL=7;BYDAY=TU", "never recurs"),  # it starts on a Friday
        ("rule", "FREQ=WEEKLY;COUNT=0", "never recurs"),
        ("timezone", "Europe/Atlantis", "is no time zone"),
        ("timezone", "../../etc/passwd", "is no time zone"),
        ("start", "2026-01-01T00:00:00+01:00", "without an offset"),
        ("start", "1999-01-01T00:00:00", "from 2000"),
        ("duration", "PT0S", "greater than"),
        ("duration", "P2Y", "less than"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(field: str, value: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        gate(**{field: value})
