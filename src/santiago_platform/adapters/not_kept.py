"""In place of what this platform does not keep yet: it says so, and nothing is made up."""

from __future__ import annotations

from pathlib import Path

from ..domain.errors import ErrorCode, PlatformError
from ..domain.gate import Budget
from .workspace.slo_target import tightest_target
from .workspace.text_file import read_within


class NoErrorBudget:
    """Implements ports.error_budget.ErrorBudget: knows whether a service has an SLO, and its target, and no more.

    root: of the workspace.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    async def state(self, service: str, environment: str) -> Budget | None:
        if (self._root / "services" / service / "slo.yaml").exists():
            raise _unsupported(f"{service} has an SLO, and its error budget is not kept on this platform yet")
        return None

    async def target(self, service: str) -> float | None:
        path = f"services/{service}/slo.yaml"
        text = read_within(self._root, path)
        return None if text is None else tightest_target(text, path)


def _unsupported(what: str) -> PlatformError:
    return PlatformError(ErrorCode.UNSUPPORTED, what, "leave the gate out until they are")
