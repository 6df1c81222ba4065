from __future__ import annotations

from decimal import Decimal

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.domain.budget import Charge
from santiago_platform.domain.environment import Environment, Settings, Tenant
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.proposal import Task
from santiago_platform.operations.report_budget import CHARGES_LOOKED_AT, LAST_CHARGES, report_budget
from santiago_platform.ports.store import Transaction

SETTINGS = Settings(
    environments={"staging": Environment()}, tenants={"shop": Tenant(services=("till",)), "bank": Tenant()}
)


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform(workspace=FakeWorkspace(settings=SETTINGS))


async def spend(platform: FakePlatform, tenant: str, count: int, usd: str) -> None:
    now = platform.clock.now()

    def unit(tx: Transaction) -> None:
        for number in range(count):
            tx.save_charge(
                Charge(
                    id=f"ch-{tenant}-{number:05}",
                    at=now,
                    day=now.date(),
                    task=Task.SCALING_PLAN if number % 2 else Task.SUMMARY,
                    principal="ann",
                    role=Role.DEVELOPER if number % 2 else Role.QA,
                    tenant=tenant,
                    advisor="one",
                    model="m",
                    reserved_usd=Decimal(usd),
                    amount_usd=Decimal(usd),
                )
            )

    await platform.store.write(unit)


async def test_a_tenant_sees_what_it_has_spent_exactly_however_much_others_have(platform: FakePlatform) -> None:
    await spend(platform, "shop", 40, "0.01")
    await spend(platform, "bank", CHARGES_LOOKED_AT, "0.001")
    shop = await report_budget(platform.ports, Principal(name="sam", role=Role.DEVELOPER, tenant="shop"))
    assert (shop.spent_usd, shop.limit_usd) == ("0.4", None)
    assert shop.by_role == {Role.DEVELOPER: "0.2", Role.QA: "0.2"}
    assert shop.by_task == {Task.SCALING_PLAN: "0.2", Task.SUMMARY: "0.2"}
    bank = await report_budget(platform.ports, Principal(name="bea", role=Role.DEVELOPER, tenant="bank"))
    assert (bank.spent_usd, len(bank.last)) == ("1", LAST_CHARGES)
    owner = await report_budget(platform.ports, Principal(name="root", role=Role.OWNER))
    assert owner.spent_usd == "1.4"


async def test_a_report_of_a_tenant_reads_no_whole_day(platform: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[int] = []
    rows = type(await platform.store.read(lambda view: view))
    charges = rows.charges

    def counted(self: object, *, limit: int = 50, **given: object) -> object:
        limits.append(limit)
        return charges(self, limit=limit, **given)

    monkeypatch.setattr(rows, "charges", counted)
    await report_budget(platform.ports, Principal(name="sam", role=Role.DEVELOPER, tenant="shop"))
    assert max(limits) <= CHARGES_LOOKED_AT
