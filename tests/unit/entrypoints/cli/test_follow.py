from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pytest

from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.entrypoints.cli.follow import followed, moment


def line(at: float, text: str) -> dict[str, Any]:
    return {"at": at, "instance": "web__production__a__0", "text": text}


class Log:
    """Answers as read_logs; `writes` happen in each pause."""

    def __init__(self, lines: list[dict[str, Any]], writes: list[list[dict[str, Any]]], page: int = 500) -> None:
        self.lines = lines
        self.writes = writes
        self.page = page
        self.down = False

    def read(self, since: str, limit: int, cursor: str | None = None) -> dict[str, Any]:
        if self.down:
            raise PlatformError(ErrorCode.UNAVAILABLE, "the platform does not answer")
        after = datetime.fromisoformat(since).timestamp()
        found = sorted((x for x in self.lines if x["at"] >= after), key=lambda x: -x["at"])
        start = int(cursor or 0)
        end = start + min(limit, self.page)
        return {"lines": found[start:end], **({"cursor": str(end)} if end < len(found) else {})}

    def pause(self, _: float) -> None:
        self.lines += self.writes.pop(0) if self.writes else []


def test_each_new_line_is_shown_once_also_equal_ones_and_those_that_come_late() -> None:
    shown = [line(100, "b"), line(99, "a")]
    writes = [
        [line(101, "c"), line(101, "c")],
        [line(100.5, "late"), line(102, "d")],
        [],
        [line(110, "e")],
        [line(110, "e")],
    ]
    log = Log([line(98, "before what was shown"), *shown], writes)
    told = list(islice(followed(log.read, shown, log.pause), 5))
    assert [[x["text"] for x in lines] for lines in told] == [["c", "c"], ["late", "d"], [], ["e"], ["e"]]


def test_many_lines_at_once_come_in_pages_and_in_order() -> None:
    log = Log([line(100, "a")], [[line(100 + n / 100, str(n)) for n in range(1, 40)]], page=7)
    (told,) = islice(followed(log.read, [line(100, "a")], log.pause), 1)
    assert [x["text"] for x in told] == [str(n) for n in range(1, 40)]


def test_a_daemon_that_is_started_anew_is_asked_again() -> None:
    log = Log([line(100, "a")], [])
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        log.down = len(pauses) < 3
        log.lines = [line(100, "a"), line(101, "b")]

    assert [[x["text"] for x in lines] for lines in islice(followed(log.read, [line(100, "a")], pause), 1)] == [["b"]]
    assert len(pauses) == 3


@pytest.mark.parametrize("text", ["90s", "15m", "2h", "1.5d"])
def test_a_time_may_be_how_long_ago(text: str) -> None:
    seconds = float(text[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[text[-1]]
    assert abs((datetime.now(UTC) - datetime.fromisoformat(moment(text))).total_seconds() - seconds) < 5


def test_a_time_may_be_a_date_and_nothing_else() -> None:
    assert moment("2026-11-24T12:00:00Z") == "2026-11-24T12:00:00+00:00"
    with pytest.raises(PlatformError, match=re.escape("'yesterday' is no time")):
        moment("yesterday")
