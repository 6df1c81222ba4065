"""The contract of ports.rules.Rules: what is applied is what the evaluator says that it runs."""

from __future__ import annotations

import pytest

from ..domain.errors import ErrorCode, PlatformError
from ..domain.expression import canonical
from ..domain.rules import Rule, RuleGroup, RuleTest
from ..ports.rules import Rules

OWNER = "web"
HIGH = Rule(
    alert="HighLoad",
    expr='max by (instance) (load{service="web"}) > 5',
    for_seconds=120,
    labels={"severity": "page", "service": "web"},
    annotations={"summary": 'the "load" is {{ $value }}\nand high', "runbook_url": "https://example.org/ünïcode"},
)
RECORDED = Rule(record="service:load:max", expr="max by (service) (load)", labels={"team": "web"})
GROUP = RuleGroup(name="web/load", interval_seconds=30, rules=(RECORDED, HIGH))
LOAD = 'load{service="web",instance="a"}'
FIRING = {"alertname": "HighLoad", "severity": "page", "service": "web", "instance": "a"}
FIRES = RuleTest(name="fires", series={LOAD: "9x10"}, alerts=(("HighLoad", 60, ()), ("HighLoad", 180, (FIRING,))))
WRONG = RuleTest(name="wrong", series={LOAD: "1x10"}, alerts=(("HighLoad", 180, (FIRING,)),))


def plain(groups: tuple[RuleGroup, ...]) -> list[RuleGroup]:
    """Expressions in their one way of writing: evaluators write them anew."""
    return [
        group.model_copy(update={"rules": tuple(r.model_copy(update={"expr": canonical(r.expr)}) for r in group.rules)})
        for group in groups
    ]


class RulesContract:
    """Fixtures: `rules` of an evaluator that runs and has no rules; `unanswering` of one that does not. What writes
    files for others to load overrides `load`, which has that done."""

    async def load(self, rules: Rules) -> None: ...

    async def test_what_is_applied_is_loaded_and_no_groups_remove_it(self, rules: Rules) -> None:
        assert await rules.loaded(OWNER) == ()
        await rules.apply(OWNER, [GROUP])
        await self.load(rules)
        assert plain(await rules.loaded(OWNER)) == [GROUP.model_copy(update={"rules": tuple(GROUP.rules)})]
        await rules.apply(OWNER, [])
        await self.load(rules)
        assert await rules.loaded(OWNER) == ()
        await rules.apply(OWNER, [])

    async def test_each_owner_has_its_own_and_they_are_replaced_as_a_whole(self, rules: Rules) -> None:
        other = RuleGroup(name="shop/load", rules=(RECORDED,))
        await rules.apply(OWNER, [GROUP])
        await rules.apply("shop", [other])
        await rules.apply(OWNER, [GROUP.model_copy(update={"rules": (HIGH,)})])
        await self.load(rules)
        assert [rule.alert for group in await rules.loaded(OWNER) for rule in group.rules] == ["HighLoad"]
        assert [group.name for group in await rules.loaded("shop")] == ["shop/load"]
        for owner in (OWNER, "shop"):
            await rules.apply(owner, [])
        await self.load(rules)

    async def test_applying_twice_is_applying_once(self, rules: Rules) -> None:
        for _ in range(2):
            await rules.apply(OWNER, [GROUP])
        await self.load(rules)
        assert [group.name for group in await rules.loaded(OWNER)] == ["web/load"]
        await rules.apply(OWNER, [])
        await self.load(rules)

    async def test_what_does_not_parse_and_what_fails_its_tests_is_refused_before_it_is_loaded(
        self, rules: Rules
    ) -> None:
        broken = GROUP.model_copy(update={"rules": (HIGH.model_copy(update={"expr": "sum(load"}),)})
        with pytest.raises(PlatformError) as caught:
            await rules.check([broken])
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT
        with pytest.raises(PlatformError) as caught:
            await rules.check([GROUP], [FIRES, WRONG])
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT
        assert "wrong" in caught.value.message
        await rules.check([GROUP], [FIRES])
        assert await rules.loaded(OWNER) == ()

    async def test_whoever_does_not_answer_is_unavailable(self, unanswering: Rules) -> None:
        with pytest.raises(PlatformError) as caught:
            await unanswering.loaded(OWNER)
        assert caught.value.code is ErrorCode.UNAVAILABLE
