"""The ledger of the AI budget: reserved before a call, in the transaction that looks at the limits; settled after."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from ..domain.budget import AiBudget, Charge, Price, Settlement, Spent
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import PLATFORM, Principal
from ..domain.proposal import Ask, Usage
from ..ports import Ports
from ..ports.store import Transaction
from .change import note

CHARGES_OF_A_DAY = 100_000  # more than a day's budget pays for


def worst_case(ask: Ask, price: Price) -> Decimal:
    """In USD: as many prompt tokens as the prompt has bytes, and an answer as long as it may be."""
    return price.of(Usage(input_tokens=ask.most_prompt_tokens, output_tokens=ask.max_answer_tokens))


async def reserve(
    ports: Ports,
    principal: Principal,
    ask: Ask,
    *,
    advisor: str,
    model: str,
    price: Price | None,
    operation: str = "",
) -> Charge:
    """Charges the worst case of one call. Raises RESOURCE_EXHAUSTED where a limit does not suffice, with nothing
    charged, and FAILED_PRECONDITION where nobody knows what the model costs."""
    if price is None:
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"nobody knows what {model} costs, so {advisor} is not asked",
            f"say it in santiago.yaml: budget.prices, {advisor}/{model}, input_usd and output_usd a million tokens",
        )
    budget, now = ports.workspace.last_good_settings().budget, ports.clock.now()
    worst = worst_case(ask, price)
    charge = Charge(
        id=ports.clock.new_id("ch"),
        at=now,
        day=budget.day(now),
        operation=operation,
        task=ask.task,
        principal=principal.name,
        role=principal.role,
        tenant=principal.tenant,
        advisor=advisor,
        model=model,
        reserved_usd=worst,
        amount_usd=worst,
    )

    def unit(tx: Transaction) -> tuple[Charge, Decimal]:
        spent = tx.spent(charge.day)
        refused = budget.refusal(charge, spent)
        if refused is not None:
            raise refused
        # Settling lowers what is spent, so it may become low again: the day's ledger knows whether it was told.
        low = budget.becomes_low(charge, spent) and not any(
            c.warned for c in tx.charges(day=charge.day, limit=CHARGES_OF_A_DAY)
        )
        made = charge.model_copy(update={"warned": low})
        tx.save_charge(made)
        return made, spent.total_usd + charge.amount_usd

    made, total = await ports.store.write(unit)
    if made.warned:
        body = {"day": made.day.isoformat(), "spent_usd": f"{total:f}", "daily_usd": f"{budget.daily_usd:f}"}
        body["reason"] = "the day's AI budget is low: from now on the cheaper models are asked"
        await note(ports, PLATFORM, "budget.low", "AI budget", body)
    return made


async def settle(
    ports: Ports, charge: Charge, settlement: Settlement, usage: Usage | None = None, price: Price | None = None
) -> Charge:
    """The charge as it counts from now on; once. One that went beyond its worst case is noted in the ship's log."""

    def unit(tx: Transaction) -> tuple[Charge, bool]:
        before = tx.charge(charge.id) or charge
        settled = before.settled(settlement, usage, price)
        tx.save_charge(settled)
        return settled, settled.is_beyond and not before.is_beyond

    settled, beyond = await ports.store.write(unit)
    if beyond:
        body = {
            "charge": settled.id,
            "amount_usd": f"{settled.amount_usd:f}",
            "reserved_usd": f"{settled.reserved_usd:f}",
        }
        body["reason"] = f"{settled.advisor} counts more tokens than its prompt and answer could have: {settled.model}"
        await note(ports, PLATFORM, "budget.exceeded", "AI budget", body)
    return settled


async def settle_interrupted(ports: Ports) -> int:
    """At start: what was under way when the platform ended may have cost all that was reserved. Returns how many."""

    def unit(tx: Transaction) -> int:
        left = tx.charges(unsettled=True, limit=CHARGES_OF_A_DAY)
        for charge in left:
            tx.save_charge(charge.settled(Settlement.UNKNOWN))
        return len(left)

    return await ports.store.write(unit)


async def spent_today(ports: Ports, now: datetime) -> tuple[AiBudget, Spent]:
    budget = ports.workspace.last_good_settings().budget
    day = budget.day(now)
    return budget, await ports.store.read(lambda view: view.spent(day))
