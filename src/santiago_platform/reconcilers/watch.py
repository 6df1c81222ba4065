"""The loop over versions that took over a short while ago: judged on, and rolled back where they turn out worse."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest

from ..domain.counters import Counters, Delta, buckets, deltas
from ..domain.deployment import Deployment, Version
from ..domain.errors import PlatformError
from ..domain.identity import PLATFORM
from ..domain.operation import OperationState
from ..domain.rollout import Rollout
from ..domain.watch import WATCHED, Watch
from ..operations.change import change
from ..operations.rollback_service import KIND as ROLLBACK
from ..operations.rollback_service import roll_back, start_rollback
from ..ports import Ports
from ..ports.store import Transaction
from .clock_jump import ClockJumps

log = logging.getLogger(__name__)

REST_SECONDS = 1.0
REFERENCE_SECONDS = 3600
REFUSED_SECONDS = 5.0  # until a rollback that was refused is tried again; twice as long each time
REFUSED_AT_MOST_SECONDS = 300.0
Key = tuple[str, str]
Clocked = tuple[str, str, datetime | None]


@dataclass(frozen=True)
class _Reading:
    """at: monotonic seconds."""

    version: str
    at: float
    counters: tuple[Counters, ...]


class WatchObserver:
    """Looks at watched versions. Holds, in this process alone, the last reading of each service's counters, and what
    has been looked at and need not be stored yet."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._readings: dict[Key, _Reading] = {}
        self._newest: dict[Key, Watch] = {}

    def newest(self, key: Key, stored: Watch) -> Watch:
        """The watch as it was looked at last: the stored one, or one that goes on from it."""
        known = self._newest.get(key, stored)
        return known if (known.version, known.began_at) == (stored.version, stored.began_at) else stored

    def pause(self, key: Key) -> None:
        """What is counted until the next look is not the version's as it is judged."""
        self._readings.pop(key, None)

    async def look(self, key: Key, stored: Watch, before: Version | None) -> Watch:
        """The watch with what was seen since. before: the version that was replaced."""
        watch, now = self.newest(key, stored), self._ports.clock.now()
        if watch.reference is None:
            try:
                watch = watch.model_copy(update={"reference": await self._reference(key, watch, before)})
            except PlatformError as exc:  # what ends by itself, and what fails whole, is seen without it
                log.warning("%s/%s: no history: %s", *key, exc.message)
        watch = watch.counted_restarts(*await self._restarts(key, watch))
        counted = await self._counted(key, watch)
        if counted is not None:
            watch = watch.look(counted.requests, counted.errors, now)
        self._newest[key] = watch
        return watch

    async def _counted(self, key: Key, watch: Watch) -> Delta | None:
        """What happened to the version in the bucket that has just ended; None while it goes on."""
        now, last = self._ports.clock.monotonic(), self._readings.get(key)
        if last is not None and last.version == watch.version and now - last.at < watch.bucket_seconds:
            return None
        counters = await self._ports.traffic.counters(*key)
        self._readings[key] = _Reading(watch.version, now, counters)
        if last is None or last.version != watch.version:
            return None
        changes = deltas(last.counters, counters)
        return changes.get(watch.version) if changes else None

    async def _restarts(self, key: Key, watch: Watch) -> tuple[int, str]:
        """How often its instances have ended by themselves, and how one of them last did."""
        mine = [s for s in await self._ports.compute.list(*key) if s.instance.template.version == watch.version]
        return sum(s.restarts for s in mine), next((s.last_end for s in mine if s.last_end), "")

    async def _reference(self, key: Key, watch: Watch, before: Version | None) -> tuple[tuple[int, int], ...]:
        """(requests, errors) of the version before, in the hour before it was replaced."""
        if before is None:
            return ()
        seconds = max(watch.bucket_seconds, round(self._ports.metrics.shortest_bucket_seconds))
        end = int(watch.began_at.timestamp()) // seconds * seconds
        start = end - REFERENCE_SECONDS // seconds * seconds
        samples = await self._ports.metrics.history(*key, before.name, start=start, end=end, bucket_seconds=seconds)
        rows = zip_longest(*buckets(samples).values())
        sums = [(sum(c.requests for c in row if c), sum(c.errors for c in row if c)) for row in rows]
        return tuple(pair for pair in sums if pair[0] > 0)


