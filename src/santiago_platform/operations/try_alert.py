"""Tries an alert before it is loaded: by the checker, in generated cases, and against the last day. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from ..domain.alert import Alert, Firing, firings, groups_of
from ..domain.alert_case import firing_cases, quiet_cases
from ..domain.errors import ErrorCode, PlatformError
from ..domain.expression import Selector, selectors
from ..domain.rules import RuleTest
from ..ports import Ports

DAY_SECONDS = 86400.0
STEP_SECONDS = 30.0
SERIES = 20
SHOWN = 5


async def try_alert(ports: Ports, alert: Alert) -> tuple[str, ...]:
    """What came of it, a line each. Raises INVALID_ARGUMENT for what the checker refuses, and FAILED_PRECONDITION for
    what can never fire, since nothing that it reads was there within the last day."""
    await ports.rules.check(groups_of([alert]))
    if alert.spec.signal is None:  # series of a signal come with the first request
        await _require_series(ports, alert)
    return (await _case(ports, alert), await _history(ports, alert))


async def _case(ports: Ports, alert: Alert) -> str:
    fires, quiet = [await _found(ports, alert, cases) for cases in (firing_cases(alert), quiet_cases(alert))]
    held = f"once its condition has held for {alert.spec.for_seconds:g} s" if alert.spec.for_seconds else "at once"
    if fires is None and quiet is None:
        return "no case could be generated for its expression: only that it parses is tested"
    said = [f"fires {held}, and not before" if fires else "no series were found in which it fires"]
    said.append("is quiet otherwise" if quiet else "no series were found in which it is quiet")
    return f"tested: {'; '.join(said)}"


async def _found(ports: Ports, alert: Alert, cases: Iterable[RuleTest]) -> RuleTest | None:
    for case in cases:
        try:
            await ports.rules.check(groups_of([alert]), [case])
        except PlatformError as exc:
            if exc.code is not ErrorCode.INVALID_ARGUMENT:
                raise
        else:
            return case
    return None


async def _require_series(ports: Ports, alert: Alert) -> None:
    absent = [s for s in selectors(alert.expression) if s.name and not await _is_there(ports, alert, s)]
    if absent and "absent" not in alert.expression:
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"it can never fire: {alert.service} has shown no series {absent[0].name} in {alert.environment} "
            "within the last 24 h"
            + (f" with the labels {', '.join(absent[0].labels)}" if len(absent[0].labels) > len(_PLACE) else ""),
            "query_metrics shows what there is; deploy what exposes it first",
        )


_PLACE = ("service", "environment")


async def _is_there(ports: Ports, alert: Alert, selector: Selector) -> bool:
    """Whether a series of that metric has these labels, of whatever value: that of errors may come with the first."""
    labels = {f'{name}!=""' for name in selector.labels if name not in _PLACE}
    place = {f'service="{alert.service}"', f'environment="{alert.environment}"'}
    asked = f"count(last_over_time({selector.name}{{{','.join(sorted(labels | place))}}}[{DAY_SECONDS:.0f}s]))"
    now = ports.clock.now().timestamp()
    return bool(await ports.metrics.query(asked, start=now, end=now, step=1, limit=1))


async def _history(ports: Ports, alert: Alert) -> str:
    end = ports.clock.now().timestamp() // STEP_SECONDS * STEP_SECONDS
    try:
        series = await ports.metrics.query(
            alert.expression, start=end - DAY_SECONDS, end=end, step=STEP_SECONDS, limit=SERIES
        )
    except PlatformError as exc:
        return f"it could not be tried against the last 24 h: {exc.message[:300]}"
    wait = alert.spec.for_seconds
    found = [f for s in series for f in firings(s.points, step_seconds=STEP_SECONDS, for_seconds=wait)]
    if not found:
        return "it would not have fired in the last 24 h"
    times = "once" if len(found) == 1 else f"{len(found)} times"
    newest = sorted(found, key=lambda f: f.since, reverse=True)
    return f"it would have fired {times} in the last 24 h: {', '.join(map(_said, newest[:SHOWN]))}" + (
        f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    )


def _said(firing: Firing) -> str:
    since, until = (datetime.fromtimestamp(at, UTC) for at in (firing.since, firing.until))
    return f"{since:%Y-%m-%d %H:%M}-{until:%H:%M}Z"
