from __future__ import annotations

from typing import Any

import pytest

from santiago_platform.domain.targeting import DEEPEST_RULE, check, expanded, needs_targeting_key

VARIANTS = {"on", "off"}
IS_BETA = {"==": [{"var": "plan"}, "beta"]}


def nested(levels: int) -> Any:
    rule: Any = {"!": [True]}
    for _ in range(levels):
        rule = {"!": [rule]}
    return rule


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"if": [IS_BETA, "on", "off"]},
        {"if": [IS_BETA, "on"]},
        {"if": [IS_BETA, "on", None]},
        {"if": [{"ends_with": [{"var": "email"}, "@example.org"]}, "on", {"fractional": [["on", 10], ["off"]]}]},
        {"fractional": [{"cat": [{"var": "$flagd.flagKey"}, {"var": "email"}]}, ["on", 1], ["off", 1]]},
        {"if": [{"sem_ver": [{"var": "version"}, ">=", "2.1.0"]}, "on", "off"]},
        {"if": [{"$ref": "staff"}, "on", "off"]},
        {"if": [{"!": {"var": "x"}}, "on", "off"]},
        {"var": ["variant", "on"]},
        {"if": [{"missing": []}, "on", "off"]},
    ],
)
def test_rules_of_flagd_are_taken(rule: Any) -> None:
    check(rule, VARIANTS)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ([], "must be an object"),
        ("on", "must be an object"),
        ({"if": [IS_BETA, "on"], "or": [1]}, "has 2 keys"),
        ({"log": ["x"]}, "'log' is not an operation of flagd"),
        ({"eval": ["x"]}, "'eval' is not an operation of flagd"),
        ({"==": [1]}, "== takes 2 arguments, and has 1"),
        ({"==": "x"}, "== takes a list"),
        ({"substr": [1, 2, 3, 4]}, "substr takes 2 to 3 arguments, and has 4"),
        ({"if": []}, "if takes 1 or more arguments"),
        ({"if": [IS_BETA, "onn", "off"]}, "it gives the variant 'onn', and there are: off, on"),
        ({"if": [IS_BETA, True, "off"]}, "it gives the variant 'true'"),
        ({"if": [IS_BETA, "on", {"if": [IS_BETA, "maybe", "off"]}]}, "'maybe'"),
        ({"fractional": [["on", 10], ["of", 90]]}, "'of'"),
        ({"fractional": [["on", -1], ["off", 90]]}, "-1 in fractional is no weight"),
        ({"fractional": [["on", 0.5], ["off", 0.5]]}, "0.5 in fractional is no weight"),
        ({"fractional": [["on", True], ["off", 1]]}, "True in fractional is no weight"),
        ({"fractional": [["on", 0], ["off", 0]]}, "must have a sum from 1"),
        ({"fractional": [["on", 1 << 31]]}, "must have a sum from 1"),
        ({"fractional": [{"var": "email"}]}, "has no variants to choose from"),
        ({"fractional": [["on", 1], "off"]}, "takes pairs"),
        ({"sem_ver": [{"var": "v"}, "=>", "1.0"]}, "not by '=>'"),
        ({"$ref": 3}, "must name a rule"),
        (nested(DEEPEST_RULE), "nested deeper"),
    ],
)
def test_what_could_not_be_evaluated_is_refused_in_words(rule: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check(rule, VARIANTS)


def test_shared_rules_come_in_the_places_that_refer_to_them() -> None:
    shared = {"staff": {"or": [{"$ref": "team"}, IS_BETA]}, "team": {"in": ["\\d\n", {"var": "email"}]}}
    rule = {"if": [{"$ref": "staff"}, "on", "off"]}
    assert expanded(rule, shared) == {"if": [{"or": [{"in": ["\\d\n", {"var": "email"}]}, IS_BETA]}, "on", "off"]}


@pytest.mark.parametrize(
    ("shared", "words"),
    [
        ({}, "refers to the shared rule 'a'; .* has: none"),
        ({"a": {"!": [{"$ref": "a"}]}}, "refers to itself"),
        ({"a": {"!": [{"$ref": "b"}]}, "b": {"!": [{"$ref": "a"}]}}, "refers to itself"),
        (
            {"a": {"or": [{"$ref": "b"}] * 100}, "b": {"or": [{"$ref": "c"}] * 100}, "c": {"or": [1] * 100}},
            "more than 10000 values",
        ),
    ],
)
def test_shared_rules_that_have_no_end_are_refused(shared: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        expanded({"if": [{"$ref": "a"}, "on"]}, shared)


@pytest.mark.parametrize(
    ("rule", "needs"),
    [
        (None, False),
        ({"if": [IS_BETA, "on", "off"]}, False),
        ({"fractional": [["on", 1], ["off", 1]]}, True),
        ({"fractional": [{"var": "email"}, ["on", 1], ["off", 1]]}, False),
        ({"if": [IS_BETA, "on", {"fractional": [["on", 1], ["off", 1]]}]}, True),
        ({"in": [{"var": "targetingKey"}, ["a"]]}, True),
        ({"in": [{"var": ["targetingKey"]}, ["a"]]}, True),
    ],
)
def test_it_is_known_whether_who_the_user_is_may_decide(rule: Any, needs: bool) -> None:
    assert needs_targeting_key(rule) is needs
