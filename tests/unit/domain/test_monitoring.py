from __future__ import annotations

from santiago_platform.domain.monitoring import NONE, claims_of, differences, observed
from santiago_platform.domain.proof import Verdict, prove
from santiago_platform.domain.rules import Rule, RuleGroup
from santiago_platform.testing.rows import START

SLOW = Rule(alert="Slow", expr="sum(x) > 1", for_seconds=60.0, labels={"severity": "page"})
GROUP = RuleGroup(name="web", interval_seconds=60.0, rules=(SLOW, Rule(record="a:b", expr="sum(b)")))


def verdict(loaded: RuleGroup | None) -> Verdict:
    claims = claims_of("web", [GROUP])
    return prove(claims, observed("web", claims, [loaded] if loaded else [], "test"), START).verdict


def test_rules_that_were_stored_and_written_in_another_way_are_the_same() -> None:
    stored = RuleGroup.model_validate_json(GROUP.stored())
    written = SLOW.model_copy(update={"expr": "sum (x)>1"})
    assert verdict(stored) is Verdict.MATCH
    assert verdict(stored.model_copy(update={"rules": (written, stored.rules[1])})) is Verdict.MATCH


def test_each_part_of_a_rule_that_differs_is_drift() -> None:
    for change in ({"expr": "sum(x) > 2"}, {"for_seconds": 61}, {"labels": {}}, {"annotations": {"summary": "x"}}):
        other = SLOW.model_copy(update=change)
        assert verdict(GROUP.model_copy(update={"rules": (other, GROUP.rules[1])})) is Verdict.DRIFT
        assert len(differences([GROUP], [GROUP.model_copy(update={"rules": (other, GROUP.rules[1])})])) == 1
    assert verdict(GROUP.model_copy(update={"interval_seconds": 30})) is Verdict.DRIFT
    assert verdict(None) is Verdict.DRIFT


def test_what_has_to_be_gone_is_claimed_too() -> None:
    claims = claims_of("web", [], ["web"])
    assert [claim.expected for claim in claims] == [NONE]
    assert observed("web", claims, [GROUP], "test")[0].value != NONE
    assert observed("web", claims, None, "test")[0].value is None


def test_what_comes_goes_and_changes_is_told_by_name_also_where_a_name_is_there_twice() -> None:
    ticket = SLOW.model_copy(update={"labels": {"severity": "ticket"}})
    two = GROUP.model_copy(update={"rules": (SLOW, ticket)})
    assert differences([], [two])[1].startswith("comes: alert (ticket) Slow{severity=ticket} of web")
    assert [line.split(":")[0] for line in differences([GROUP], [two])] == ["comes", "goes"]
    assert differences([two], [two]) == ()


def test_a_change_of_one_of_several_rules_that_are_named_and_labelled_alike_is_told() -> None:
    """As policies of the same name and severity make them."""
    rules = [SLOW.model_copy(update={"expr": f"sum(x) > {n}"}) for n in (1, 2, 3)]
    before = GROUP.model_copy(update={"rules": tuple(rules)})
    rules[1] = rules[1].model_copy(update={"expr": "sum(x) > 9"})
    assert len(differences([before], [GROUP.model_copy(update={"rules": tuple(rules)})])) == 1
