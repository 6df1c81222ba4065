"""The real daemon with one thing rigged, as a file in its workspace says. Run in place of it: rigged_daemon.py ROOT

.santiago/rigged    `crash PHASE`: SIGKILL at the moment a rollout's row with that phase is durable; once
                    `lie traffic`, `lie traffic compute`, `lie flags`: these writers say done, claim so, and do nothing
                    `withhold routes`: what the Envoys get of a service lacks what the service is named for, see LACKING
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from santiago_platform import bootstrap
from santiago_platform.adapters.fake.compute import FakeCompute
from santiago_platform.adapters.fake.flags import FakeFlags
from santiago_platform.adapters.fake.traffic import FakeTraffic
from santiago_platform.adapters.local import envoy_routes
from santiago_platform.adapters.local.envoy_routes import VirtualHost
from santiago_platform.entrypoints import daemon

LACKING: dict[str, Callable[[VirtualHost], dict[str, Any]]] = {
    "weights": lambda host: {"shares": tuple((version, cluster, 1) for version, cluster, _ in host.shares)},
    "visitors": lambda host: {"matches": tuple(m for m in host.matches if "rehearsal" in str(m[0].header))},
    "sticky": lambda _: {"sticky": False},
    "mirror": lambda _: {"mirror": None},
    "retries": lambda _: {"retries_elsewhere": True},
}
forwards = envoy_routes._forwards


def withheld(host: VirtualHost) -> Any:
    lacks = LACKING.get(host.service, lambda _: {})
    return forwards(host.model_copy(update=lacks(host)))


class CrashingStore:
    """Kills the process once a unit has stored a rollout in the fatal phase, after the commit."""

    def __init__(self, store: Any, rigged: Path, phase: str) -> None:
        self._store, self._rigged, self._phase = store, rigged, phase

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def write(self, unit: Callable[[Any], Any]) -> Any:
        answer = await self._store.write(unit)
        rollouts = await self._store.read(lambda view: [view.rollout_of(o.id) for o in view.operations(limit=1)])
        if any(r is not None and r.phase == self._phase for r in rollouts) and self._rigged.exists():
            self._rigged.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return answer


@asynccontextmanager
async def wire(layout: Any) -> AsyncIterator[Any]:
    async with bootstrap.wire(layout) as wired:
        rigged = layout.state / "rigged"
        kind, _, what = rigged.read_text().partition(" ") if rigged.exists() else ("", "", "")
        if kind == "crash":
            store = CrashingStore(wired.ports.store, rigged, what)
            wired = replace(wired, ports=replace(wired.ports, store=store))
        elif kind == "lie":
            fakes = {"traffic": FakeTraffic(), "compute": FakeCompute(), "flags": FakeFlags()}
            wired = replace(wired, ports=replace(wired.ports, **{name: fakes[name] for name in what.split()}))
        elif kind == "withhold":
            envoy_routes._forwards = withheld
        yield wired


if __name__ == "__main__":
    daemon.wire = wire
    daemon.main()
