"""The built-in planner: needs no network, no key and no money, and says the same to the same words."""

from __future__ import annotations

from ...domain.budget import Price
from ...domain.proposal import Ask, Completion, Task
from ...ports.advisors import AnswerError


class BuiltinPlanner:
    """Implements ports.advisors.Advisor."""

    name = "builtin"

    def model(self, task: Task, *, cheap: bool) -> str:
        return ""

    def price(self, model: str) -> Price | None:
        return None

    async def propose(self, ask: Ask, model: str) -> Completion:
        raise AnswerError(f"the built-in planner makes no {ask.task} of words yet")
