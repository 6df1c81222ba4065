from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from santiago_platform.adapters.workspace.json_document import parse
from santiago_platform.domain.errors import ErrorCode, PlatformError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.sampled_from([None, 2, "\t"]))
def test_what_json_writes_is_read_as_it_was_with_the_place_of_every_value(value: Any, indent: Any) -> None:
    text = json.dumps(value, indent=indent)
    document = parse(text, "f.json")
    assert document.value == value
    for path, (start, end) in document.spans.items():
        part = document.value
        for key in path:
            part = part[key]
        assert json.loads(text[start:end]) == part
        assert document.lines[path] <= text.count("\n") + 1


def test_a_value_has_the_line_of_its_key() -> None:
    document = parse('{\n\t"a": [\n1,\n2\n],\n"b":\n\n3}', "f.json")
    assert [document.line(path) for path in (("a",), ("a", 1), ("b",), ("b", "nothing"))] == [2, 4, 6, 6]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "a value is expected"),
        ("{", 1, "a key in quotes is expected"),
        ('{\n"a": 1,\n}', 3, "a key in quotes is expected"),
        ('{"a": 1\n"b": 2}', 2, "`,` is expected"),
        ('{"a" 1}', 1, "`:` is expected"),
        ("[1,\n2,]", 2, "a value is expected"),
        ("[1] x", 1, "there is more behind its end"),
        ('{"a": 1,\n"a": 2}', 2, "the key 'a' is there twice"),
        ("{'a': 1}", 1, "a key in quotes"),
        ('"a\nb"', 1, "invalid control character"),
        ('"abc', 1, "unterminated string"),
        ('"\\ud800"', 1, "half a character"),
        ("NaN", 1, "a value is expected"),
        ("-", 1, "a value is expected"),
        ("01", 1, "there is more behind its end"),
        ("1e999", 1, "a number is too large"),
        ("9" * 5000, 1, "digits"),
        ("[" * 100 + "]" * 100, 1, "nested deeper than 64"),
        ("[" + "1," * 20000 + "1]", 1, "more than 10000 values"),
        ("// no\n{}", 1, "a value is expected"),
    ],
)
def test_what_is_no_json_is_refused_with_the_line(text: str, line: int, words: str) -> None:
    with pytest.raises(PlatformError) as raised:
        parse(text, "f.json")
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT
    assert raised.value.message.startswith(f"f.json:{line}: ")
    assert words in raised.value.message


def test_what_is_huge_is_refused_before_it_is_read() -> None:
    with pytest.raises(PlatformError, match="larger than 256 KiB"):
        parse('"' + "x" * (256 * 1024) + '"', "f.json")
