from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.flag import (
    Flag,
    FlagEntry,
    FlagError,
    FlagFile,
    Override,
    check_file,
    expired,
    killed,
    restored,
    served_as,
    shared,
)
from santiago_platform.domain.ramp import share_of

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
BOOLEAN = Flag(state="ENABLED", variants={"on": True, "off": False}, default_variant="off")
ENTRY = FlagEntry(flag=BOOLEAN)


def file(**flags: Any) -> FlagFile:
    return FlagFile.model_validate({"flags": flags})


def effective(entry: FlagEntry, environment: str | None = None) -> Flag:
    flag = entry.effective(environment)
    assert flag is not None
    return flag


def test_an_environment_differs_in_what_it_names_alone() -> None:
    entry = ENTRY.updated("staging", default_variant="on", metadata={"owner": "web"})
    assert effective(entry, "staging").default_variant == "on"
    assert effective(entry, "production") == effective(entry) == BOOLEAN
    assert effective(entry, "staging").variants == BOOLEAN.variants


def test_what_is_killed_in_all_environments_is_on_in_none() -> None:
    entry = killed(ENTRY.updated("staging", state="ENABLED"), None, NOW)
    assert {effective(entry, name).state for name in ("staging", "production")} == {"DISABLED"}


def test_a_kill_in_one_environment_leaves_the_others_and_its_restoring_leaves_nothing() -> None:
    entry = killed(ENTRY, "production", NOW)
    assert effective(entry, "production").state == "DISABLED"
    assert effective(entry, "staging").state == "ENABLED"
    assert restored(entry, "production", NOW) == ENTRY


def test_a_second_kill_keeps_the_moment_of_the_first() -> None:
    once = killed(ENTRY, None, NOW)
    assert killed(once, None, NOW + timedelta(hours=1)) == once
    assert restored(once, None, NOW) == ENTRY


def test_what_is_off_everywhere_is_not_restored_in_one_environment() -> None:
    with pytest.raises(PlatformError) as raised:
        restored(killed(ENTRY, None, NOW), "production", NOW)
    assert raised.value.code is ErrorCode.FAILED_PRECONDITION


def test_a_ramp_goes_on_where_it_was_when_it_was_killed() -> None:
    ramped = shared(ENTRY, None, None, 100, NOW, timedelta(hours=1))
    off = killed(ramped, None, NOW + timedelta(minutes=30))
    back = restored(off, None, NOW + timedelta(hours=5))
    share = share_of(effective(back).targeting)
    assert share is not None
    assert share.percent(NOW + timedelta(hours=5)) == 50
    assert share.percent(NOW + timedelta(hours=5, minutes=30)) == 100


def test_a_ramp_that_was_over_when_it_was_killed_is_restored_as_it_was() -> None:
    ramped = shared(ENTRY, None, None, 100, NOW, timedelta(hours=1))
    off = killed(ramped, None, NOW + timedelta(hours=2))
    assert restored(off, None, NOW + timedelta(hours=5)) == ramped


def test_a_ramp_starts_from_the_share_that_there_is() -> None:
    tenth = shared(ENTRY, None, None, 10, NOW, None)
    share = share_of(effective(shared(tenth, None, None, 50, NOW, timedelta(hours=1))).targeting)
    assert share is not None
    assert (share.from_percent, share.to_percent) == (10, 50)


def test_an_environment_has_a_share_of_its_own_and_keeps_the_rules_before_it() -> None:
    rules = {"if": [{"==": [{"var": "plan"}, "beta"]}, "on"]}
    entry = shared(ENTRY.updated(None, targeting=rules), "staging", None, 50, NOW, None)
    assert effective(entry, "production").targeting == rules
    assert effective(entry, "staging").targeting == {"if": [*rules["if"], {"fractional": [["on", 50], ["off", 50]]}]}


