"""What asking advisors has cost today."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from ..domain.budget import Charge, Settlement
from ..domain.identity import Principal, Role
from ..domain.proposal import Task
from ..domain.value import Value
from ..ports import Ports
from .ai_budget import spent_today
from .authority import authorise
from .tenancy import of_all_tenants

LAST_CHARGES = 20
CHARGES_LOOKED_AT = 1_000  # of all tenants, for the last ones of one: a report is read again while it is listened to


class ChargeView(Value):
    """amount_usd: what counts: while it is open, all that was reserved."""

    at: datetime
    task: Task
    by: str
    role: Role
    advisor: str
    model: str
    operation: str = ""
    amount_usd: str
    settlement: Settlement


class BudgetReport(Value):
    """Amounts are decimals in USD, as text so that they are exact. limit_usd, left_usd: of the day, for those who may
    see what all tenants spend; the others see their own tenant's. last: newest first; of a tenant, what is among the
    last 1,000 of all."""

    day: date
    time_zone: str
    spent_usd: str
    limit_usd: str | None = None
    left_usd: str | None = None
    low: bool | None = None
    by_role: dict[Role, str]
    by_task: dict[Task, str]
    last: tuple[ChargeView, ...]


async def report_budget(ports: Ports, principal: Principal) -> BudgetReport:
    """Raises PlatformError(PERMISSION_DENIED)."""
    settings = ports.workspace.last_good_settings()
    authorise(ports, principal, "read_budget", settings)
    budget, spent = await spent_today(ports, ports.clock.now())
    day = budget.day(ports.clock.now())
    whole = of_all_tenants(principal) or settings.tenant_names == {principal.tenant}
    limit = LAST_CHARGES if whole else CHARGES_LOOKED_AT
    charges = list(await ports.store.read(lambda view: view.charges(day=day, limit=limit)))
    if not whole:
        charges = [charge for charge in charges if charge.tenant == principal.tenant]
        spent = spent.of_tenant(principal.tenant)
    return BudgetReport(
        day=day,
        time_zone=budget.time_zone,
        spent_usd=_usd(spent.total_usd),
        limit_usd=_usd(budget.daily_usd) if whole else None,
        left_usd=_usd(max(Decimal(0), budget.daily_usd - spent.total_usd)) if whole else None,
        low=budget.is_low(spent) if whole else None,
        by_role={role: _usd(amount) for role, amount in spent.by_role.items()},
        by_task={task: _usd(amount) for task, amount in spent.by_task.items()},
        last=tuple(_view(charge) for charge in charges[:LAST_CHARGES]),
    )


def _view(charge: Charge) -> ChargeView:
    return ChargeView(
        at=charge.at,
        task=charge.task,
        by=charge.principal,
        role=charge.role,
        advisor=charge.advisor,
        model=charge.model,
        operation=charge.operation,
        amount_usd=_usd(charge.amount_usd),
        settlement=charge.settlement,
    )


def _usd(amount: Decimal) -> str:
    return f"{amount.normalize():f}"
