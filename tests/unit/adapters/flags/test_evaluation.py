from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from santiago_platform.adapters.flags.evaluation import Evaluation
from santiago_platform.domain.flag import FlagFile
from santiago_platform.domain.ramp import Ramp

BOOLEAN = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}


def evaluation(flag: dict[str, Any], **rest: Any) -> Evaluation:
    return Evaluation(FlagFile.model_validate({"flags": {"x": flag}, **rest}))


def answer(flag: dict[str, Any], context: dict[str, Any] | None = None, **rest: Any) -> dict[str, Any]:
    found = evaluation(flag, **rest).one("production", "x", context or {})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("variants", "default", "value"),
    [
        ({"on": True, "off": False}, "off", False),
        ({"a": "", "b": "x"}, "a", ""),
        ({"none": 0, "one": 1}, "none", 0),
        ({"low": 1, "high": 1.5}, "low", 1.0),
        ({"empty": {}, "full": {"a": [1, {"b": None}]}}, "empty", {}),
        ({"empty": {}, "full": {"a": [1, {"b": None}]}}, "full", {"a": [1, {"b": None}]}),
    ],
)
def test_a_value_of_each_type_is_served_as_it_is(variants: dict[str, Any], default: str, value: Any) -> None:
    found = answer({"state": "ENABLED", "variants": variants, "defaultVariant": default})
    assert (found["value"], found["variant"], found["reason"]) == (value, default, "STATIC")
    assert type(found["value"]) is type(value)


@pytest.mark.parametrize("flag", [{**BOOLEAN, "state": "DISABLED"}, {"state": "ENABLED", "variants": {"on": True}}])
def test_the_codes_own_default_is_an_answer_without_a_value(flag: dict[str, Any]) -> None:
    found = answer(flag)
    assert "value" not in found
    assert (found["variant"], found["reason"]) == ("", "DISABLED" if flag["state"] == "DISABLED" else "UNKNOWN")


def test_rules_decide_by_the_context() -> None:
    flag = {**BOOLEAN, "targeting": {"if": [{"==": [{"var": "plan"}, "beta"]}, "on"]}}
    assert answer(flag, {"plan": "beta"})["reason"] == "TARGETING_MATCH"
    assert (answer(flag, {"plan": "free"})["value"], answer(flag)["value"]) == (False, False)


def test_shared_rules_with_signs_that_other_programs_stumble_over_decide_too() -> None:
    flag = {**BOOLEAN, "targeting": {"if": [{"$ref": "odd"}, "on"]}}
    odd = {"==": [{"var": "path"}, 'C:\\new"\\1']}
    assert answer(flag, {"path": 'C:\\new"\\1'}, **{"$evaluators": {"odd": odd}})["value"] is True


def test_shares_of_users_need_a_key_and_say_so() -> None:
    flag = {**BOOLEAN, "targeting": Ramp.constant("on", "off", 100).rule()}
    assert answer(flag)["errorCode"] == "TARGETING_KEY_MISSING"
    assert answer(flag, {"targetingKey": ""})["errorCode"] == "TARGETING_KEY_MISSING"
    assert (answer(flag, {"targetingKey": "ann"})["value"], answer(flag, {"targetingKey": "ann"})["reason"]) == (
        True,
        "SPLIT",
    )


def test_a_percentage_is_that_of_the_users_and_who_has_it_keeps_it() -> None:
    having: set[str] = set()
    for percent in (0, 1, 10, 50, 99, 100):
        of = evaluation({**BOOLEAN, "targeting": Ramp.constant("on", "off", percent).rule()})
        users = {f"user-{n}" for n in range(2000)}
        now = {u for u in users if (of.one("production", "x", {"targetingKey": u}) or {})["value"]}
        assert having <= now
        assert abs(len(now) / len(users) - percent / 100) < 0.04
        having = now


def test_a_ramp_moves_by_itself_and_nobody_loses_what_it_gave() -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    users = [f"user-{n}" for n in range(1000)]
    shares, having = [], set[str]()
    for passed in (-60, 0, 900, 1800, 3600, 7200):  # seconds since its start, as if it had begun so long ago
        start = now - timedelta(seconds=passed)
        ramp = Ramp(
            variant="on", rest="off", from_percent=10, to_percent=90, start=start, end=start + timedelta(hours=1)
        )
        of = evaluation({**BOOLEAN, "targeting": ramp.rule()})
        on = {u for u in users if (of.one("production", "x", {"targetingKey": u}) or {})["value"]}
        assert having <= on
        having = on
        shares.append(len(on) / len(users))
    assert shares == pytest.approx([0.1, 0.1, 0.3, 0.5, 0.9, 0.9], abs=0.04)


@pytest.mark.parametrize(
    ("targeting", "context"),
    [
        ({"if": [{"/": [1, {"var": "n"}]}, "on"]}, {"n": 0}),
        ({"if": [{"<": [{"var": "n"}, 3]}, "on"]}, {"n": {"a": 1}}),
        ({"var": "variant"}, {"variant": "nothing of it"}),
        ({"var": "variant"}, {"variant": {"a": 1}}),
        ({"reduce": [{"var": "list"}, {"+": [{"var": "current"}, {"var": "accumulator"}]}, 0]}, {"list": "x"}),
        ({"if": [{"sem_ver": [{"var": "v"}, ">", "1.0.0"]}, "on"]}, {"v": []}),
    ],
)
def test_a_context_that_the_rules_do_not_expect_breaks_that_answer_alone(
    targeting: Any, context: dict[str, Any]
) -> None:
    file = {"x": {**BOOLEAN, "targeting": targeting}, "other": BOOLEAN}
    found = Evaluation(FlagFile.model_validate({"flags": file})).all("production", context)
    assert [f["key"] for f in found] == ["x", "other"]
    assert found[0].get("errorCode") in (None, "GENERAL", "PARSE_ERROR")
    assert found[1]["value"] is False


def test_an_environment_serves_its_own_and_others_what_is_for_all() -> None:
    of = evaluation(BOOLEAN, environments={"staging": {"x": {"defaultVariant": "on"}}})
    values = [(of.one(name, "x", {}) or {})["value"] for name in ("staging", "production", "unknown")]
    assert values == [True, False, False]


def test_metadata_is_served_with_the_definition_that_it_was() -> None:
    metadata = {"owner": "web", "definition": "mine"}
    found = answer({**BOOLEAN, "metadata": metadata}, metadata={"team": "a"})
    assert found["metadata"]["team"] == "a"
    assert found["metadata"]["owner"] == "web"
    assert len(found["metadata"]["definition"]) == 12


def test_another_revision_tells_that_a_ramp_has_moved() -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    ramp = Ramp(variant="on", rest="off", from_percent=0, to_percent=100, start=now, end=now + timedelta(hours=1))
    of = evaluation({**BOOLEAN, "targeting": ramp.rule()})
    seen = {of.revision(now + timedelta(seconds=seconds)) for seconds in range(-60, 3700, 9)}
    assert len(seen) == 101
    assert len({evaluation(BOOLEAN).revision(now), evaluation(BOOLEAN).revision(now + timedelta(days=9))}) == 1
