"""A gate that asks whether the service has error budget left."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ..gate import Answer, Facts, Gate, Outcome, Unknown


class ErrorBudgetGate(Gate):
    """More than `min_remaining_ratio` of the error budget is left; at 0 it freezes when the budget is spent.

    except_fixes: what is marked as the fix of an incident passes, loudly.
    Source: Google SRE Workbook, "Example Error Budget Policy".
    """

    of_release: ClassVar[bool] = False

    type: Literal["error_budget"]
    min_remaining_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.0
    except_fixes: bool = True

    def answer(self, facts: Facts) -> Answer:
        budget = facts.budgets.get(facts.environment)
        if budget is None:
            return self.says(Outcome.NOT_APPLICABLE, f"{facts.service} has no SLO", "write services/NAME/slo.yaml")
        if facts.first:
            return self.says(Outcome.NOT_APPLICABLE, "nothing of it is live here yet", "it cannot be `required` then")
        hint = "wait until the budget has recovered; the fix of an incident says so: `santiago deploy --fixes ID`"
        if isinstance(budget, Unknown) or budget.remaining_ratio is None:
            reason = budget.reason if isinstance(budget, Unknown) else "the SLO's data do not suffice to tell"
            answer = self.says(Outcome.UNKNOWN, reason, hint)
        elif budget.remaining_ratio > self.min_remaining_ratio:
            return self.says(Outcome.PASS, f"{budget.remaining_ratio:.1%} of the error budget is left")
        else:
            reason = f"{budget.remaining_ratio:.1%} of the error budget is left"
            if self.min_remaining_ratio:
                reason += f", {self.min_remaining_ratio:.1%} must be"
            answer = self.says(Outcome.FAIL, reason, hint)
        return self.excepted(answer, facts) if self.except_fixes else answer