class WatchReconciler:
    """One per daemon. What was counted since the last look is forgotten with it; the verdict so far is in the row."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._observer = WatchObserver(ports)
        self._jumps = ClockJumps(ports.clock)
        self._refused: dict[Clocked, tuple[float, float]] = {}  # when it is tried again, and how long that took

    async def run(self) -> None:
        """Passes until it is cancelled; a failed pass is logged and tried again."""
        while True:
            try:
                await self.pass_over()
            except Exception:
                log.exception("the pass over watched versions failed")
            await self._ports.clock.sleep(REST_SECONDS)

    async def pass_over(self) -> None:
        """One look at each version that is watched and has all the traffic, whatever is being built or held beside."""
        found, busy = await self._ports.store.read(
            lambda v: (
                [d for d in v.deployments() if d.watch],
                {(r.service, r.environment): r for r in v.active_rollouts()},
            )
        )
        known = [_clocked(d) for d in found]
        self._jumps.forget_all_but(known)
        self._refused = {key: tried for key, tried in self._refused.items() if key in known}
        for deployment in found:
            key = (deployment.service, deployment.environment)
            try:
                if await self._jumped(deployment):
                    continue
                if (active := busy.get(key)) is None or active.leaves_live_alone:
                    await self._look(deployment, active)
                else:
                    self._observer.pause(key)
            except PlatformError as exc:
                log.warning("%s/%s is not watched now: %s", deployment.service, deployment.environment, exc.message)
            except Exception:
                log.exception("%s/%s is not watched now", deployment.service, deployment.environment)

    async def _jumped(self, deployment: Deployment) -> bool:
        """Whether the clock has; then the stored watch is right again."""
        key, watch = (deployment.service, deployment.environment), deployment.watch
        jump = self._jumps.of(_clocked(deployment))
        if not jump or watch is None:
            return False
        await self._save(deployment, watch, self._observer.newest(key, watch).after_jump(jump))
        self._jumps.dealt_with(_clocked(deployment))
        return True

    async def _look(self, deployment: Deployment, active: Rollout | None) -> None:
        key, watch = (deployment.service, deployment.environment), deployment.watch
        assert watch is not None  # noqa: S101 - the caller has looked
        if deployment.live is None or deployment.live.name != watch.version or self._ports.clock.now() >= watch.until:
            await self._save(deployment, watch, None)
            return
        after = await self._observer.look(key, watch, deployment.previous)
        if after.worth_storing(watch):
            await self._save(deployment, watch, after)
            deployment = deployment.model_copy(update={"watch": after})
        if after.failed and await self._goes_back(key):
            await self._save(deployment, after, None)
        elif after.failed and deployment.previous is not None:
            await self._try_to_roll_back(deployment, active, f"{WATCHED}: {after.failed}")

    async def _goes_back(self, key: Key) -> bool:
        """Whether a rollback waits for the end of what is under way: who asked for it has decided where to."""
        running = await self._ports.store.read(
            lambda v: list(v.operations(service=key[0], environment=key[1], running=True, limit=1000))
        )
        return any(o.kind == ROLLBACK and o.state is OperationState.RUNNING for o in running)

    async def _save(self, deployment: Deployment, before: Watch, after: Watch | None) -> None:
        """Unless somebody else has changed it meanwhile."""

        def unit(tx: Transaction) -> None:
            current = tx.deployment(deployment.service, deployment.environment)
            if current is not None and current.watch == before:
                tx.save_deployment(current.model_copy(update={"watch": after}))

        await self._ports.store.write(unit)

    async def _try_to_roll_back(self, deployment: Deployment, active: Rollout | None, why: str) -> None:
        """Each try is in the ship's log: one that is refused is not made again at once."""
        key, now = _clocked(deployment), self._ports.clock.monotonic()
        at, waited = self._refused.get(key, (now, REFUSED_SECONDS / 2))
        if now < at:
            return
        wait = min(2 * waited, REFUSED_AT_MOST_SECONDS)
        self._refused[key] = (now + wait, wait)
        await self._roll_back(deployment, active, why)

    async def _roll_back(self, deployment: Deployment, active: Rollout | None, why: str) -> None:
        """active: the rollout under way, which is aborted; the rollback waits for its end."""
        subject = f"{deployment.service}/{deployment.environment}"
        log.warning("%s is rolled back: %s", subject, why)
        principal = PLATFORM.model_copy(update={"tenant": deployment.tenant})
        async with change(self._ports, principal, "watch.rollback", subject, {"reason": why}) as record:
            where = (deployment.service, deployment.environment)
            if active is None:
                left = deployment.live.name if deployment.live else ""
                await start_rollback(self._ports, principal, *where, why, record, leaving=left)
            elif deployment.previous is not None and deployment.watch is not None:
                before = deployment.previous.name
                await roll_back(self._ports, principal, *where, record, reason=why, to=before)
                await self._save(deployment, deployment.watch, None)  # what waits is stored: it need not be asked again
        self._ports.activation.activate()


def _clocked(deployment: Deployment) -> Clocked:
    """What a jump of the clock is dealt with once for: a watch, and not the next one of the service."""
    began_at = deployment.watch.began_at if deployment.watch else None
    return deployment.service, deployment.environment, began_at
