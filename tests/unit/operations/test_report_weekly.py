"""The weekly report and its loop over the in-memory platform."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.domain.budget import Charge
from santiago_platform.domain.environment import Environment, Settings, Tenant
from santiago_platform.domain.error_budget import BudgetState
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import PLATFORM, Principal, Role
from santiago_platform.domain.incident import IncidentState
from santiago_platform.domain.proposal import Task
from santiago_platform.domain.report import Report, Section, last_ended_week
from santiago_platform.operations.change import note
from santiago_platform.operations.report_weekly import WeeklyQuery, report_weekly
from santiago_platform.reconcilers.weekly_report import WeeklyReportReconciler
from santiago_platform.testing.rows import incident

ROOT = Principal(name="root", role=Role.OWNER)
SETTINGS = Settings(environments={"production": Environment()}, tenants={"bank": Tenant(services=("till",))})


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform(workspace=FakeWorkspace(("web", "till"), SETTINGS))


async def made(platform: FakePlatform, principal: Principal = ROOT) -> dict[str, Section]:
    report = await report_weekly(platform.ports, principal, WeeklyQuery())
    return {section.title: section for section in report.sections}


async def spend(platform: FakePlatform, usd: str, tenant: str) -> None:
    at = last_ended_week(platform.clock.now()).since + timedelta(days=2, hours=3)
    charge = Charge(
        id=f"ch-{tenant}",
        at=at,
        day=at.date(),
        task=Task.SUMMARY,
        principal="ann",
        role=Role.QA,
        tenant=tenant,
        advisor="one",
        model="m",
        reserved_usd=Decimal(usd),
        amount_usd=Decimal(usd),
    )
    await platform.store.write(lambda tx: tx.save_charge(charge))


async def test_every_section_is_there_and_says_what_it_lacks(platform: FakePlatform) -> None:
    sections = await made(platform)
    assert list(sections) == ["Delivery", "Service levels", "Incidents", "AI budget", "Cost"]
    assert sections["Cost"].missing


async def test_a_week_that_has_not_ended_has_no_report(platform: FakePlatform) -> None:
    last = last_ended_week(platform.clock.now())
    running = last_ended_week(platform.clock.now() + timedelta(days=7))
    with pytest.raises(PlatformError) as caught:
        await report_weekly(platform.ports, ROOT, WeeklyQuery(week=running.name))
    assert last.name in caught.value.hint


async def test_a_source_that_does_not_answer_makes_its_section_missing_and_no_other_one(
    platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(service: str, *, history: bool = False) -> None:
        raise PlatformError(ErrorCode.UNAVAILABLE, "Prometheus does not answer")

    monkeypatch.setattr(platform.error_budget, "states", silent)
    sections = await made(platform)
    assert "Prometheus does not answer" in sections["Service levels"].missing
    assert not sections["Incidents"].missing
    assert not sections["AI budget"].missing


async def test_what_advisors_cost_is_told_by_day_to_the_owner_and_a_tenants_own_to_the_tenant(
    platform: FakePlatform,
) -> None:
    await spend(platform, "1.25", "default")
    await spend(platform, "2", "bank")
    whole = (await made(platform))["AI budget"]
    assert "$3.2500" in whole.words[0]
    assert len(whole.tables[0].rows) == 7
    assert whole.charts[0].limit is not None
    own = (await made(platform, Principal(name="eve", role=Role.DEVELOPER, tenant="bank")))["AI budget"]
    assert "$2.0000" in own.words[0]
    assert own.charts[0].limit is None


async def test_objectives_and_the_incidents_of_the_week_are_of_services_that_the_reader_may_see(
    platform: FakePlatform,
) -> None:
    week = last_ended_week(platform.clock.now())
    aim = BudgetState(service="till", environment="production", slo="speed", target=0.999, period_seconds=86400)
    spent = aim.model_copy(update={"sli_ratio": 0.5, "remaining_ratio": -0.5, "met": False})
    promised = spent.model_copy(update={"slo": "contract", "sla": True})
    platform.error_budget.reported["till"] = (spent, promised)
    began = week.since + timedelta(days=1)

    async def happened(id: str, service: str, tenant: str, **fields: Any) -> None:
        known = {"began_at": began, "opened_at": began, "service": service, "tenant": tenant}
        row = incident(id=id, **{**known, **fields})
        await platform.store.write(lambda tx: tx.save_incident(row))

    await happened("in-0", "web", "default", opened_at=week.since - timedelta(seconds=1))
    minutes = [began + timedelta(minutes=n) for n in (5, 30)]
    over = {"state": IncidentState.RESOLVED, "ended_at": minutes[1], "resolved_at": minutes[1]}
    path = "ships-logs/platform/postmortems/2026-01-01-in-1.md"
    await happened("in-1", "web", "default", acknowledged_at=minutes[0], postmortem=path, **over)
    await happened("in-2", "till", "bank", severity="ticket")
    await happened("in-3", "web", "default", opened_at=week.until)
    whole = await made(platform)
    (row, sla) = whole["Service levels"].tables[0].rows
    assert row == ("till", "production", "speed", "not met", "0.999", "0.500000", "-50.0%")
    assert sla[2] == "contract (SLA)"
    assert whole["Service levels"].words == ("Not kept to customers: till in production: contract.",)
    assert "1 page, 1 ticket. Open still: 1." in whole["Incidents"].words[0]
    speed, listed = whole["Incidents"].tables
    assert ("web", "page", "1", "5.0 min", "30.0 min") in speed.rows
    assert [(r[0], r[-1]) for r in listed.rows] == [("in-2", ""), ("in-1", path)]
    own = await made(platform, Principal(name="ann", role=Role.DEVELOPER))
    assert own["Service levels"].missing == "no service has an SLO"
    assert [r[0] for r in own["Incidents"].tables[1].rows] == ["in-1"]


async def test_the_report_of_the_last_ended_week_is_made_once_and_again_where_it_is_missing(
    platform: FakePlatform,
) -> None:
    await note(platform.ports, PLATFORM, "platform.start", "here", {})
    loop = WeeklyReportReconciler(platform.ports)
    await loop.pass_over()
    assert platform.reports.kept == {}  # the platform is younger than that week
    platform.clock.advance(8 * 86400)
    await loop.pass_over()
    (name,) = platform.reports.kept
    assert name == last_ended_week(platform.clock.now()).name
    first: Report = platform.reports.kept[name]
    platform.clock.advance(60)
    await loop.pass_over()
    assert platform.reports.kept[name] is first
    platform.reports.kept.clear()
    await WeeklyReportReconciler(platform.ports).pass_over()
    assert list(platform.reports.kept) == [name]
