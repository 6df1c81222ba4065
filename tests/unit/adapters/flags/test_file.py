from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from referencing import Registry, Resource

from santiago_platform.adapters.flags.file import EMPTY, parse_flags, with_entry
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.flag import Flag, FlagEntry, Override
from santiago_platform.domain.ramp import Ramp

SCHEMAS = Path(__file__).parents[5] / "shared" / "schemas"
BY_HAND = """\
{
    "$schema": "https://flagd.dev/schema/v0/flags.json",
    "flags": {
        "banner": { "state": "ENABLED",   "variants": {"a":"hello", "b" : "bye"},
                    "defaultVariant": "a" },

        "limit": {"state": "ENABLED", "variants": {"low": 1, "high": 1.50}, "defaultVariant": "low",
            "targeting": {"if": [{"$ref": "staff"}, "high"]}}
    },
    "$evaluators": {"staff": {"ends_with": [{"var": "email"}, "@example.org"]}},
    "environments": {"staging": {"banner": {"defaultVariant": "b"}}}
}
"""
ON = Flag(state="ENABLED", variants={"on": True, "off": False}, default_variant="off")


def refused(text: str) -> PlatformError:
    with pytest.raises(PlatformError) as raised:
        parse_flags(text)
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT
    return raised.value


def test_a_change_leaves_every_other_byte_as_it_was() -> None:
    changed = with_entry(BY_HAND, "limit", parse_flags(BY_HAND).entry("limit").updated(None, default_variant="high"))
    before, after = BY_HAND.partition('"limit": '), changed.partition('"limit": ')
    assert after[0] == before[0]
    assert after[2].partition('"$evaluators"')[2] == before[2].partition('"$evaluators"')[2]
    assert parse_flags(changed).flags["limit"].default_variant == "high"


def test_a_flag_that_comes_and_goes_leaves_nothing() -> None:
    added = with_entry(BY_HAND, "new", FlagEntry(flag=ON))
    assert '        "new": {' in added
    assert with_entry(added, "new", FlagEntry()) == BY_HAND


@pytest.mark.parametrize("gone", ["banner", "limit"])
def test_a_flag_is_removed_with_what_differs_of_it(gone: str) -> None:
    left = parse_flags(with_entry(BY_HAND, gone, FlagEntry()))
    assert set(left.flags) == {"banner", "limit"} - {gone}
    assert all(gone not in overrides for overrides in left.environments.values())


def test_what_a_new_file_becomes_is_easy_to_read() -> None:
    entry = FlagEntry(flag=ON).updated("production", targeting=Ramp.constant("on", "off", 10).rule())
    assert with_entry(EMPTY, "new", entry) == (
        "{\n"
        '  "$schema": "https://flagd.dev/schema/v0/flags.json",\n'
        '  "flags": {\n'
        '    "new": {\n'
        '      "state": "ENABLED",\n'
        '      "variants": {"on": true, "off": false},\n'
        '      "defaultVariant": "off"\n'
        "    }\n"
        "  },\n"
        '  "environments": {\n'
        '    "production": {"new": {"targeting": {"fractional": [["on", 10], ["off", 90]]}}}\n'
        "  }\n"
        "}\n"
    )


def test_a_file_in_one_line_stays_in_one_line() -> None:
    changed = with_entry('{"flags": {}}', "new", FlagEntry(flag=ON))
    assert "\n" not in changed
    assert parse_flags(changed).flags == {"new": ON}


KEYS = st.sampled_from(["banner", "limit", "a", "b.c"])
FLAGS = st.builds(
    Flag,
    state=st.sampled_from(["ENABLED", "DISABLED"]),
    variants=st.just({"a": 'x\n"é', "b": ""}),
    default_variant=st.sampled_from([None, "a", "b"]),
    targeting=st.sampled_from([None, {}, {"if": [{"var": "x"}, "a"]}]),
    metadata=st.dictionaries(st.text(max_size=3), st.integers() | st.booleans() | st.text(max_size=3), max_size=2),
)
OVERRIDES = st.builds(Override, default_variant=st.sampled_from(["a", "b"]), state=st.sampled_from([None, "DISABLED"]))
ENTRIES = st.just(FlagEntry()) | st.builds(
    FlagEntry, flag=FLAGS, environments=st.dictionaries(st.sampled_from(["staging", "production"]), OVERRIDES)
)


