"""The built-in planner: needs no network, no key and no money, and says the same to the same words."""

from __future__ import annotations

import json

from ...domain.advisor import BUILTIN
from ...domain.budget import Price
from ...domain.errors import ErrorCode
from ...domain.narrative import Narrative, plain_narrative
from ...domain.planner import EXAMPLES, PlanError, plan
from ...domain.proposal import Ask, Completion, Draft, Task
from ...ports.advisors import AnswerError


class BuiltinPlanner:
    """Implements ports.advisors.Advisor."""

    name = BUILTIN

    def model(self, task: Task, *, cheap: bool) -> str:
        return ""

    def price(self, model: str) -> Price | None:
        return None

    async def propose(self, ask: Ask, model: str) -> Completion:
        if ask.facts:
            told = Draft[Narrative](
                request=plain_narrative(ask.facts), rationale="The facts as they are.", confidence=1.0
            )
            return Completion(text=told.model_dump_json(), model="")
        try:
            return Completion(text=json.dumps(plan(ask.task, ask.words, ask.known)), model="")
        except PlanError as exc:
            understood = ", ".join(f"{name} {value}" for name, value in exc.understood.items())
            said = f"the built-in planner understood {understood or 'nothing'}, and asks: {exc.missing}"
            example = EXAMPLES.get(ask.task)
            hint = f"for example: {example}" if example else "say it by typed arguments"
            raise AnswerError(said, hint, code=ErrorCode.INVALID_ARGUMENT) from exc
