"""What everything that knows error budgets keeps to."""

from __future__ import annotations

from collections.abc import Callable

from ..domain.errors import ErrorCode, PlatformError
from ..ports.error_budget import ErrorBudget


class ErrorBudgetContract:
    """Subclasses give the fixtures `error_budget`, and `write_slo`, which gives a service an SLO of 99.5%."""

    async def test_without_an_slo_there_is_no_budget(self, error_budget: ErrorBudget) -> None:
        assert await error_budget.state("plain", "production") is None
        assert await error_budget.target("plain") is None

    async def test_with_an_slo_there_is_a_budget_or_words_why_it_is_not_known(
        self, error_budget: ErrorBudget, write_slo: Callable[[str], None]
    ) -> None:
        write_slo("web")
        try:
            known, code = await error_budget.state("web", "production") is not None, None
        except PlatformError as exc:
            known, code = False, exc.code
        assert known or code in (ErrorCode.UNSUPPORTED, ErrorCode.UNAVAILABLE)
        assert await error_budget.target("web") == 0.995
