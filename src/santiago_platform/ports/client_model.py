"""The model of the client that is calling at this moment, where it lets itself be asked. Set by whoever has the channel
to the client, for the time of one call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal

from ..domain.proposal import Ask, Completion


class NeedsInput(Exception):  # noqa: N818 - no failure: the call ends with a question, and is made again with its answer
    """What the client's model is to be asked. operation: the id that the call made again goes on with. answers: what
    it has answered before, in order, as `Completion`s in JSON. tried, cost_usd: of the advisors before it, as in
    `Proposal`."""

    def __init__(self, ask: Ask, answers: tuple[str, ...] = ()) -> None:
        super().__init__(ask.words)
        self.ask = ask
        self.operation = ""
        self.answers = answers
        self.tried: tuple[str, ...] = ()
        self.cost_usd = Decimal(0)


@dataclass(frozen=True)
class Calling:
    """ask: answers, or raises NeedsInput, or a PlatformError. operation: of the call that this one goes on with; empty
    for a first one. tried, cost_usd: of the advisors that were asked before the client's model, then."""

    ask: Callable[[Ask], Awaitable[Completion]]
    operation: str = ""
    tried: tuple[str, ...] = ()
    cost_usd: Decimal = Decimal(0)


calling: ContextVar[Calling | None] = ContextVar("calling", default=None)
