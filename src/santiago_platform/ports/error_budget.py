from __future__ import annotations

from typing import Protocol

from ..domain.gate import Budget


class ErrorBudget(Protocol):
    """Knows how much a service may still fail."""

    async def state(self, service: str, environment: str) -> Budget | None:
        """Of the service's tightest SLO there; None where it has no SLO.

        Raises UNSUPPORTED where it has one and its budget is not kept, UNAVAILABLE where it cannot be asked now.
        """

    async def target(self, service: str) -> float | None:
        """Of the service's tightest SLO, in (0, 1); None where it has none. Raises INVALID_ARGUMENT where its file
        cannot be read."""
