"""Cases that show what an alert does: series in which it fires, and series in which it does not. Pure.

Which series those are is not solved for, but tried: a few shapes with the numbers of the expression in them. The
checker says which of them do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .alert import INTERVAL_SECONDS, Alert
from .expression import Selector, longest_seconds, numbers, selectors
from .rules import RuleTest

Expected = tuple[str, float, dict[str, float]]
MOST_CANDIDATES = 24
_EDGES = ("1", "1000000", "+Inf")  # of histograms: what lies below the first is fast, the rest is slow


def firing_cases(alert: Alert) -> Iterator[RuleTest]:
    """Candidates: of each it has to be tried whether the alert fires in it, and not before its time.

    The last one has no series at all.
    """
    wait = alert.spec.for_seconds
    settled = _settled(alert)
    for number, series in enumerate([*_series(alert, settled), {}]):
        early: tuple[Expected, ...] = (
            ((_asked(alert), wait - INTERVAL_SECONDS, {}),) if wait >= 2 * INTERVAL_SECONDS else ()
        )
        fires = (_asked(alert), settled, {"{}": 1.0})
        yield RuleTest(name=f"fires {number}", interval_seconds=INTERVAL_SECONDS, series=series, values=(*early, fires))


def quiet_cases(alert: Alert) -> Iterator[RuleTest]:
    """Candidates in which it may stay quiet although its series are there; the last one has none."""
    settled = _settled(alert)
    for number, series in enumerate([*_series(alert, settled), {}]):
        values: tuple[Expected, ...] = ((_asked(alert), settled, {}),)
        yield RuleTest(name=f"is quiet {number}", interval_seconds=INTERVAL_SECONDS, series=series, values=values)


def _asked(alert: Alert) -> str:
    """1 while it fires: its own labels depend on what its expression keeps of the series'."""
    return f'min(ALERTS{{alertname="{alert.name}",alertstate="firing"}})'


def _settled(alert: Alert) -> float:
    """When it fires at the latest in series that are the same from the beginning."""
    seconds = longest_seconds(alert.expression) + alert.spec.for_seconds + 12 * INTERVAL_SECONDS
    return (seconds // INTERVAL_SECONDS) * INTERVAL_SECONDS


def _series(alert: Alert, settled: float) -> Iterator[Mapping[str, str]]:
    """All selectors alike at first; then the first of them another way than the rest, since ratios need both."""
    found = selectors(alert.expression)
    count = int(settled / INTERVAL_SECONDS) + 1
    steps = [0.0, 100.0, 1e6, 0.01]  # a counter's, for each interval
    levels = [value for n in numbers(alert.expression) for value in (n + 1, n - 1, n * 2, n / 2, n)]
    shapes = [
        *((0.0, step) for step in steps),
        *((level, 0.0) for level in dict.fromkeys(levels)),
        (-1e9, 0.0),
        (1e9, 0.0),
    ]
    pairs = [(shape, shape) for shape in shapes]
    if len(found) > 1:
        mixed = [(0.0, 100.0), (0.0, 1.0), (0.0, 0.0), (1.0, 0.0)]
        pairs[2:2] = [(a, b) for a in mixed for b in mixed if a != b]
    for first, rest in pairs[:MOST_CANDIDATES]:
        each: dict[str, str] = {}
        for index, selector in enumerate(found):
            each |= _of_selector(selector, first if index == 0 else rest, count)
        yield each


def _of_selector(selector: Selector, shape: tuple[float, float], count: int) -> dict[str, str]:
    start, step = shape
    if not selector.name.endswith("_bucket") or "le" in selector.sample:
        return {_name(selector, {}): f"{start:.9g}{step:+.9g}x{count}"}
    # Slow where it is much, fast where it is little.
    fast = 0.0 if step >= 100 else step
    by_edge = dict(zip(_EDGES, (fast, step, step), strict=True))
    return {_name(selector, {"le": edge}): f"0{each:+.9g}x{count}" for edge, each in by_edge.items()}


def _name(selector: Selector, more: Mapping[str, str]) -> str:
    labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in {**selector.sample, **more}.items())
    return f"{selector.name or 'unnamed'}{{{labels}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
