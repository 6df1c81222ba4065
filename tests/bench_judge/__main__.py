"""Reruns the tables of the judge by simulation, and writes them into docs/judge.md.

python -m tests.bench_judge [--runs N] [--seed N] [NAME ...]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path

import numpy as np

from . import rules
from .simulation import Traffic, drift, flat, spikes

PAGE = Path(__file__).parents[2] / "docs" / "judge.md"
BEGIN, END = "<!-- tables: written by python -m tests.bench_judge -->", "<!-- end of tables -->"

Rows = list[tuple[str, ...]]
BASES = (0.0001, 0.003, 0.05)
VOLUMES = (20, 100, 1000, 60_000)


class Runs:
    """count: simulated rollouts a cell. Each cell has its own random numbers, from the seed and its place."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self._seed, self._cells = count, seed, 0

    def __call__(self, rule: Callable[[np.random.Generator], float | None], count: int = 0) -> list[float | None]:
        self._cells += 1
        seeds = np.random.SeedSequence([self._seed, self._cells]).spawn(count or self.count)
        return [rule(np.random.default_rng(seed)) for seed in seeds]


def peers(runs: Runs) -> Rows:
    """Share of rollouts aborted; healthy: 0.3% errors. Ours has an hour, 10% weight and buckets of 15 s."""
    rows: Rows = [("canary req/min", "its errors", "Flagger, 10", "Flagger, 2", "Argo Rollouts", "Kayenta", "ours")]
    for canary, rate in product((20, 100), (0.003, 0.01, 0.03)):
        traffic = Traffic(per_minute=10 * canary, base=0.003, ratio=rate / 0.003)

        def by_peer(peer: Callable[..., float | None], *said: int, t: Traffic = traffic) -> str:
            return _caught(runs(lambda r: peer(rules.by_minute(t.buckets(r), t.seconds), *said)))

        rows.append(
            (
                str(canary),
                f"{rate:.1%}" + (" (good)" if rate == 0.003 else ""),
                by_peer(rules.flagger, 10),
                by_peer(rules.flagger, 2),
                by_peer(rules.argo),
                by_peer(rules.kayenta),
                _caught(_ours(runs, traffic)),
            )
        )
    return rows


def detection(runs: Runs) -> Rows:
    """Median minutes to abort, and the share found within the hour; 10% weight, buckets of 15 s."""
    rows: Rows = [("errors of stable, canary req/min", "twice", "3 times", "10 times")]
    for base, volume in ((0.003, 20), (0.003, 100), (0.003, 1000), (0.003, 60_000), (0.05, 20)):
        cells = [_caught(_ours(runs, Traffic(per_minute=10 * volume, base=base, ratio=ratio))) for ratio in (2, 3, 10)]
        rows.append((f"{base:.1%}, {volume:,}", *cells))
    return rows


def false_alarms(runs: Runs) -> Rows:
    """Worst share of false alarms within an hour over 4 volumes and 3 base rates, flat, drifting, with tenfold spikes
    and while the weight rises by steps; 10% weight, buckets of 15 s."""
    rows: Rows = [("true ratio", "worst", "where")]
    for ratio in (1.0, 1.1, 1.25):
        worst, where = 0.0, "nowhere"
        for base, volume, shape, weights in product(
            BASES, VOLUMES, (flat, drift, spikes), ((), (0.05, 0.1, 0.25, 0.5))
        ):
            if weights and shape is not flat:
                continue
            traffic = Traffic(per_minute=10 * volume, base=base, ratio=ratio, shape=shape, weights=weights)
            share = _share(_ours(runs, traffic))
            if share > worst:
                steps = ", in steps" if weights else ""
                worst, where = share, f"{base:.2%}, {volume:,} canary req/min, {shape.__name__}{steps}"
        rows.append((f"{ratio:g}", f"{worst:.2%}", where))
    return rows


def fast(runs: Runs) -> Rows:
    """Seconds to abort, with buckets of 1 s, 500 requests a second, 10% weight and a base rate of 0.3%."""
    rows: Rows = [("canary's errors", "median", "95th", "found within 5 min")]
    for rate in (0.2, 0.05, 0.02, 0.01):
        traffic = Traffic(per_minute=30_000, base=0.003, ratio=rate / 0.003, seconds=1, minutes=5)
        found = _ours(runs, traffic, 60)
        seconds = [60 * f for f in found if f is not None]
        median, late = np.percentile(seconds, [50, 95]) if seconds else (np.nan, np.nan)
        rows.append((f"{rate:.0%}", f"{median:.0f} s", f"{late:.0f} s", f"{_share(found):.1%}"))
    return rows


