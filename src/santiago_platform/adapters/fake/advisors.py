from __future__ import annotations

from collections.abc import Callable, Sequence

from ...domain.budget import Price
from ...domain.errors import PlatformError
from ...domain.proposal import Ask, Completion, Task
from ...ports.advisors import Advisor

Reply = Completion | PlatformError | Callable[[Ask, str], Completion]


class FakeAdvisor:
    """Implements ports.advisors.Advisor. replies: what it says, in order; the last one again and again.
    asked: all that it was asked."""

    def __init__(self, name: str, *replies: Reply, models: tuple[str, str] = ("", ""), price: Price | None = None):
        self.name = name
        self.asked: list[Ask] = []
        self._replies = list(replies)
        self._models = models
        self._price = price

    def model(self, task: Task, *, cheap: bool) -> str:
        return self._models[cheap]

    def price(self, model: str) -> Price | None:
        return self._price

    async def propose(self, ask: Ask, model: str) -> Completion:
        self.asked.append(ask)
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        if isinstance(reply, PlatformError):
            raise reply
        return reply if isinstance(reply, Completion) else reply(ask, model)


class FakeAdvisors:
    """Implements ports.advisors.Advisors: all of them, in order.

    reports: what it was told. secrets: what it redacts. away: names of those that are left alone.
    """

    def __init__(self, *all: Advisor) -> None:
        self.all: list[Advisor] = list(all)
        self.secrets: list[str] = []
        self.away: set[str] = set()
        self.reports: list[tuple[str, PlatformError | None]] = []

    def order(self, task: Task) -> Sequence[Advisor]:
        return self.all

    def begin(self, advisor: Advisor) -> bool:
        return advisor.name not in self.away

    def report(self, advisor: Advisor, failure: PlatformError | None) -> None:
        self.reports.append((advisor.name, failure))

    def redacted(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "<redacted>")
        return text
