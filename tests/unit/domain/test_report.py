from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.report import duration, last_ended_week, shown, week


def test_a_week_is_from_monday_to_monday_in_utc() -> None:
    found = week("2026-W01")
    assert (found.since, found.until) == (datetime(2025, 12, 29, tzinfo=UTC), datetime(2026, 1, 5, tzinfo=UTC))
    assert len(found.days) == 7


@pytest.mark.parametrize("name", ["2026-W00", "2025-W53", "2026-W99", "0000-W01"])
def test_a_week_that_no_calendar_has_is_refused(name: str) -> None:
    with pytest.raises(PlatformError) as caught:
        week(name)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


@given(st.datetimes(datetime(1970, 2, 1), datetime(2400, 1, 1), timezones=st.just(UTC)))
def test_the_last_ended_week_ended_less_than_a_week_ago(now: datetime) -> None:
    found = last_ended_week(now)
    assert timedelta() <= now - found.until < timedelta(days=7)
    assert week(found.name) == found


def test_measures_are_shown_for_people() -> None:
    assert [shown(None, "ratio"), shown(0.05, "ratio"), shown(1.5, "a day"), shown(90, "seconds")] == [
        "no data",
        "5.0%",
        "1.50",
        "1.5 min",
    ]
    assert [duration(s) for s in (0, 59, 3600, 86400 * 2)] == ["0 s", "59 s", "1.0 h", "2.0 d"]