def bursts(runs: Runs) -> Rows:
    """Share of false alarms within an hour where nothing is wrong, and errors come in bursts; 0.3% base rate, 10%
    weight."""
    rows: Rows = [("errors at once", "buckets of", "500 req/s", "1,000 req/min")]
    fewer = max(20, runs.count // 5)
    for burst, seconds in product((1, 5, 20), (1, 15)):
        cells = [
            f"{_share(_ours(runs, Traffic(per_minute=v, base=0.003, burst=burst, seconds=seconds), count=fewer)):.1%}"
            for v in (30_000, 1000)
        ]
        rows.append((str(burst), f"{seconds} s", *cells))
    for seconds in (15, 60):
        traffic = Traffic(per_minute=1000, base=0.003, burst_seconds=30, seconds=seconds)
        rows.append(("for 30 s", f"{seconds} s", "", f"{_share(_ours(runs, traffic)):.1%}"))
    return rows


def late(runs: Runs) -> Rows:
    """A canary that becomes 5 times worse after 30 healthy minutes: median minutes to find it, of 60 more."""
    rows: Rows = [("canary req/min", "started once", "with the start mixture")]
    for volume in (20, 100, 1000):
        traffic = Traffic(per_minute=10 * volume, base=0.003, ratio=5, onset=30, minutes=90)
        once = runs(lambda r, t=traffic: rules.ours(t.buckets(r), t.seconds, 1))
        mixture = runs(lambda r, t=traffic: rules.ours(t.buckets(r), t.seconds, 90))
        rows.append((f"{volume:,}", _after(once, 30), _after(mixture, 30)))
    return rows


def promotion(runs: Runs) -> Rows:
    """Median minutes to promote a healthy canary, margin 0.5%; and the share of canaries at the limit of what is
    refused (1.5 times stable and the margin) that are promoted within 6 hours: at most 5%."""
    rows: Rows = [
        ("errors of stable, canary req/min at 10%", "at 10% weight", "at 50% weight", "at the limit, promoted")
    ]
    for base, volume in ((0.0001, 20), (0.003, 20), (0.003, 100), (0.003, 1000), (0.05, 20)):
        cells = []
        for weight in (0.1, 0.5):
            traffic = Traffic(per_minute=10 * volume, base=base, weight=weight, minutes=360)
            cells.append(_median(runs(lambda r, t=traffic: rules.ours_promotes(t.buckets(r), t.seconds, 0.005))))
        bad = Traffic(per_minute=10 * volume, base=base, ratio=(1.5 * base + 0.005) / base, weight=0.5, minutes=360)
        wrong = runs(lambda r, t=bad: rules.ours_promotes(t.buckets(r), t.seconds, 0.005))
        rows.append((f"{base:.2%}, {volume:,}", *cells, f"{_share(wrong):.1%}"))
    return rows


TABLES: dict[str, Callable[[Runs], Rows]] = {
    t.__name__: t for t in (peers, detection, false_alarms, fast, bursts, late, promotion)
}


def _ours(runs: Runs, traffic: Traffic, horizon: int = 0, count: int = 0) -> list[float | None]:
    return runs(lambda r: rules.ours(traffic.buckets(r), traffic.seconds, horizon or traffic.minutes), count)


def _share(found: list[float | None]) -> float:
    return sum(f is not None for f in found) / len(found)


def _median(found: list[float | None]) -> str:
    """Over all runs, those that found nothing last."""
    ordered = sorted(float("inf") if f is None else f for f in found)
    middle = ordered[len(ordered) // 2]
    return f"{middle:g} min" if middle < float("inf") else "not within 6 h"


def _caught(found: list[float | None]) -> str:
    share = _share(found)
    return f"{share:.1%}" + (f", {_median(found)}" if share > 0.5 else "")


def _after(found: list[float | None], onset: float) -> str:
    early = sum(f is not None and f <= onset for f in found)
    after = [None if f is None else f - onset for f in found if f is None or f > onset]
    return f"{_median(after)} ({_share(after):.0%})" + (f"; {early} before" if early else "")


def markdown(rows: Iterable[tuple[str, ...]]) -> str:
    heading, *rest = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (heading, ("---",) * len(heading), *rest))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench_judge", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(TABLES)}; all of them")
    parser.add_argument("--runs", type=int, default=1000, help="simulated rollouts a cell")
    parser.add_argument("--seed", type=int, default=20261124)
    said = parser.parse_args()
    if unknown := [name for name in said.names if name not in TABLES]:
        parser.error(f"there is no table {', '.join(unknown)}; there are {', '.join(TABLES)}")
    parts = []
    for name in said.names or TABLES:
        began = time.monotonic()
        runs = Runs(said.runs, said.seed)
        rows = TABLES[name](runs)
        words = " ".join((TABLES[name].__doc__ or "").split())
        parts.append(f"### {name.replace('_', ' ').capitalize()}\n\n{words}\n\n{markdown(rows)}\n")
        print(
            f"{parts[-1]}\n({said.runs} runs a cell, seed {said.seed}, {time.monotonic() - began:.0f} s)\n", flush=True
        )
    if not said.names:
        made = f"`make bench-judge`: {said.runs} simulated rollouts a cell, seed {said.seed}.\n"
        before, _, rest = PAGE.read_text().partition(BEGIN)
        tables = "\n".join([made, *parts])
        PAGE.write_text(f"{before}{BEGIN}\n{tables}{END}{rest.partition(END)[2]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
