"""The loop over versions that took over a short while ago: judged on, and rolled back where they turn out worse."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import zip_longest

from ..domain.counters import Counters, Delta, buckets, deltas
from ..domain.deployment import Deployment
from ..domain.errors import PlatformError
from ..domain.identity import PLATFORM
from ..domain.watch import RESTARTS_TOO_MANY, Watch, ended_by_themselves
from ..operations.change import change
from ..operations.rollback_service import start_rollback
from ..ports import Ports
from ..ports.store import Transaction

log = logging.getLogger(__name__)

REST_SECONDS = 1.0
REFERENCE_SECONDS = 3600
Key = tuple[str, str]


@dataclass(frozen=True)
class _Reading:
    """at: monotonic seconds."""

    version: str
    at: float
    counters: tuple[Counters, ...]


class WatchReconciler:
    """One per daemon. What was counted since the last look is forgotten with it; the verdict so far is in the row."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._readings: dict[Key, _Reading] = {}

    async def run(self) -> None:
        """Passes until it is cancelled; a failed pass is logged and tried again."""
        while True:
            try:
                await self.pass_over()
            except Exception:
                log.exception("the pass over watched versions failed")
            await self._ports.clock.sleep(REST_SECONDS)

    async def pass_over(self) -> None:
        """One look at each version that is watched and in no rollout."""
        found = await self._ports.store.read(
            lambda v: [d for d in v.deployments() if d.watch and not v.active_rollout(d.service, d.environment)]
        )
        for deployment in found:
            try:
                await self._look(deployment)
            except PlatformError as exc:
                log.warning("%s/%s is not watched now: %s", deployment.service, deployment.environment, exc.message)
            except Exception:
                log.exception("%s/%s is not watched now", deployment.service, deployment.environment)

    async def _look(self, deployment: Deployment) -> None:
        watch, now = deployment.watch, self._ports.clock.now()
        assert watch is not None  # noqa: S101 - the caller has looked
        if deployment.live is None or deployment.live.name != watch.version or now >= watch.until:
            await self._save(deployment, watch, None)
            return
        after = watch
        if after.reference is None:
            try:
                after = after.model_copy(update={"reference": await self._reference(deployment, watch)})
            except PlatformError as exc:  # what ends by itself is seen without it
                log.warning("%s/%s: no history: %s", deployment.service, deployment.environment, exc.message)
        restarts, last_end = await self._restarts(deployment)
        if after.restarts is None:
            after = after.model_copy(update={"restarts": restarts})
        counted = await self._counted(deployment, watch)
        if counted is not None:
            after = after.look(counted.requests, counted.errors, now)
        if after is not watch:
            await self._save(deployment, watch, after)
        count = restarts - (after.restarts or 0)
        ended = ended_by_themselves(count, last_end) if count > 0 else ""
        why = "; ".join(filter(None, (after.judge.failed, ended)))
        if (after.judge.failed or count >= RESTARTS_TOO_MANY) and deployment.previous is not None:
            await self._roll_back(deployment, f"watched after it took over: {why}")

    async def _counted(self, deployment: Deployment, watch: Watch) -> Delta | None:
        """What happened to the version in the bucket that has just ended; None while it goes on."""
        key, now = (deployment.service, deployment.environment), self._ports.clock.monotonic()
        last = self._readings.get(key)
        if last is not None and last.version == watch.version and now - last.at < watch.bucket_seconds:
            return None
        counters = await self._ports.traffic.counters(*key)
        self._readings[key] = _Reading(watch.version, now, counters)
        if last is None or last.version != watch.version:
            return None
        changes = deltas(last.counters, counters)
        return changes.get(watch.version) if changes else None

    async def _restarts(self, deployment: Deployment) -> tuple[int, str]:
        """How often its instances have ended by themselves, and how one of them last did."""
        statuses = await self._ports.compute.list(deployment.service, deployment.environment)
        live = deployment.live.name if deployment.live else ""
        mine = [s for s in statuses if s.instance.template.version == live]
        return sum(s.restarts for s in mine), next((s.last_end for s in mine if s.last_end), "")

    async def _reference(self, deployment: Deployment, watch: Watch) -> tuple[tuple[int, int], ...]:
        """(requests, errors) of the version before, in the hour before it was replaced."""
        if deployment.previous is None:
            return ()
        seconds = max(watch.bucket_seconds, round(self._ports.metrics.shortest_bucket_seconds))
        end = int(watch.began_at.timestamp()) // seconds * seconds
        samples = await self._ports.metrics.history(
            deployment.service,
            deployment.environment,
            deployment.previous.name,
            start=end - REFERENCE_SECONDS // seconds * seconds,
            end=end,
            bucket_seconds=seconds,
        )
        rows = zip_longest(*buckets(samples).values())
        sums = [(sum(c.requests for c in row if c), sum(c.errors for c in row if c)) for row in rows]
        return tuple(pair for pair in sums if pair[0] > 0)

    async def _save(self, deployment: Deployment, before: Watch, after: Watch | None) -> None:
        """Unless somebody else has changed it meanwhile."""

        def unit(tx: Transaction) -> None:
            current = tx.deployment(deployment.service, deployment.environment)
            if current is not None and current.watch == before:
                tx.save_deployment(current.model_copy(update={"watch": after}))

        await self._ports.store.write(unit)

    async def _roll_back(self, deployment: Deployment, why: str) -> None:
        subject = f"{deployment.service}/{deployment.environment}"
        log.warning("%s is rolled back: %s", subject, why)
        principal = PLATFORM.model_copy(update={"tenant": deployment.tenant})
        async with change(self._ports, principal, "watch.rollback", subject, {"reason": why}) as record:
            where = (deployment.service, deployment.environment)
            left = deployment.live.name if deployment.live else ""
            await start_rollback(self._ports, principal, *where, why, record, leaving=left)
        self._ports.activation.activate()
