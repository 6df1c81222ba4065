"""The loop over instances: those that expose /metrics are scraped."""

from __future__ import annotations

import asyncio
import logging

from ..domain.errors import PlatformError
from ..ports import Ports
from ..ports.compute import InstanceState, InstanceStatus
from ..ports.metrics import ScrapeTarget

log = logging.getLogger(__name__)

IDLE_SECONDS = 10.0


class ScrapeReconciler:
    """Asks each instance once, when it is ready, whether it exposes metrics. One per daemon."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._exposing: dict[ScrapeTarget, bool] = {}

    async def run(self) -> None:
        """Passes until it is cancelled; a failed pass is logged and tried again."""
        while True:
            try:
                await self.pass_over()
            except PlatformError as exc:
                log.warning("instances could not be scraped: %s %s", exc.message, exc.internal)
            except Exception:
                log.exception("the pass over what is scraped failed")
            await self._ports.clock.sleep(IDLE_SECONDS)

    async def pass_over(self) -> None:
        """Hands over every instance that is ready and exposes metrics. Raises what `Metrics.scrape` raises."""
        statuses = await self._ports.compute.list()
        ready = [t for s in statuses if s.state is InstanceState.READY and (t := _target(s)) is not None]
        self._exposing = {t: self._exposing[t] for t in ready if t in self._exposing}
        new = [t for t in ready if t not in self._exposing]
        answers = await asyncio.gather(*(self._ports.metrics.exposes(t.address) for t in new))
        self._exposing |= dict(zip(new, answers, strict=True))
        await self._ports.metrics.scrape([t for t, exposes in self._exposing.items() if exposes])


def _target(status: InstanceStatus) -> ScrapeTarget | None:
    """By the first port; None for an instance without ports."""
    template = status.instance.template
    endpoint = status.endpoints.get(template.ports[0].name) if template.ports else None
    if endpoint is None:
        return None
    return ScrapeTarget(
        instance=status.instance.id,
        service=template.service,
        environment=template.environment,
        version=template.version,
        address=f"{endpoint.host}:{endpoint.port}",
    )
