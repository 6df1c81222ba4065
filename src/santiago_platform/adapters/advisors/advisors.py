"""The workspace's advisors, in the order that santiago.yaml names them at that moment, and the built-in planner."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...domain.advisor import CLIENT, Provider
from ...domain.circuit import Circuit
from ...domain.environment import Settings
from ...domain.errors import PlatformError
from ...domain.proposal import Task
from ...ports.advisors import Advisor
from ...ports.clock import Clock
from ..redaction import redacted_text
from .builtin import BuiltinPlanner
from .client import ClientAdvisor
from .external import ExternalAdvisor


class WorkspaceAdvisors:
    """Implements ports.advisors.Advisors."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        key: Callable[[Provider], str | None],
        clock: Clock,
        hide: Callable[[str], str] = lambda text: text,
    ) -> None:
        """settings: as they are now, read at each call. key: reads a provider's. hide: takes known secrets out."""
        self._settings = settings
        self._key = key
        self._clock = clock
        self._hide = hide
        self._builtin = BuiltinPlanner()
        self._circuits: dict[str, Circuit] = {}

    def order(self, task: Task) -> Sequence[Advisor]:
        settings = self._settings()
        advisors, now = settings.advisors, self._clock.monotonic()
        return (
            *(
                ClientAdvisor()
                if name == CLIENT
                else ExternalAdvisor(name, advisors, settings.budget.prices, self._key)
                for name in advisors.order_for(task)
                if self._circuit(name).admits(now, advisors.breaker.open_seconds)
            ),
            self._builtin,
        )

    def begin(self, advisor: Advisor) -> bool:
        circuit, now = self._circuit(advisor.name), self._clock.monotonic()
        if not circuit.admits(now, self._settings().advisors.breaker.open_seconds):
            return False
        self._circuits[advisor.name] = circuit.trying(now)
        return True

    def report(self, advisor: Advisor, failure: PlatformError | None) -> None:
        threshold = self._settings().advisors.breaker.failures
        self._circuits[advisor.name] = self._circuit(advisor.name).after(
            self._clock.monotonic(), failed=failure is not None, threshold=threshold
        )

    def redacted(self, text: str) -> str:
        return redacted_text(self._hide(text))

    def _circuit(self, name: str) -> Circuit:
        return self._circuits.get(name, Circuit())
