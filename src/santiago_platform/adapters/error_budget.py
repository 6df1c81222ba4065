"""Error budgets as the recording rules have measured them."""

from __future__ import annotations

from ..domain.error_budget import RECORDED, BudgetState, budget_state, tightest
from ..domain.gate import Budget
from ..domain.promql import quoted
from ..domain.signal import Series
from ..domain.slo_rules import REMAINING
from ..ports.clock import Clock
from ..ports.metrics import Metrics
from ..ports.workspace import Workspace

HISTORY_POINTS = 60
_SERIES = 2_000  # of one service


class RecordedErrorBudget:
    """Implements ports.error_budget.ErrorBudget."""

    def __init__(self, workspace: Workspace, metrics: Metrics, clock: Clock) -> None:
        self._workspace = workspace
        self._metrics = metrics
        self._clock = clock

    async def target(self, service: str) -> float | None:
        targets = [slo.target for slo in self._workspace.slos(service) if not slo.sla and slo.target > 0]
        return max(targets, default=None)

    async def state(self, service: str, environment: str) -> Budget | None:
        here = [state for state in await self.states(service) if state.environment == environment]
        found = tightest(here)
        return None if found is None else found.budget

    async def states(self, service: str, *, history: bool = False) -> tuple[BudgetState, ...]:
        slos = self._workspace.slos(service)
        if not slos:
            return ()
        now = self._clock.now()
        asked = f'{{__name__=~"{RECORDED}",service={quoted(service)}}}'
        recorded: dict[tuple[str, str], dict[str, float]] = {}
        at = now.timestamp()
        for series in await self._metrics.query(asked, start=at, end=at, step=1, limit=_SERIES):
            if series.points:
                recorded.setdefault(_key(series), {})[series.labels.get("__name__", "")] = series.points[-1].value
        states = [budget_state(slo, recorded.get((slo.environment, slo.name), {}), now) for slo in slos]
        if not history:
            return tuple(states)
        longest = max(slo.period_seconds for slo in slos)
        past = await self._metrics.query(
            f"{REMAINING}{{service={quoted(service)}}}",
            start=at - longest,
            end=at,
            step=longest / HISTORY_POINTS,
            limit=_SERIES,
        )
        points = {_key(series): series.points for series in past}
        return tuple(
            state.model_copy(update={"history": points.get((state.environment, state.slo), ())}) for state in states
        )


def _key(series: Series) -> tuple[str, str]:
    return series.labels.get("environment", ""), series.labels.get("slo", "")
