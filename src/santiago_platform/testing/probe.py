"""The contract of ports.probe.Probe: what is so is a MATCH, what only seems so is not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Protocol

import pytest

from ..domain.effect import rules_text
from ..domain.proof import Claim, Proof, Verdict, prove
from ..domain.route import Match, Mirror
from ..ports.probe import Probe

WHERE = "web/production"
CANARY = Match(version="v2", header=("x-canary", 'a.*"b"'))
BACK = Match(version="v1", cookie=("back", "1"), query=("a", "b"))
RULES: tuple[dict[str, Any], ...] = (
    {},
    {"matches": (CANARY,)},
    {"matches": (CANARY, BACK), "mirror": Mirror(version="v2", percent=12.5), "sticky": True},
    {"matches": (BACK, CANARY), "mirror": Mirror(version="v2", percent=100, all_methods=True)},
    {"sticky": True},
    {"matches": (CANARY,), "retries_elsewhere": False},
)


class World(Protocol):
    """What a probe looks at, for a test to turn. Versions are `v1` and `v2`, of the service web in production."""

    async def run(self, version: str, count: int) -> None:
        """So many instances of the version live, not more and not fewer."""

    async def direct(self, **weights: int) -> None:
        """The proxies follow these weights; the versions in it run. Returns when it is so."""

    async def rule(self, **rules: Any) -> None:
        """Both versions run, v1 has the traffic, and the proxies follow these rules besides, named as the fields
        of a route. Returns when it is so."""

    async def blind(self) -> None:
        """No proxy lives any more."""


def claim(subject: str, expected: str) -> Claim:
    return Claim(subject=subject, expected=expected)


def text(**rules: Any) -> str:
    return rules_text(**{"matches": (), "mirror": None, "sticky": False, **rules})


async def proof(probe: Probe, *claims: Claim) -> Proof:
    return prove(claims, await probe.observe(claims), datetime.now(UTC))


class ProbeContract:
    """Fixtures: `probe`, and the `world` that it looks at."""

    async def test_the_truth_about_routes_instances_and_answers_is_a_match(self, probe: Probe, world: World) -> None:
        await world.run("v1", 2)
        await world.direct(v1=1)
        found = await proof(
            probe,
            claim(f"route {WHERE}", "v1=100.0%"),
            claim(f"instances {WHERE} v1", "2"),
            claim(f"serves {WHERE}", "v1"),
        )
        assert found.verdict is Verdict.MATCH, found.summary()

    async def test_two_versions_that_share_the_traffic_are_both_seen(self, probe: Probe, world: World) -> None:
        await world.run("v1", 1)
        await world.run("v2", 1)
        await world.direct(v1=95, v2=5)
        found = await proof(probe, claim(f"route {WHERE}", "v1=95.0% v2=5.0%"), claim(f"serves {WHERE}", "v1,v2"))
        assert found.verdict is Verdict.MATCH, found.summary()

    async def test_weights_that_were_never_given_are_drift(self, probe: Probe, world: World) -> None:
        await world.run("v1", 1)
        await world.direct(v1=1)
        found = await proof(probe, claim(f"route {WHERE}", "v2=100.0%"))
        assert found.verdict is Verdict.DRIFT
        assert {e.observed for e in found.evidence} == {"v1=100.0%"}

    async def test_a_version_that_does_not_answer_is_drift(self, probe: Probe, world: World) -> None:
        await world.run("v1", 1)
        await world.direct(v1=1)
        assert (await proof(probe, claim(f"serves {WHERE}", "v2"))).verdict is Verdict.DRIFT

    async def test_an_instance_that_has_died_is_drift(self, probe: Probe, world: World) -> None:
        await world.run("v1", 2)
        await world.run("v1", 1)
        found = await proof(probe, claim(f"instances {WHERE} v1", "2"))
        assert (found.verdict, found.evidence[0].observed) == (Verdict.DRIFT, "1")

    @pytest.mark.parametrize("rules", RULES, ids=str)
    async def test_the_rules_of_a_route_are_seen_and_no_others(
        self, probe: Probe, world: World, rules: dict[str, Any]
    ) -> None:
        await world.rule(**rules)
        so = text(**rules)
        found = await proof(probe, claim(f"rules {WHERE}", so), claim(f"route {WHERE}", "v1=100.0%"))
        assert found.verdict is Verdict.MATCH, found.summary()
        others = {text(**each) for each in RULES} - {so}
        assert len(others) == len(RULES) - 1
        for other in others:
            assert (await proof(probe, claim(f"rules {WHERE}", other))).verdict is Verdict.DRIFT

    async def test_a_service_that_is_not_there_is_seen_as_none(self, probe: Probe, world: World) -> None:
        found = await proof(
            probe,
            claim("route nobody/production", "none"),
            claim("instances nobody/production v1", "0"),
            claim("serves nobody/production", "none"),
            claim("rules nobody/production", "none"),
        )
        assert found.verdict is Verdict.MATCH, found.summary()

    async def test_what_cannot_be_looked_at_is_unverifiable(self, probe: Probe, world: World) -> None:
        await world.blind()
        found = await proof(probe, claim(f"route {WHERE}", "v1=100.0%"))
        assert found.verdict is Verdict.UNVERIFIABLE
        assert found.evidence[0].detail

    async def test_each_claim_is_answered(self, probe: Probe, world: World) -> None:
        claims = [
            claim(f"route {WHERE}", "none"),
            claim(f"instances {WHERE} v2", "0"),
            claim(f"serves {WHERE}", "none"),
            claim(f"rules {WHERE}", "none"),
        ]
        assert {o.subject for o in await probe.observe(claims)} == {c.subject for c in claims}
