"""Reads that are asked for at the same time share one evaluation, and no answer is older than its question."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 0.05  # so long an evaluation waits for the one before it: a slow one does not hold up all others


@dataclass
class _Round(Generic[T]):
    """An evaluation, and how many wait for it."""

    task: asyncio.Task[T]
    callers: int = 0


class SharedReads(Generic[T]):
    """For each key at most one evaluation that has not begun. Who asks joins that one, and never one that has begun.

    So a hundred who ask over and over cost one evaluation a round, and each of them is told what was the case after
    it had asked. An evaluation is cancelled when the last of its callers has gone.
    """

    def __init__(self) -> None:
        self._waiting: dict[Hashable, _Round[T]] = {}
        self._running: dict[Hashable, asyncio.Task[T]] = {}

    async def read(self, key: Hashable, evaluate: Callable[[], Awaitable[T]]) -> T:
        """What `evaluate` returns or raises, once for all who ask with an equal key before it begins."""
        joined = self._waiting.get(key)
        if joined is None:
            # As a task it begins with the loop's next turn: what has arrived by then is in it.
            task = asyncio.create_task(self._evaluate(key, evaluate, self._running.get(key)))
            joined = self._waiting[key] = _Round(task)
        joined.callers += 1
        try:
            return await asyncio.shield(joined.task)
        finally:
            joined.callers -= 1
            if joined.callers == 0 and not joined.task.done():
                if self._waiting.get(key) is joined:
                    del self._waiting[key]
                joined.task.cancel()

    async def _evaluate(self, key: Hashable, evaluate: Callable[[], Awaitable[T]], before: asyncio.Task[T] | None) -> T:
        if before is not None:
            await asyncio.wait({before}, timeout=PATIENCE_SECONDS)
        task = self._waiting.pop(key).task
        self._running[key] = task
        try:
            return await evaluate()
        finally:
            if self._running.get(key) is task:
                del self._running[key]