@pytest.mark.parametrize(
    ("flag", "variant", "code"),
    [
        (Flag(state="ENABLED", variants={"a": 1, "b": 2}), None, ErrorCode.INVALID_ARGUMENT),
        (Flag(state="ENABLED", variants={"a": 1, "b": 2}), "c", ErrorCode.INVALID_ARGUMENT),
        (Flag(state="ENABLED", variants={"a": 1, "b": 2, "c": 3}), "a", ErrorCode.FAILED_PRECONDITION),
        (
            Flag(state="ENABLED", variants={"a": 1, "b": 2, "c": 3}, default_variant="a"),
            "a",
            ErrorCode.FAILED_PRECONDITION,
        ),
        (
            Flag(state="ENABLED", variants={"a": 1, "b": 2}, targeting={"var": ["x", "a"]}),
            "a",
            ErrorCode.FAILED_PRECONDITION,
        ),
    ],
)
def test_a_share_of_nobody_knows_what_is_refused(flag: Flag, variant: str | None, code: ErrorCode) -> None:
    with pytest.raises(PlatformError) as raised:
        shared(FlagEntry(flag=flag), None, variant, 10, NOW, None)
    assert raised.value.code is code
    assert raised.value.hint


@pytest.mark.parametrize(
    ("flag", "path", "words"),
    [
        ({"state": "ENABLED", "variants": {}}, ("flags", "x", "variants"), "at least one variant"),
        (
            {"state": "ENABLED", "variants": {"a": 1, "b": "2"}},
            ("flags", "x", "variants"),
            "of one type: a is a number, b is a text",
        ),
        ({"state": "ENABLED", "variants": {"a": True, "b": 1}}, ("flags", "x", "variants"), "of one type"),
        (
            {"state": "ENABLED", "variants": {"a": None}},
            ("flags", "x", "variants", "a"),
            "a boolean, a number, a text or an object",
        ),
        (
            {"state": "ENABLED", "variants": {"a": [1]}},
            ("flags", "x", "variants", "a"),
            "a boolean, a number, a text or an object",
        ),
        (
            {"state": "ENABLED", "variants": {"a": 1}, "defaultVariant": "b"},
            ("flags", "x", "defaultVariant"),
            "there are: a",
        ),
        (
            {"state": "ENABLED", "variants": {"a": 1}, "targeting": {"log": [1]}},
            ("flags", "x", "targeting"),
            "'log' is not an operation",
        ),
        (
            {"state": "ENABLED", "variants": {"a": 1}, "targeting": {"$ref": "y"}},
            ("flags", "x", "targeting"),
            r"evaluators has: none",
        ),
        (
            {"state": "ENABLED", "variants": {"a": 1}, "metadata": {"expires": "soon"}},
            ("flags", "x", "metadata", "expires"),
            "is no date",
        ),
    ],
)
def test_what_could_not_be_evaluated_is_refused_with_its_place(
    flag: dict[str, Any], path: tuple[str, ...], words: str
) -> None:
    with pytest.raises(FlagError, match=words) as raised:
        check_file(file(x=flag))
    assert raised.value.path == path


def test_nothing_differs_of_a_flag_that_there_is_not() -> None:
    with pytest.raises(FlagError, match="there is no flag x under `flags`"):
        check_file(FlagFile(environments={"production": {"x": Override(default_variant="on")}}))


def test_flags_expire_behind_their_last_day() -> None:
    old = {"state": "ENABLED", "variants": {"a": 1}, "metadata": {"expires": "2026-11-24", "owner": "web"}}
    assert list(expired(file(old=old), NOW)) == []
    ((key, words),) = expired(file(old=old), NOW + timedelta(days=1))
    assert (key, "(web)" in words) == ("old", True)


def test_what_is_to_be_read_back_differs_with_the_definition() -> None:
    on = BOOLEAN.model_copy(update={"default_variant": "on"})
    assert served_as(None) == "absent"
    assert served_as(on).startswith("on=true, definition ")
    assert served_as(on) != served_as(on.model_copy(update={"metadata": {"owner": "web"}}))
    assert served_as(effective(killed(ENTRY, None, NOW))).startswith("the code's default")
    assert served_as(Flag(state="ENABLED", variants={"half": 0.5, "one": 1.0}, default_variant="one")).startswith(
        "one=1,"
    )


def test_an_entry_is_put_into_a_file_and_taken_out_again() -> None:
    entry = ENTRY.updated("staging", default_variant="on")
    other = file(other={"state": "ENABLED", "variants": {"a": 1}})
    assert other.with_entry("new", entry).entry("new") == entry
    assert other.with_entry("new", entry).with_entry("new", FlagEntry()).flags == other.flags
