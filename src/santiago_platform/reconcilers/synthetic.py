"""Requests that the platform makes itself where a canary has too few of its own to be judged by."""

from __future__ import annotations

import asyncio
from itertools import cycle

from ..domain.canary import Canary
from ..domain.phase import Phase
from ..domain.rollout import SYNTHETIC_HEADER, Rollout, synthetic_values
from ..ports import Ports


class SyntheticLoad:
    """Asks both versions of a rollout alike, for as long as its row says so. It goes on in tasks of this process."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def keep(self, rollout: Rollout) -> None:
        """Begins or ends the requests of a rollout, as its row wants it."""
        wanted = rollout.synthetic and rollout.phase is Phase.ANALYSING
        task = self._tasks.get(rollout.id)
        if wanted and (task is None or task.done()) and rollout.canary is not None:
            asking = self._ask(rollout, rollout.canary)
            self._tasks[rollout.id] = asyncio.create_task(asking, name=f"synthetic load of {rollout.id}")
        elif not wanted and task is not None:
            self._tasks.pop(rollout.id).cancel()

    async def end(self) -> None:
        """Ends all of them, and returns when none asks any more."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, rollout: Rollout, canary: Canary) -> None:
        paths = cycle(canary.synthetic.paths)
        while True:
            path = next(paths)
            for value in synthetic_values(rollout.id):
                await self._ports.visitor.ask(rollout.service, rollout.environment, path, {SYNTHETIC_HEADER: value})
            await self._ports.clock.sleep(2 / canary.synthetic.per_second)
