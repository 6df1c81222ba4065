"""The workspace's advisors, in the order that it names them."""

from __future__ import annotations

from collections.abc import Sequence

from ...domain.errors import PlatformError
from ...domain.proposal import Task
from ...ports.advisors import Advisor
from .builtin import BuiltinPlanner


class WorkspaceAdvisors:
    """Implements ports.advisors.Advisors."""

    def __init__(self) -> None:
        self._builtin = BuiltinPlanner()

    def order(self, task: Task) -> Sequence[Advisor]:
        return (self._builtin,)

    def report(self, advisor: Advisor, failure: PlatformError | None) -> None:
        pass
