"""A post-mortem says what the record says, and no more."""

from __future__ import annotations

import re
from datetime import timedelta

from santiago_platform.domain.incident import Attempt, EventKind, IncidentState, Recovery, acknowledged, event, resolved
from santiago_platform.domain.incident_report import times
from santiago_platform.domain.postmortem import UNKNOWN, file_name, postmortem
from santiago_platform.testing.rows import START, incident


def test_every_event_is_told_in_the_order_of_time_and_every_figure_is_of_the_record() -> None:
    opened = incident(0).with_events(
        [
            event(START + timedelta(seconds=9), EventKind.MESSAGE, "it is the cache", "ann"),
            event(START, EventKind.ALERT, "TooManyErrors fires", "alertmanager"),
        ]
    )
    over = resolved(
        acknowledged(opened, "ann", START + timedelta(seconds=75)), "platform", START + timedelta(hours=1), "w"
    )
    text = postmortem(over, {})
    assert text.index("TooManyErrors fires") < text.index("it is the cache") < text.index("acknowledged by ann")
    assert "| Acknowledged after | 1 min 15 s |" in text
    assert "| Lasted | 1 h |" in text
    known = {*re.findall(r"\d+", over.model_dump_json()), "1", "15"}
    assert set(re.findall(r"\d+", text)) - known == set(), "no number that the record has not"
    assert text.count(UNKNOWN) == 3


def test_what_others_wrote_is_neither_markup_nor_a_row_of_its_own() -> None:
    written = "x | y\n# Causes\n<script>alert(1)</script> [a](http://b) `c`"
    text = postmortem(incident(1, title=written).with_events([event(START, EventKind.MESSAGE, written, "eve")]), {})
    assert "\n# Causes" not in text
    assert "<script>" not in text
    assert "[a](" not in text
    assert "x \\| y" in text


def test_what_was_tried_and_how_it_ended_is_told_and_what_is_not_known_is_not() -> None:
    tried = Attempt(
        recovery=Recovery.ROLLBACK, subject="v2", operation="op-9", reason="it fails", at=START, outcome="refused: no"
    )
    text = postmortem(incident(1, attempts=(tried,)), {})
    assert "rollback of v2" in text.split("## Actions")[1]
    assert "rollback" not in text.split("## What went well")[1].split("## Actions")[0]
    assert "| Resolved after | never |" in text
    assert "No change was found" in text


def test_an_advisors_words_are_marked_as_its_own() -> None:
    text = postmortem(incident(1), {}, ["It *began*.", "It ended."])
    assert "## Summary (an advisor's, of the timeline)\n\nIt \\*began\\*.\n\nIt ended.\n\n## Impact" in text


def test_its_file_is_named_by_day_and_incident() -> None:
    assert file_name(incident(1)) == "2026-01-01-in-1.md"


def test_times_are_medians_by_service_and_severity_of_those_that_have_them() -> None:
    def ended(number: int, seconds: float, answered: float | None, **fields: str) -> object:
        began = START + timedelta(seconds=number)
        at = None if answered is None else began + timedelta(seconds=answered)
        end = began + timedelta(seconds=seconds)
        return incident(number, state=IncidentState.RESOLVED, ended_at=end, acknowledged_at=at, **fields)

    rows = [ended(1, 100, 10), ended(2, 300, None), ended(3, 900, 30), ended(4, 5, 1, service="till"), incident(5)]
    till, web = times(rows)  # type: ignore[arg-type]
    assert (till.service, till.mtta_seconds, till.mttr_seconds) == ("till", 1, 5)
    assert (web.incidents, web.acknowledged, web.resolved) == (4, 2, 3)
    assert (web.mtta_seconds, web.mttr_seconds) == (20, 300)
