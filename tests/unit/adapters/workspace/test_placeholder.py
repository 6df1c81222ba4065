from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from santiago_platform.adapters.workspace.placeholder import PlaceholderError, escape, expand


def shown(parts: tuple[str, ...]) -> str:
    return "<" + "|".join(parts) + ">"


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("plain", "plain"),
        ("${metadata.name}", "<metadata|name>"),
        ("a${a.b}c${d}", "a<a|b>c<d>"),
        ("$${literal}", "${literal}"),
        ("$$$${x}", "$${x}"),
        ("$$${x}", "$<x>"),
        ("cost: $5, $PORT", "cost: $5, $PORT"),
        ("${metadata.annotations.a\\.b/c}", "<metadata|annotations|a.b/c>"),
        ("${}", "<>"),
    ],
)
def test_placeholders_expand_as_score_says(text: str, expanded: str) -> None:
    assert expand(text, shown) == expanded


def test_an_unclosed_placeholder_is_refused() -> None:
    with pytest.raises(PlaceholderError, match="not closed"):
        expand("a ${b", shown)


@given(st.text())
def test_an_escaped_text_expands_to_itself(text: str) -> None:
    assert expand(escape(text), shown) == text


@given(st.text())
def test_what_a_placeholder_stands_for_is_not_expanded_again(value: str) -> None:
    assert expand("${x}", lambda parts: value) == value
