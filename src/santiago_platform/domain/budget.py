"""The AI budget: what a day may cost, and the ledger of what it did. Pure.

The worst case is charged before a call and settled after it, so that however many ask at once, and whatever crashes,
a day never costs more than its limit, unless a provider counts more than can be: that counts in full, so that no more
is asked. A charge that nobody settles stays at its worst case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field

from .errors import ErrorCode, PlatformError
from .identity import Name, Role
from .proposal import Task, Usage
from .value import Value

NANO = Decimal("0.000000001")  # the ledger counts in billionths of a dollar: the cheapest token costs some of them

MOST_USD = Decimal(1_000_000)  # of one charge, whatever a provider says: sums stay numbers of the store
MOST_TOKENS = 10**12

Usd = Annotated[Decimal, Field(ge=0, max_digits=18, decimal_places=9)]


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as exc:
        raise ValueError(f"there is no time zone {name[:80]}; for example Europe/Zurich") from exc
    return name


class Price(Value):
    """In USD a million tokens."""

    input_usd: Annotated[Decimal, Field(ge=0, le=10_000)]
    output_usd: Annotated[Decimal, Field(ge=0, le=10_000)]

    def of(self, usage: Usage) -> Decimal:
        """In USD, rounded up to a billionth."""
        read, written = min(usage.input_tokens, MOST_TOKENS), min(usage.output_tokens, MOST_TOKENS)
        exact = (self.input_usd * read + self.output_usd * written) / 1_000_000
        return exact.quantize(NANO, rounding=ROUND_CEILING)


class AiBudget(Value):
    """What asking advisors may cost a day. time_zone: in which a day begins at midnight.

    warn_ratio: from this share of the day's limit on, everybody is told and the cheaper model is asked.
    roles, tasks: limits of their own under the day's. prices: by model, or by the provider's name and model
    as `copilot/gpt-5.4`, before the price list that ships.
    """

    daily_usd: Usd = Decimal(30)
    time_zone: Annotated[str, Field(max_length=64), AfterValidator(_zone)] = "UTC"
    warn_ratio: Annotated[float, Field(gt=0, le=1)] = 0.8
    roles: dict[Role, Usd] = {}
    tasks: dict[Task, Usd] = {}
    prices: dict[Annotated[str, Field(min_length=1, max_length=100)], Price] = {}

    def day(self, at: datetime) -> date:
        return at.astimezone(ZoneInfo(self.time_zone)).date()

    def refusal(self, charge: Charge, spent: Spent) -> PlatformError | None:
        """Why the charge may not be made; None where it may. spent: of its day, without it."""
        limits = (
            ("the day's AI budget", self.daily_usd, spent.total_usd),
            (f"the AI budget of role {charge.role}", self.roles.get(charge.role), spent.by_role.get(charge.role, ZERO)),
            (f"the AI budget of {charge.task}", self.tasks.get(charge.task), spent.by_task.get(charge.task, ZERO)),
        )
        for what, limit, used in limits:
            if limit is not None and used + charge.amount_usd > limit:
                return PlatformError(
                    ErrorCode.RESOURCE_EXHAUSTED,
                    f"{what} of ${limit:f} does not suffice: asking {charge.model} may cost ${charge.amount_usd:f}",
                    f"the built-in planner needs none; a new day begins at midnight in {self.time_zone}",
                    internal=f"${used:f} is spent or reserved",  # by all tenants, who do not know of each other
                )
        return None

    def is_low(self, spent: Spent) -> bool:
        """From here on the cheaper model is asked, and somebody should know."""
        return spent.total_usd >= self.daily_usd * Decimal(str(self.warn_ratio))

    def becomes_low(self, charge: Charge, spent: Spent) -> bool:
        """Whether it is the charge that does it. spent: of its day, without it."""
        with_it = Spent(total_usd=spent.total_usd + charge.amount_usd)
        return self.is_low(with_it) and not self.is_low(spent)


ZERO = Decimal(0)


class Settlement(StrEnum):
    OPEN = "open"  # the call is under way, or whoever made it has crashed
    ANSWERED = "answered"  # at what the provider says it used
    RELEASED = "released"  # nothing was sent, or the provider refused it unread
    UNKNOWN = "unknown"  # a time-out, a cut stream: it may have cost all that was reserved


class Charge(Value):
    """A line of the ledger. day: whose limit it counts against. reserved_usd: the worst case.
    amount_usd: what counts. warned: it was the one that made the day's budget low, which is told once.
    """

    id: str
    at: datetime
    day: date
    operation: str = ""
    task: Task
    principal: Name
    role: Role
    tenant: Name
    advisor: str
    model: str
    reserved_usd: Usd
    amount_usd: Usd
    settlement: Settlement = Settlement.OPEN
    usage: Usage | None = None
    warned: bool = False

    @property
    def is_beyond(self) -> bool:
        """Whether it cost more than the worst case, so that the limits have not held."""
        return self.amount_usd > self.reserved_usd

    def settled(self, settlement: Settlement, usage: Usage | None = None, price: Price | None = None) -> Charge:
        """Once; a charge that was settled stays as it is. What was answered counts for what it cost, beyond what was
        reserved too: it is to be paid."""
        if self.settlement is not Settlement.OPEN:
            return self
        amount = self.reserved_usd
        if settlement is Settlement.RELEASED:
            amount = ZERO
        elif settlement is Settlement.ANSWERED and usage is not None and price is not None:
            amount = min(price.of(usage), MOST_USD)
        return self.model_copy(update={"settlement": settlement, "usage": usage, "amount_usd": amount})


class Spent(Value):
    """What a day has cost so far, open reservations included. parts: by role, task and tenant."""

    total_usd: Decimal = ZERO
    by_role: Mapping[Role, Decimal] = {}
    by_task: Mapping[Task, Decimal] = {}
    by_tenant: Mapping[Name, Decimal] = {}
    parts: Mapping[tuple[Role, Task, Name], Decimal] = {}

    def of_tenant(self, tenant: Name) -> Spent:
        """What one tenant has."""
        return Spent.of((*key, usd) for key, usd in self.parts.items() if key[2] == tenant)

    @classmethod
    def of(cls, amounts: Iterable[tuple[str, str, str, Decimal]]) -> Spent:
        """amounts: role, task, tenant and USD, of one or several charges each."""
        total = ZERO
        sums: tuple[dict[str, Decimal], ...] = ({}, {}, {})
        parts: dict[tuple[str, str, str], Decimal] = {}
        for role, task, tenant, usd in amounts:
            total += usd
            parts[role, task, tenant] = parts.get((role, task, tenant), ZERO) + usd
            for by, key in zip(sums, (role, task, tenant), strict=True):
                by[key] = by.get(key, ZERO) + usd
        by_role, by_task, by_tenant = sums
        return cls.model_validate(
            {"total_usd": total, "by_role": by_role, "by_task": by_task, "by_tenant": by_tenant, "parts": parts}
        )
