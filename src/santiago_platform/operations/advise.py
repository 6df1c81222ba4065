"""Asks the advisors for a draft, one after the other, within the AI budget; the built-in planner always answers last.

What comes back is data until it is checked: JSON of the wanted schema, and then everything that any caller's request
has to pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from itertools import dropwhile
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ..domain.advisor import CLIENT
from ..domain.budget import ZERO, Charge, Price, Settlement
from ..domain.context import clean
from ..domain.errors import ErrorCode, PlatformError
from ..domain.guard_rails import check_cost
from ..domain.identity import Principal
from ..domain.proposal import Ask, Completion, Draft, Planner, Proposal, Usage
from ..ports import Ports
from ..ports.advisors import Advisor, AnswerError, NotBilledError
from ..ports.client_model import NeedsInput, calling
from ..ports.traces import Kind
from .ai_budget import reserve, settle, spent_today, worst_case

CORRECTABLE = frozenset({ErrorCode.INVALID_ARGUMENT, ErrorCode.NOT_FOUND})
TRIES = 2  # of one advisor: the second is told what was wrong with the first answer

T = TypeVar("T", bound=BaseModel)


async def advise(
    ports: Ports,
    principal: Principal,
    ask: Ask,
    draft: type[Draft[T]],
    *,
    operation: str = "",
    check: Callable[[T], Awaitable[None]] | None = None,
) -> Proposal[T]:
    """The first draft that holds. check: raises PlatformError for a request that cannot be: one that names what does
    not exist is corrected like one that is not valid; any other refusal ends it and is raised here.

    Raises the built-in planner's own error where nobody made a draft.
    """
    budget, spent = await spent_today(ports, ports.clock.now())
    cheap = budget.is_low(spent) or not ask.task.strong
    tried: list[str] = []
    cost = ZERO
    last: PlatformError | None = None
    order = ports.advisors.order(ask.task)
    client = calling.get()
    if client is not None and client.operation:
        # The call is made again with the client's answer: who comes before it was asked, and charged, already.
        tried, cost = list(client.tried), client.cost_usd
        order = list(dropwhile(lambda advisor: advisor.name != CLIENT, order)) or order
    for advisor in order:
        earlier, earlier_cost = tuple(tried), cost
        model = advisor.model(ask.task, cheap=cheap)
        correction = ""
        for _ in range(TRIES if model or advisor.name == CLIENT else 1):
            asked = ask.model_copy(update={"correction": correction})
            try:
                completion, amount = await _call(ports, principal, advisor, model, asked, operation, cost)
            except _Failed as failed:
                cost, last = cost + failed.cost_usd, failed.why
                tried.append(f"{Planner(advisor=advisor.name, model=model)}: {failed.why.message}")
                break
            except NeedsInput as needed:
                needed.tried, needed.cost_usd = tuple(clean(ports.advisors.redacted(x)) for x in earlier), earlier_cost
                raise
            cost += amount
            try:
                checked = draft.model_validate_json(completion.text)
                if check is not None:
                    await check(checked.request)
            except (ValidationError, PlatformError) as exc:
                if isinstance(exc, PlatformError):
                    if exc.code not in CORRECTABLE:
                        raise
                    last = exc
                correction = _words(exc) if isinstance(exc, ValidationError) else f"{exc.message} ({exc.hint})"[:2000]
                tried.append(f"{Planner(advisor=advisor.name, model=model)}: its answer does not hold: {correction}")
                continue
            return Proposal(
                draft=checked,
                by=Planner(advisor=advisor.name, model=completion.model),
                tried=tuple(tried),
                cost_usd=cost,
            )
    if last is None:
        last = PlatformError(ErrorCode.UNAVAILABLE, "no advisor made a plan of it", "say it by typed arguments")
    before = f"; before that, {'; '.join(tried[:-1])}" if len(tried) > 1 else ""
    raise PlatformError(last.code, last.message, (last.hint + before)[:2000], internal=last.internal) from last


class _Failed(Exception):  # noqa: N818 - not an error of its own: it carries one
    def __init__(self, why: PlatformError, cost_usd: Decimal) -> None:
        super().__init__(why.message)
        self.why = why
        self.cost_usd = cost_usd


async def _call(
    ports: Ports, principal: Principal, advisor: Advisor, model: str, ask: Ask, operation: str, spent_usd: Decimal
) -> tuple[Completion, Decimal]:
    """One call, charged. spent_usd: on the proposal before it. Raises _Failed with what it may have cost."""
    if not model:
        try:
            return await advisor.propose(ask, model), ZERO
        except PlatformError as exc:
            raise _Failed(exc, ZERO) from exc
    price = advisor.price(model)
    try:
        if price is not None:
            rails = ports.workspace.last_good_settings().advisors.guard_rails
            check_cost(rails, spent_usd, worst_case(ask, price))
        charge = await reserve(
            ports, principal, ask, advisor=advisor.name, model=model, price=price, operation=operation
        )
    except PlatformError as exc:
        raise _Failed(exc, ZERO) from exc
    if not ports.advisors.begin(advisor):
        await _settle(ports, charge, Settlement.RELEASED)
        raise _Failed(PlatformError(ErrorCode.UNAVAILABLE, "it is left alone after several failures"), ZERO)
    try:
        completion = await _asked(ports, advisor, model, ask, operation)
    except NotBilledError as exc:
        await _settle(ports, charge, Settlement.RELEASED)
        ports.advisors.report(advisor, exc)
        raise _Failed(exc, ZERO) from exc
    except AnswerError as exc:
        outcome = Settlement.UNKNOWN if exc.usage is None else Settlement.ANSWERED
        settled = await _settle(ports, charge, outcome, exc.usage, price)
        ports.advisors.report(advisor, None)  # it is there: what it said is another matter
        raise _Failed(exc, settled.amount_usd) from exc
    except PlatformError as exc:
        settled = await _settle(ports, charge, Settlement.UNKNOWN)
        ports.advisors.report(advisor, exc)
        raise _Failed(exc, settled.amount_usd) from exc
    except BaseException:
        await _settle(ports, charge, Settlement.UNKNOWN)
        raise
    outcome = Settlement.UNKNOWN if completion.usage is None else Settlement.ANSWERED
    settled = await _settle(ports, charge, outcome, completion.usage, price)
    ports.advisors.report(advisor, None)
    return completion, settled.amount_usd


async def _asked(ports: Ports, advisor: Advisor, model: str, ask: Ask, operation: str) -> Completion:
    told: dict[str, str | int | float] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": advisor.name,
        "gen_ai.request.model": model,
        "gen_ai.request.max_tokens": ask.max_answer_tokens,
        "santiago.task": ask.task,
    }
    if operation:
        told["santiago.operation"] = operation
    with ports.traces.span(f"chat {model}", kind=Kind.CLIENT, attributes=told) as span:
        completion = await advisor.propose(ask, model)
        answered: dict[str, str | int | float] = {"gen_ai.response.model": completion.model}
        if completion.usage is not None:
            answered["gen_ai.usage.input_tokens"] = completion.usage.input_tokens
            answered["gen_ai.usage.output_tokens"] = completion.usage.output_tokens
            price = advisor.price(model)
            if price is not None:
                answered["santiago.cost_usd"] = float(price.of(completion.usage))
        span.tell(answered)
        return completion


async def _settle(
    ports: Ports, charge: Charge, settlement: Settlement, usage: Usage | None = None, price: Price | None = None
) -> Charge:
    """Also where whoever asked has gone meanwhile: the ledger is not theirs to leave open."""
    return await asyncio.shield(settle(ports, charge, settlement, usage, price))


def _words(exc: ValidationError) -> str:
    errors = exc.errors(include_url=False, include_input=False)[:8]
    return clean("; ".join(f"{'.'.join(map(str, e['loc'])) or 'the answer'}: {e['msg']}" for e in errors))[:2000]