@given(
    st.sampled_from([EMPTY, BY_HAND, '{"flags":{}}', '{"flags": {\n}}', "{}", '{\n\t"flags": {}\n}']),
    st.lists(st.tuples(KEYS, ENTRIES), max_size=6),
)
def test_any_changes_one_after_the_other_are_in_the_file(text: str, changes: list[tuple[str, FlagEntry]]) -> None:
    wanted = parse_flags(text)
    for key, entry in changes:
        text, wanted = with_entry(text, key, entry), wanted.with_entry(key, entry)
        assert parse_flags(text) == wanted


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('{"flags": {"a b": {"state": "ENABLED", "variants": {"x": 1}}}}', 1, "a b"),
        ('{\n"flags": {\n"../x": {"state": "ENABLED", "variants": {"x": 1}}}}', 3, "should match pattern"),
        (
            '{\n"flags": {"x": {"state": "ENABLED",\n"variants": {"a": 1},\n"defaultVariant": "b"}}}',
            4,
            "there is no variant 'b'",
        ),
        ('{\n"flags": {"x": {\n"variant": {"a": 1}}}}', 3, "unknown key 'variant'"),
        ('{\n"flags": {"x": {"state": "ON",\n"variants": {"a": 1}}}}', 2, "'ENABLED' or 'DISABLED'"),
        ('{"flags": []}', 1, "flags"),
        ("[]", 1, ""),
        ('{"flags": {"x": {"state": "ENABLED", "variants": {"a": 1}, "metadata": {"a": []}}}}', 1, "metadata"),
        ('{"flags": {}, "environments": {"Production": {}}}', 1, "is not a name"),
        ('{"flags": {}, "environments": {"production": {"x": {}}}}', 1, "there is no flag x"),
    ],
)
def test_what_is_no_flags_file_is_refused_with_the_line(text: str, line: int, words: str) -> None:
    message = refused(text).message
    assert message.startswith("flags.json:")
    assert any(said.startswith(f"flags.json:{line}: ") and words in said for said in message.splitlines())


def _flagd() -> Draft7Validator:
    if not SCHEMAS.is_dir():
        pytest.skip("flagd's schemas are not beside the repository")
    named = {"flags.json": "flagd-flags.json", "targeting.json": "flagd-targeting.json"}
    found = {
        f"https://flagd.dev/schema/v0/{name}": Resource.from_contents(json.loads((SCHEMAS / path).read_text()))
        for name, path in named.items()
    }
    registry: Registry[Any] = Registry().with_resources(found.items())
    return Draft7Validator({"$ref": "https://flagd.dev/schema/v0/flags.json"}, registry=registry)


@pytest.mark.parametrize("targeting", [Ramp.constant("a", "b", 10).rule(), {"if": [{"$ref": "staff"}, "high"]}, {}])
def test_what_is_written_is_valid_for_flagd(targeting: Any) -> None:
    flagd = _flagd()
    flagd.validate(json.loads(BY_HAND))
    flag = Flag(state="ENABLED", variants={"a": 1, "b": 2, "high": 3}, default_variant="a", targeting=targeting)
    flagd.validate(json.loads(with_entry(BY_HAND, "new", FlagEntry(flag=flag))))


@given(st.data())
def test_a_rule_that_is_taken_is_valid_for_flagd(data: st.DataObject) -> None:
    """Not the other way round: flagd takes rules that could not be evaluated."""
    operations = ["if", "==", "in", "!", "and", "var", "<", "fractional", "sem_ver", "starts_with", "missing", "cat"]
    plain = st.sampled_from(["a", "b", 1, True, None, ">="])
    rules = st.recursive(
        plain,
        lambda inner: (
            st.builds(
                lambda name, arguments: {name: arguments}, st.sampled_from(operations), st.lists(inner, max_size=3)
            )
            | st.lists(inner, min_size=2, max_size=2)
        ),
        max_leaves=8,
    )
    rule = data.draw(rules.filter(lambda rule: rule is not None))
    text = json.dumps({"flags": {"x": {"state": "ENABLED", "variants": {"a": 1, "b": 2}, "targeting": rule}}})
    flagd = _flagd()
    try:
        parse_flags(text)
    except PlatformError:
        return
    flagd.validate(json.loads(text))
