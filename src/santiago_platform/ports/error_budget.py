from __future__ import annotations

from typing import Protocol

from ..domain.error_budget import BudgetState
from ..domain.gate import Budget


class ErrorBudget(Protocol):
    """Knows how much a service may still fail."""

    async def state(self, service: str, environment: str) -> Budget | None:
        """Of the service's tightest SLO there; None where it has no SLO.

        Raises UNAVAILABLE where it cannot be asked now, INVALID_ARGUMENT where its file cannot be read.
        """

    async def states(self, service: str, *, history: bool = False) -> tuple[BudgetState, ...]:
        """Of every objective of the service, in every environment, SLAs too. history: with at most about 60 points over
        the longest window. Raises as `state`."""

    async def target(self, service: str) -> float | None:
        """Of the service's tightest SLO, in (0, 1); None where it has none. Raises INVALID_ARGUMENT where its file
        cannot be read."""
