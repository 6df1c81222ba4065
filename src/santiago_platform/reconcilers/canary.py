"""Looks at a canary and at stable, a bucket of time after the other, and lets the judge look at what was counted."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..domain.canary import Analysis, Canary, Query
from ..domain.counters import Counters, Delta, deltas
from ..domain.deployment import Version
from ..domain.errors import PlatformError
from ..domain.judge import Compared, Counted, Judge
from ..domain.rollout import Rollout
from ..domain.sequential_test import AbortTest, Bucket, PromotionTest
from ..ports import Ports
from .preflight import MARGIN_RATIO, Known, preflight

log = logging.getLogger(__name__)

ERRORS = "errors"
ABANDONED = "given up by their clients"
HORIZON_MINUTES = 60
COMPARED_SECONDS = 15.0  # values of the same scrape are no further evidence
QUERIES_SECONDS = 2.0


@dataclass(frozen=True)
class _Reading:
    """Of one weight. at: monotonic seconds."""

    at: float
    shifted: int
    counters: tuple[Counters, ...]


class CanaryObserver:
    """Holds the last reading of each rollout's counters, in this process alone: after a restart a bucket begins anew,
    and what happened meanwhile is not looked at. Holds what was looked at and need not be stored yet, too."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._readings: dict[str, _Reading] = {}
        self._newest: dict[str, tuple[int, Analysis]] = {}  # by rollout, with the epoch of the row that it goes on from
        self._compared: dict[str, float] = {}
        self._preflights: dict[str, asyncio.Task[Known]] = {}

    async def end(self) -> None:
        """Ends what goes on beside the passes."""
        tasks = list(self._preflights.values())
        self._preflights.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def forget(self, rollout_id: str) -> None:
        if task := self._preflights.pop(rollout_id, None):
            task.cancel()
        self._readings.pop(rollout_id, None)
        self._newest.pop(rollout_id, None)
        self._compared.pop(rollout_id, None)

    def newest(self, rollout: Rollout) -> Analysis | None:
        """The analysis as it was looked at last: the stored one, or one that goes on from it."""
        epoch, analysis = self._newest.get(rollout.id, (-1, None))
        return analysis if epoch == rollout.epoch else rollout.analysis

    def prepare(self, rollout: Rollout) -> None:
        """Begins to read the history of stable, beside the passes: it may take long, and while a canary has traffic
        each pass may be the one that takes it back. After a restart it is read again."""
        if rollout.id not in self._preflights and self.newest(rollout) is None:
            reading = preflight(self._ports, rollout, rollout.canary or Canary())
            self._preflights[rollout.id] = asyncio.create_task(reading, name=f"preflight of {rollout.id}")

    async def look(self, rollout: Rollout) -> Analysis | None:
        """The analysis with what has been counted since; None before stable's history is known."""
        analysis = self.newest(rollout)
        if analysis is None:
            self.prepare(rollout)
            read = self._preflights[rollout.id]
            if not read.done():
                return None
            analysis = self._begin(rollout, read.result())
        counted = await self._counted(rollout, analysis)
        if counted is not None:
            now = self._ports.clock.now()
            judge = analysis.judge.look(
                analysis.minute(now), _buckets(rollout, analysis, counted), await self._values(rollout)
            )
            if judge != analysis.judge:
                analysis = analysis.model_copy(update={"judge": judge, "looked_at": now})
        self._newest[rollout.id] = rollout.epoch, analysis
        return analysis

    async def _counted(self, rollout: Rollout, analysis: Analysis) -> dict[str, Delta] | None:
        """What happened in the bucket that has just ended; None while it goes on, and where that cannot be known."""
        now, last = self._ports.clock.monotonic(), self._readings.get(rollout.id)
        if last is not None and last.shifted == rollout.shifted and now - last.at < analysis.bucket_seconds:
            return None
        counters = await self._ports.traffic.counters(rollout.service, rollout.environment)
        self._readings[rollout.id] = _Reading(now, rollout.shifted, counters)
        if last is None or last.shifted != rollout.shifted:
            return None
        return deltas(last.counters, counters)

    def _begin(self, rollout: Rollout, known: Known) -> Analysis:
        """What is settled before the canary is looked at, from the history of stable alone."""
        canary = rollout.canary or Canary()
        pauses = sum(step.pause_seconds for step in canary.steps)
        horizon = max(HORIZON_MINUTES, math.ceil(pauses / 60))
        names = [ERRORS, ABANDONED, *([slower_than(known.slow_seconds)] if known.slow_seconds is not None else [])]
        counted = tuple(
            Counted(
                name=name,
                may_abort=known.bucket.may_abort,
                abort=AbortTest(horizon_minutes=horizon),
                promotion=PromotionTest(
                    margin_ratio=known.margin_ratio if name in (ERRORS, ABANDONED) else MARGIN_RATIO,
                    dispersion=known.dispersion,
                ),
            )
            for name in names
        )
        return Analysis(
            judge=Judge(counted=counted, compared=tuple(_compared(query) for query in canary.metrics)),
            bucket_seconds=known.bucket.seconds,
            began_at=self._ports.clock.now(),
            slow_seconds=known.slow_seconds,
            notes=known.notes,
        )

    async def _values(self, rollout: Rollout) -> dict[str, tuple[float, float]]:
        """Of the user's own metrics, as often as they can have changed; one whose query fails is not looked at."""
        queries, now = rollout.canary.metrics if rollout.canary else (), self._ports.clock.monotonic()
        if not queries or now - self._compared.get(rollout.id, float("-inf")) < COMPARED_SECONDS:
            return {}
        self._compared[rollout.id] = now
        versions = (rollout.new, rollout.old)
        try:
            async with asyncio.timeout(QUERIES_SECONDS):
                found = await asyncio.gather(*(self._value(rollout, q, v) for q in queries for v in versions))
        except (PlatformError, TimeoutError) as exc:
            log.warning("%s/%s: its own metrics: %s", rollout.service, rollout.environment, exc)
            return {}
        return {query.name: (found[2 * i], found[2 * i + 1]) for i, query in enumerate(queries)}

    async def _value(self, rollout: Rollout, query: Query, which: Version | None) -> float:
        version = which.name if which else ""
        filled = query.query
        for name, value in (("service", rollout.service), ("environment", rollout.environment), ("version", version)):
            filled = filled.replace(f"${name}", value)
        now = self._ports.clock.now().timestamp()
        series = await self._ports.metrics.query(filled, start=now, end=now, step=1, limit=1)
        return series[0].points[-1].value if series and series[0].points else math.nan


