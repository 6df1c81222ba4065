from __future__ import annotations

from datetime import timedelta

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.domain.environment import Environment, Settings, Tenant
from santiago_platform.domain.error_budget import budget_state, tightest
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.slo import DAY, Events, Slo
from santiago_platform.domain.slo_rules import PERIOD_BAD, PERIOD_TOTAL, REMAINING, SLI
from santiago_platform.operations.report_slo import report_slo

OWNER = Principal(name="root", role=Role.OWNER)
SLO = Slo(
    service="web",
    environment="production",
    name="availability",
    indicator=Events(bad="b", total="t"),
    target=0.999,
)
GOOD = {SLI: 0.9995, REMAINING: 0.5, PERIOD_BAD: 5, PERIOD_TOTAL: 10_000, "slo:burn_rate:6h": 2.0}


@pytest.fixture
def platform() -> FakePlatform:
    settings = Settings(
        environments={"production": Environment()}, tenants={"shop": Tenant(services=("till",)), "bank": Tenant()}
    )
    return FakePlatform(workspace=FakeWorkspace(("web", "till", "plain"), settings=settings))


async def test_a_state_says_what_is_left_and_when_it_is_spent(platform: FakePlatform) -> None:
    now = platform.clock.now()
    state = budget_state(SLO, GOOD, now)
    assert (state.met, state.remaining_ratio, state.burn_rates) == (True, 0.5, {"6h": 2.0})
    assert state.exhausted_at == now + timedelta(days=7)  # half of 28 days, at twice the rate
    assert budget_state(SLO, {**GOOD, REMAINING: -0.1}, now).exhausted_at == now
    assert budget_state(SLO, {**GOOD, "slo:burn_rate:6h": 1.0}, now).exhausted_at is None


async def test_what_is_not_recorded_is_unknown_and_never_met(platform: FakePlatform) -> None:
    state = budget_state(SLO, {}, platform.clock.now())
    assert (state.met, state.budget.remaining_ratio, state.exhausted_at) == (None, None, None)


async def test_gates_ask_the_tightest_objective_and_never_an_sla(platform: FakePlatform) -> None:
    now = platform.clock.now()
    sla = SLO.model_copy(update={"sla": True, "target": 0.9999})
    looser = SLO.model_copy(update={"name": "latency", "target": 0.99})
    found = tightest([budget_state(slo, GOOD, now) for slo in (sla, looser, SLO)])
    assert found is not None
    assert found.slo == "availability"
    assert tightest([budget_state(sla, GOOD, now)]) is None


async def test_the_report_names_breaches_and_what_has_no_slo(platform: FakePlatform) -> None:
    now = platform.clock.now()
    sla = SLO.model_copy(update={"name": "availability-sla", "sla": True})
    platform.error_budget.reported["web"] = (
        budget_state(SLO, GOOD, now),
        budget_state(sla, {SLI: 0.9, REMAINING: -99.0}, now),
    )
    report = await report_slo(platform.ports, OWNER)
    assert [view.summary[:8] for view in report.slos] == ["met: 99.", "breached"]
    assert report.breached == ("web in production: availability-sla",)
    assert report.without == ("plain", "till")


async def test_a_tenant_sees_its_own_services_alone(platform: FakePlatform) -> None:
    platform.error_budget.reported["web"] = (budget_state(SLO, GOOD, platform.clock.now()),)
    report = await report_slo(platform.ports, Principal(name="ann", role=Role.DEVELOPER, tenant="shop"))
    assert (report.slos, report.without) == ((), ("till",))
    assert SLO.kept_seconds == 56 * DAY
