"""How fast an error budget may burn before somebody is told. Source: Google SRE Workbook, "Alerting on SLOs"."""

from __future__ import annotations

import math

from .errors import ErrorCode, PlatformError
from .rules import Severity
from .slo import DAY, HOUR, MINUTE, BurnAlert

# Severity, the share of the budget that is spent when it fires, and its long and short window, of a 30-day period.
_TABLE = (
    (Severity.PAGE, 0.02, 1 * HOUR, 5 * MINUTE),
    (Severity.PAGE, 0.05, 6 * HOUR, 30 * MINUTE),
    (Severity.TICKET, 0.10, 1 * DAY, 2 * HOUR),
    (Severity.TICKET, 0.10, 3 * DAY, 6 * HOUR),
)
_TABLE_PERIOD = 30 * DAY
_WHOLE_PERIOD = 28 * DAY  # from here on the windows stay, and the rate follows the period
_OUTAGE_RATIO = 0.5


def burn_rate(budget_ratio: float, window_seconds: float, period_seconds: float) -> float:
    """The rate that spends `budget_ratio` of the period's error budget within the window. 1 lasts exactly one period.

    budget_ratio: in (0, 1]. Raises PlatformError(INVALID_ARGUMENT) unless 0 < window <= period.
    """
    if not 0 < window_seconds <= period_seconds:
        raise PlatformError(ErrorCode.INVALID_ARGUMENT, f"a window of {window_seconds:g} s is not within its period")
    return budget_ratio * period_seconds / window_seconds


def usual_alerts(period_seconds: int, budget_ratio: float, step_seconds: int = MINUTE) -> tuple[BurnAlert, ...]:
    """A page and a ticket, each with two pairs of windows, scaled to the period.

    For 28 days and more the windows are those of the source and the rates are scaled; for less the windows shrink with
    the period, to whole steps, so that an alert still comes while there is budget to save. No rate is above what an
    outage of half the requests burns: 14.4 could never be reached where 10% may fail.
    """
    found: dict[Severity, list[tuple[float, tuple[int, ...]]]] = {Severity.PAGE: [], Severity.TICKET: []}
    for severity, spent, long, short in _TABLE:
        longer, shorter = (_scaled(window, period_seconds, step_seconds) for window in (long, short))
        longer = min(max(longer, 2 * step_seconds), period_seconds)
        rate = min(burn_rate(spent, longer, period_seconds), _OUTAGE_RATIO / budget_ratio)
        found[severity].append((round(rate, 6), (longer, min(shorter, longer))))
    return tuple(
        BurnAlert(
            name="ErrorBudgetBurn",
            severity=severity,
            conditions=tuple(dict.fromkeys(conditions)),
            description=(
                "The error budget burns so fast that it is at risk within hours."
                if severity is Severity.PAGE
                else "The error budget burns slowly but steadily."
            ),
        )
        for severity, conditions in found.items()
    )


def _scaled(window: int, period: int, step: int) -> int:
    shrunk = window if period >= _WHOLE_PERIOD else window * period / _TABLE_PERIOD
    return max(1, math.ceil(round(shrunk / step, 6))) * step
