from __future__ import annotations

import json

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from santiago_platform.domain.log_text import NAMES, canonical, level_of, level_pattern, request_ids

LINES = [
    ('{"level": "warn", "msg": "x"}', "warning"),
    ('{"log.level": "ERROR"}', "error"),
    ('{"log": {"level": "fatal"}}', "critical"),
    ('{"levelname": "CRITICAL"}', "critical"),
    ('{"level": 30}', "info"),
    ('{"level": 3}', "error"),
    ('{"severityText": "WARN2", "severityNumber": 14}', "warning"),
    ('{"severity_number": 21}', "critical"),
    ('{"level": true}', ""),
    ('{"level": null, "severity": "Information"}', "info"),
    ('{"level": [1]}', ""),
    ("E1124 12:00:00.000001   1 server.go:12] lost", "error"),
    ("I1124 12:00:00.000001   1 server.go:12] fine", "info"),
    ("<3>kernel: out of memory", "error"),
    ("ts=2026-11-24T12:00:00Z caller=x.go:1 level=warn msg=y", "warning"),
    ("2026-11-24 12:00:00,123 - shop.cart - ERROR - lost", "error"),
    ("12:00:00.123 [main] ERROR com.example.Cart - lost", "error"),
    ("[web] ERROR lost", "error"),
    ("Alert: this is prose", ""),
    ("x" * 400 + " level=error", ""),
    ("", ""),
]


@pytest.mark.parametrize(("text", "level"), LINES)
def test_a_level_is_recognised_in_the_forms_of_common_loggers(text: str, level: str) -> None:
    assert level_of(text) == level


@given(
    st.sampled_from(["level", "severity", "lvl", "log.level", "@l", "severityNumber", "levelname"]),
    st.sampled_from(["error", "Warn", "ERR", "fatal", "Information", "50", 10, 20, 30, 40, 50, 60, *range(8), 13, 17]),
    st.sampled_from(["{{{0!r}: {1}}}", "{0}={2}", "{2}: x", "<{2}>x", "2026-01-01 [{2}] x"]),
)
def test_the_pattern_of_a_level_misses_no_line_of_it(key: str, value: str | int, form: str) -> None:
    line = form.format(key, json.dumps(value), value).replace("'", '"')
    if level := level_of(line):
        assert re2.search(level_pattern(level), f"@400000000000000000000000 {line}")


@pytest.mark.parametrize(("text", "level"), [(text, level) for text, level in LINES if level])
def test_nor_one_of_those_above(text: str, level: str) -> None:
    assert re2.search(level_pattern(level), f"@400000000000000000000000 {text}")


def test_a_level_may_be_asked_for_by_any_of_its_names() -> None:
    assert [canonical(name) for name in ("WARN", "err", "50", "fatal", "odd")] == [
        "warning",
        "error",
        "error",
        "critical",
        "odd",
    ]
    assert all(canonical(name) == name for name in NAMES)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ('{"request_id": "9f8e7d6c-0001", "msg": "x"}', ["9f8e7d6c-0001"]),
        ("GET / X-Request-Id: 9f8e7d6c-0001", ["9f8e7d6c-0001"]),
        ('{"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"}', ["4bf92f3577b34da6a3ce929d0e0e4736"]),
        ("traceId=4bf92f3577b34da6a3ce929d0e0e4736 x", ["4bf92f3577b34da6a3ce929d0e0e4736"]),
        (
            '"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"',
            ["4bf92f3577b34da6a3ce929d0e0e4736"],
        ),
        ("no id here", []),
        ("request_id=short", []),
    ],
)
def test_ids_of_a_request_are_found_where_they_are_named(text: str, ids: list[str]) -> None:
    assert list(request_ids(text)) == ids