def _compared(query: Query) -> Compared:
    return Compared(
        name=query.name,
        better=query.better,
        tolerance_ratio=query.tolerance_ratio,
        weight=query.weight,
        dry_run=query.dry_run,
    )


def _buckets(rollout: Rollout, analysis: Analysis, changes: Mapping[str, Delta]) -> dict[str, Bucket]:
    """Of each counted metric of the judge, by name."""
    canary, stable = (changes.get(v.name, Delta()) if v else Delta() for v in (rollout.new, rollout.old))
    buckets = {
        ERRORS: _bucket((canary.requests, canary.errors), (stable.requests, stable.errors)),
        ABANDONED: _bucket(*((c.requests + c.abandoned, c.abandoned) for c in (canary, stable))),
    }
    if analysis.slow_seconds is not None:
        slow = [(c.measured, c.slower(analysis.slow_seconds)) for c in (canary, stable)]
        if all(slower is not None for _, slower in slow):
            buckets[slower_than(analysis.slow_seconds)] = _bucket(*((n, x or 0) for n, x in slow))
    return buckets


def slower_than(seconds: float) -> str:
    return f"slower than {1000 * seconds:g} ms"


def _bucket(canary: tuple[int, int], stable: tuple[int, int]) -> Bucket:
    """Of (requests, errors) each."""
    return Bucket(
        canary_requests=canary[0], canary_errors=canary[1], stable_requests=stable[0], stable_errors=stable[1]
    )
