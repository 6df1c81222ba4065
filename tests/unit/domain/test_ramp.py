from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from santiago_platform.domain.ramp import LONGEST_RAMP, Ramp, share_of, with_share
from santiago_platform.domain.targeting import check

START = datetime(2026, 11, 24, 12, tzinfo=UTC)
RAMPS = st.builds(
    lambda a, b, start, seconds: Ramp(
        variant="on",
        rest="off",
        from_percent=a,
        to_percent=b,
        start=START + timedelta(seconds=start),
        end=START + timedelta(seconds=start + seconds),
    ),
    st.integers(0, 100),
    st.integers(0, 100),
    st.integers(-(10**6), 10**6),
    st.integers(1, int(LONGEST_RAMP.total_seconds())),
)


def ramp(**fields: Any) -> Ramp:
    given: dict[str, Any] = {"from_percent": 0, "to_percent": 100, "start": START, "end": START + timedelta(hours=1)}
    return Ramp(variant="on", rest="off", **{**given, **fields})


@given(RAMPS)
def test_a_ramp_is_read_out_of_its_rule_as_it_was(ramp: Ramp) -> None:
    assert Ramp.read(ramp.rule()) == ramp


@given(st.integers(0, 100))
def test_a_constant_share_is_read_out_of_its_rule_as_it_was(percent: int) -> None:
    share = Ramp.constant("on", "off", percent)
    assert Ramp.read(share.rule()) == share


@given(RAMPS)
def test_every_rule_of_a_ramp_is_one_that_flagd_evaluates(ramp: Ramp) -> None:
    check(ramp.rule(), {"on", "off"})


@pytest.mark.parametrize(
    "rule",
    [
        None,
        {},
        {"fractional": [["on", 1], ["off", 1]]},  # shares, but not of a hundred
        {"fractional": [["a", 1], ["b", 1], ["c", 98]]},
        {"fractional": [{"var": "email"}, ["on", 10], ["off", 90]]},
        {"fractional": [["on", {"+": [0, 1]}], ["off", 1]]},
        {"fractional": "on"},
        {"if": [True, "on"]},
    ],
)
def test_any_other_rule_is_no_ramp(rule: Any) -> None:
    assert Ramp.read(rule) is None


def test_the_share_rises_between_two_moments_and_stays_before_and_behind_them() -> None:
    moving = ramp(from_percent=20, to_percent=60)
    shares = [moving.percent(START + timedelta(minutes=minutes)) for minutes in (-5, 0, 30, 60, 90)]
    assert shares == [20, 20, 40, 60, 60]
    assert [moving.moves(START + timedelta(minutes=m)) for m in (0, 59, 60)] == [True, True, False]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"to_percent": 101}, "a percentage is from 0 to 100"),
        ({"from_percent": -1}, "a percentage is from 0 to 100"),
        ({"end": None}, "a ramp has a start and an end"),
        ({"start": None, "end": None}, "a share that changes needs a start and an end"),
        ({"end": START}, "a ramp takes from 1 second"),
        ({"end": START + LONGEST_RAMP + timedelta(seconds=1)}, "a ramp takes from 1 second"),
    ],
)
def test_what_is_no_ramp_is_refused_in_words(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ramp(**fields)


def test_a_share_comes_after_the_rules_that_are_there() -> None:
    share = Ramp.constant("on", "off", 10)
    beta = [{"==": [{"var": "plan"}, "beta"]}, "on"]
    assert with_share(None, share) == with_share({}, share) == share.rule()
    assert with_share({"if": beta}, share) == {"if": [*beta, share.rule()]}
    assert with_share({"if": [*beta, None]}, share) == {"if": [*beta, share.rule()]}
    assert with_share(with_share({"if": beta}, share), Ramp.constant("on", "off", 20)) == {
        "if": [*beta, Ramp.constant("on", "off", 20).rule()]
    }
    assert share_of({"if": [*beta, share.rule()]}) == share
    assert share_of({"if": beta}) is None


def test_a_targeting_of_another_form_has_no_place_for_a_share() -> None:
    with pytest.raises(ValueError, match="no place for a share"):
        with_share({"in": ["@example.org", {"var": "email"}]}, Ramp.constant("on", "off", 10))


def test_a_pause_delays_what_is_left() -> None:
    moving = ramp()
    assert moving.delayed(timedelta(minutes=10)).percent(START + timedelta(minutes=40)) == 50
    assert Ramp.constant("on", "off", 3).delayed(timedelta(minutes=10)) == Ramp.constant("on", "off", 3)
