"""The schema that is shown and the validation that is done are equally strict, and errors say what to mend."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.strategy import Strategy
from santiago_platform.domain.value import Value
from santiago_platform.tools import TOOLS
from santiago_platform.tools.schema import echo, input_schema, parse
from santiago_platform.tools.tool import Tool

WORDS = ["web", "Web", "a" * 41, "", "production", "latency", "blue_green", "status", "0", "HEAD", "../x", "é", "\0"]
VALUES = st.one_of(
    st.sampled_from(WORDS),
    st.text(max_size=8),
    st.integers(-5, 1000),
    st.floats(-5, 1000),
    st.booleans(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@st.composite
def calls(draw: st.DrawFn) -> tuple[Tool, dict[str, Any]]:
    """A tool, and arguments near those it takes."""
    tool = TOOLS[draw(st.sampled_from(sorted(TOOLS)))]
    # A date is left out: that a text is one, a schema says by `format`, which validators need not look at.
    known = [name for name, part in tool.input_schema["properties"].items() if part.get("format") != "date-time"]
    changed = draw(st.dictionaries(st.sampled_from([*known, "unknown"]), VALUES, max_size=3))
    return tool, {**tool.example, **changed}


@given(calls())
def test_what_the_shown_schema_refuses_is_refused_and_the_rest_is_taken(call: tuple[Tool, dict[str, Any]]) -> None:
    tool, arguments = call
    if Draft202012Validator(tool.input_schema).is_valid(arguments):
        assert isinstance(tool.parse(arguments), tool.request)
    else:
        with pytest.raises(PlatformError) as raised:
            tool.parse(arguments)
        assert raised.value.code is ErrorCode.INVALID_ARGUMENT


def refused(tool: str, arguments: dict[str, Any]) -> PlatformError:
    with pytest.raises(PlatformError) as raised:
        TOOLS[tool].parse(arguments)
    return raised.value


def test_a_wrong_type_says_which_argument_what_came_and_quotes_the_schema() -> None:
    error = refused("query_metrics", {"signal": "speed", "limit": "ten"})
    assert error.message == (
        'argument signal is "speed", expected {"enum":["latency","errors","traffic","saturation"]}; '
        'argument limit is "ten", expected {"default":20,"maximum":100,"minimum":1,"type":"integer"}'
    )
    assert 'for example {"signal": "latency"' in error.hint


def test_a_missing_argument_is_named() -> None:
    assert "argument action is missing" in refused("manage_operation", {"service": "web"}).message


def test_an_unknown_argument_is_named_with_the_nearest_ones() -> None:
    error = refused("read_logs", {"servise": "web"})
    assert error.message == 'unknown argument "servise": did you mean service?'


def test_a_null_is_the_same_as_leaving_the_argument_out() -> None:
    tool = TOOLS["read_logs"]
    assert tool.parse({"service": None, "limit": None}) == tool.parse({})
    assert "action is missing" in refused("manage_operation", {"action": None}).message


def test_a_whole_number_with_a_point_is_a_whole_number() -> None:
    tool = TOOLS["read_logs"]
    assert tool.parse({"limit": 20.0}) == tool.parse({"limit": 20})
    assert "argument limit is 20.5" in refused("read_logs", {"limit": 20.5}).message


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_json_has_no_number_for_is_refused(number: float) -> None:
    assert "not JSON" in refused("manage_operation", {"action": "wait", "timeout_seconds": number}).message


def test_an_error_names_five_problems_at_most_and_echoes_little() -> None:
    error = refused("read_logs", {f"{n}{'x' * 5000}": 1 for n in range(60)})
    assert error.message.count("unknown argument") == 5
    assert len(error.message) < 1000
    assert "65 arguments are too many" in refused("read_logs", {str(n): 1 for n in range(65)}).message


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\x1b[2J\0\ud800", '"a\\u001b[2J\\u0000\\ud800"'),
        ("a" * 5_000_000, '"' + "a" * 80 + '"... (5000000 characters)'),
        ({"a": 1}, "an object"),
        ([1, 2], "a list of 2"),
        (10**5000, "a huge number"),
        (None, "null"),
        (True, "true"),
        (1.5, "1.5"),
    ],
    ids=["controls", "long", "object", "list", "huge", "null", "truth", "number"],
)
def test_a_callers_value_is_echoed_in_one_bounded_line(value: object, shown: str) -> None:
    assert echo(value) == shown


class Inner(Value):
    """Words that say nothing here."""

    title: str
    count: int | None = None


class Outer(Value):
    """Neither do these."""

    title: Annotated[str, Field(description="kept")]
    inner: Inner
    many: tuple[Inner, ...] = ()
    strategy: Strategy | None = None
    labels: dict[str, int] = {}
    either: int | str | None = None


def test_a_schema_is_compact_and_keeps_what_it_demands() -> None:
    inner = {
        "type": "object",
        "properties": {"title": {"type": "string"}, "count": {"type": "integer"}},
        "required": ["title"],
        "additionalProperties": False,
    }
    assert input_schema(Outer) == {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "title": {"type": "string", "description": "kept"},
            "inner": inner,
            "many": {"type": "array", "items": inner, "default": []},
            "strategy": {"enum": ["blue_green", "canary", "rolling", "recreate"]},
            "labels": {"type": "object", "additionalProperties": {"type": "integer"}, "default": {}},
            "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        },
        "required": ["title", "inner"],
    }


def test_a_model_that_is_no_tools_is_parsed_with_the_same_words() -> None:
    class Plain(BaseModel):
        count: int

    with pytest.raises(PlatformError, match="count") as raised:
        parse(Plain, {"count": "1"})
    assert raised.value.message == 'argument count is "1", expected {"type":"integer"}'
    assert raised.value.hint == "it takes count"
