"""How an error budget stands: what is left, how fast it burns, and when it would be spent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from . import promql
from .gate import Budget
from .rules import Severity
from .signal import Point
from .slo import Slo
from .slo_rules import BURN, PERIOD_BAD, PERIOD_TOTAL, REMAINING, SLI, alerts
from .value import Value

# Of all that is recorded: what a state is made of.
RECORDED = f"{SLI}|{REMAINING}|{PERIOD_BAD}|{PERIOD_TOTAL}|{BURN}.*"


class BudgetState(Value):
    """Of one objective, over its window up to now. None: nothing is recorded of it (yet).

    sli_ratio: the share that was good. remaining_ratio: at most 1, negative when overspent. bad, total: events, or time
    slices. burn_rates: by window ("1h"); at 1 the budget lasts exactly one window of the SLO. exhausted_at: when it is
    spent at the present rate; None where it lasts. breached: an SLA that is not met. history: of remaining_ratio.
    """

    service: str
    environment: str
    slo: str
    title: str = ""
    target: float
    period_seconds: int
    calendar: bool = False
    sla: bool = False
    sli_ratio: float | None = None
    remaining_ratio: float | None = None
    bad: float | None = None
    total: float | None = None
    burn_rates: Mapping[str, float] = {}
    met: bool | None = None
    exhausted_at: datetime | None = None
    history: tuple[Point, ...] = ()

    @property
    def breached(self) -> bool:
        return self.sla and self.met is False

    @property
    def budget(self) -> Budget:
        """As gates ask for it."""
        return Budget(remaining_ratio=self.remaining_ratio, met=self.met)


def budget_state(slo: Slo, recorded: Mapping[str, float], now: datetime) -> BudgetState:
    """recorded: the last value of each of the SLO's series, by its name."""
    sli, remaining = recorded.get(SLI), recorded.get(REMAINING)
    burn = {name.removeprefix(BURN): value for name, value in recorded.items() if name.startswith(BURN)}
    return BudgetState(
        service=slo.service,
        environment=slo.environment,
        slo=slo.name,
        title=slo.title,
        target=slo.target,
        period_seconds=slo.period_seconds,
        calendar=slo.calendar is not None,
        sla=slo.sla,
        sli_ratio=sli,
        remaining_ratio=remaining,
        bad=recorded.get(PERIOD_BAD),
        total=recorded.get(PERIOD_TOTAL),
        burn_rates=burn,
        met=None if sli is None else sli >= slo.target - 1e-12,
        exhausted_at=_exhausted_at(slo, remaining, burn, now),
    )


def tightest(states: list[BudgetState]) -> BudgetState | None:
    """The one that gates ask: of the highest target, and of those the one with the least left. An SLA is none."""
    aims = [state for state in states if not state.sla]
    return min(aims, key=lambda state: (-state.target, _left(state)), default=None)


def _left(state: BudgetState) -> float:
    return state.remaining_ratio if state.remaining_ratio is not None else float("inf")


def _exhausted_at(slo: Slo, remaining: float | None, burn: Mapping[str, float], now: datetime) -> datetime | None:
    """At the rate of the longest window that pages look at: shorter ones jump, longer ones lag.

    A rolling window that burns at 1 or less gets back as much as it spends.
    """
    pages = [alert for alert in alerts(slo) if alert.severity is Severity.PAGE] or list(alerts(slo))
    window = max((max(windows) for alert in pages for _, windows in alert.conditions), default=0)
    rate = burn.get(promql.duration(window))
    if remaining is None or rate is None:
        return None
    if remaining <= 0:
        return now
    if rate <= (0 if slo.calendar is not None else 1):
        return None
    seconds = remaining * slo.period_seconds / rate
    return now + timedelta(seconds=seconds) if seconds < slo.period_seconds else None
