from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from santiago_platform.adapters.workspace.yaml_document import LIMIT_BYTES, parse, validate
from santiago_platform.domain.environment import Settings
from santiago_platform.domain.errors import ErrorCode, PlatformError

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefg", "bcdefgh", strict=True)
)


def refusal(text: str, model: type[Settings] = Settings) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        validate(parse(text, "f.yaml"), model)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    return caught.value


def test_every_value_has_the_line_of_its_key() -> None:
    document = parse("a: 1\nb:\n  - x\n  - y: {z: 2}\n", "f.yaml")
    assert document.value == {"a": 1, "b": ["x", {"y": {"z": 2}}]}
    assert [document.line(path) for path in [("a",), ("b",), ("b", 0), ("b", 1, "y", "z")]] == [1, 2, 3, 4]
    assert document.line(("b", 1, "y", "unknown")) == 4


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: [\n", 3, "not valid YAML"),
        ("a: 1\n\tb: 2\n", 2, "not valid YAML"),
        ("a: 1\nb: 2\na: 3\n", 3, "twice"),
        ("a: 1\n---\nb: 1\n", 2, "not valid YAML"),
        ("a: !!python/object/apply:os.system [id]\n", 1, "not allowed"),
        ("a: !!python/name:os.system x\n", 1, "not allowed"),
        ("b: 1\na: !secret x\n", 2, "not allowed"),
        ("x: &x {a: 1}\ny:\n  <<: *x\n", 3, "merge keys"),
        ("a: 1\n1: b\n", 2, "not a text"),
        ("a: 1\non: b\n", 2, "not a text"),
        ("? [a, b]\n: c\n", 1, "not a text"),
        ("a: 1\nb: \x07\n", 2, "character"),
        ("a: *nobody\n", 1, "not valid YAML"),
        ("a: " + "9" * 5000, 1, "not a usable number"),
        ("a: 0x_", 1, "not a usable number"),
        ("a: &a [*a]\n", 1, "aliases"),
        (BOMB, 5, "aliases"),
        ("a: " + "[" * 100_000, 1, "deeper"),
        ("a: [" + "x," * 20_000 + "]", 1, "more than 10000"),
        ("a: " + "x" * LIMIT_BYTES, 1, "larger than 256 KiB"),
    ],
)
def test_what_is_not_plain_small_yaml_is_refused_with_its_line(text: str, line: int, words: str) -> None:
    error = refusal(text)
    assert error.message.startswith(f"f.yaml:{line}: ")
    assert words in error.message


def test_an_unknown_key_names_the_nearest_valid_ones() -> None:
    error = refusal("environments:\n  production:\n    defaults:\n      replica: 2\n")
    assert error.message == "f.yaml:4: unknown key 'replica' in environments.production.defaults"
    assert "replicas" in error.hint


def test_an_unknown_key_that_is_near_to_nothing_gets_the_list() -> None:
    assert "environments" in refusal("zzz: 2\n").hint


@pytest.mark.parametrize(
    ("written", "read_as"), [("no", "true or false"), ("on", "true or false"), ("12", "a number"), ("", "nothing")]
)
def test_a_text_that_yaml_reads_as_something_else_says_to_quote_it(written: str, read_as: str) -> None:
    error = refusal(f"environments:\n  production:\n    defaults:\n      variables:\n        FLAG: {written}\n")
    assert error.message.startswith("f.yaml:5: ")
    assert read_as in error.message
    assert f'"{written}"' in error.hint


def test_a_date_stays_the_text_that_was_written() -> None:
    document = parse("environments: {a: {defaults: {variables: {DAY: 2024-01-02}}}}\n", "f.yaml")
    assert validate(document, Settings).environments["a"].defaults.variables == {"DAY": "2024-01-02"}


def test_a_number_that_was_written_as_a_text_says_so() -> None:
    assert "without quotes" in refusal('releases:\n  keep: "10"\n').hint


def test_a_bad_name_says_what_a_name_is() -> None:
    error = refusal("version: 1\nenvironments:\n  Bad_Name: {}\n")
    assert error.message.startswith("f.yaml:3: ")
    assert "a-z" in error.hint


def test_several_problems_are_told_at_once_each_with_its_line() -> None:
    message = refusal("tenant: X\nreleases:\n  keep: 0\nfoo: 1\n").message
    assert [line.split(":")[1] for line in message.splitlines()] == ["1", "3", "4"]


def test_an_empty_file_is_an_empty_mapping() -> None:
    assert validate(parse("# nothing\n", "f.yaml"), Settings) == Settings()


def outcome(text: str) -> str:
    try:
        parse(text, "f.yaml")
    except PlatformError as exc:
        return f"{exc.code} {exc.message}"
    return ""


@given(st.text(max_size=200))
def test_any_text_is_a_document_or_a_refusal_with_a_line(text: str) -> None:
    assert re.match(r"invalid_argument f\.yaml:\d+: .|$", outcome(text))


def test_half_a_surrogate_pair_is_refused() -> None:
    assert refusal('tenant: "\\ud800"\n').message.startswith("f.yaml:1: ")
