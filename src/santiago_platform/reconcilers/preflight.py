"""Asks the history of the stable version how its canary can be judged."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from itertools import zip_longest

from ..domain.canary import Canary
from ..domain.counters import Delta, buckets
from ..domain.errors import PlatformError
from ..domain.preflight import BUCKET_SECONDS, WINDOW_MINUTES, BucketChoice, choose_bucket, latency_edge
from ..domain.rollout import Rollout
from ..domain.sequential_test import Bucket, dispersion
from ..ports import Ports

log = logging.getLogger(__name__)

WINDOWS = 24
WINDOW_SECONDS = WINDOW_MINUTES * 60
MARGIN_RATIO = 0.005  # half of what an objective of 99% leaves: without one of its own
LONGEST_SECONDS = 20.0  # history that takes longer to read is history that is not there

History = dict[int, list[list[Bucket]]]


@dataclass(frozen=True)
class Known:
    """margin_ratio: errors per request that are accepted beyond those of stable. notes: in words, for who reads the
    plan."""

    bucket: BucketChoice
    dispersion: float
    slow_seconds: float | None
    notes: tuple[str, ...]
    margin_ratio: float = MARGIN_RATIO


async def preflight(ports: Ports, rollout: Rollout, canary: Canary) -> Known:
    """Never raises for a history that cannot be read: then nothing is known of it."""
    history: History = {}
    spread, slow = 5.0, None
    where = f"{rollout.service}/{rollout.environment}"
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            slow = await _latency_edge(ports, rollout) if canary.latency else None
            history, spread = await _history(ports, rollout, canary.bucket_seconds)
    except (PlatformError, TimeoutError) as exc:
        log.warning("%s: not all of stable's history can be read: %s", where, exc)
    shortest = ports.metrics.shortest_bucket_seconds
    choice = choose_bucket({}, shortest_seconds=shortest)
    if history:
        choice = await asyncio.to_thread(choose_bucket, history, shortest_seconds=shortest)
    if canary.bucket_seconds is not None:
        choice = BucketChoice(seconds=canary.bucket_seconds, may_abort=True, reason="as santiago.yaml says")
    edge = "latency is not judged" if slow is None else f"slower than {1000 * slow:g} ms counts as slow"
    notes = (f"buckets of {choice.seconds} s: {choice.reason}", edge)
    return Known(choice, spread, slow, notes, await _margin(ports, rollout))


async def _margin(ports: Ports, rollout: Rollout) -> float:
    """Half of what the tightest objective of the service leaves for errors."""
    try:
        target = await ports.error_budget.target(rollout.service)
    except PlatformError as exc:
        log.warning("%s/%s: judged as without an SLO: %s", rollout.service, rollout.environment, exc.message)
        return MARGIN_RATIO
    return MARGIN_RATIO if target is None else (1 - target) / 2


async def _history(ports: Ports, rollout: Rollout, fixed_seconds: int | None) -> tuple[History, float]:
    """By bucket seconds, windows of an hour with stable's instances in two halves; and the dispersion of the last
    day. fixed_seconds: the one bucket that is asked for."""
    version = rollout.old.name if rollout.old else ""
    tried = [s for s in BUCKET_SECONDS if s >= ports.metrics.shortest_bucket_seconds]
    history: History = {}
    spread = 5.0
    for seconds in [fixed_seconds] if fixed_seconds else tried:
        windows: list[list[Bucket]] = []
        by_instance: dict[str, list[tuple[int, int]]] = {}
        until = int(rollout.started_at.timestamp()) // seconds * seconds
        length = WINDOW_SECONDS // seconds * seconds
        for back in range(WINDOWS):
            end = until - back * length
            samples = await ports.metrics.history(
                rollout.service,
                rollout.environment,
                version,
                start=end - length,
                end=end,
                bucket_seconds=seconds,
            )
            if not samples:
                break
            counted = buckets(samples)
            windows.append(_halves(counted))
            for instance, row in counted.items():
                by_instance.setdefault(instance, []).extend((c.requests, c.errors) if c else (0, 0) for c in row)
        if not windows:
            break
        history[seconds] = windows
        whole = max((len(row) for row in by_instance.values()), default=0)
        spread = dispersion([[*row, *[(0, 0)] * (whole - len(row))] for row in by_instance.values()])
        if choose_bucket({seconds: windows}, shortest_seconds=1).may_abort:
            break  # longer ones need not be asked for
    return history, spread


def _halves(counted: dict[str, tuple[Delta | None, ...]]) -> list[Bucket]:
    """Every other instance against the rest, bucket by bucket."""
    rows = [counted[instance] for instance in sorted(counted)]
    nothing = Delta()
    halves = []
    for row in zip_longest(*rows):
        one, other = row[::2], row[1::2]
        if any(c is None for c in row):
            one, other = (), ()
        sums = [
            (sum((c or nothing).requests for c in half), sum((c or nothing).errors for c in half))
            for half in (one, other)
        ]
        halves.append(
            Bucket(
                canary_requests=sums[0][0],
                canary_errors=sums[0][1],
                stable_requests=sums[1][0],
                stable_errors=sums[1][1],
            )
        )
    return halves


async def _latency_edge(ports: Ports, rollout: Rollout) -> float | None:
    end = rollout.started_at.timestamp()
    histogram = await ports.metrics.latencies(
        rollout.service,
        rollout.environment,
        rollout.old.name if rollout.old else "",
        start=end - WINDOW_SECONDS,
        end=end,
    )
    return latency_edge(dict(histogram))
