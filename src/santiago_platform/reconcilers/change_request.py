"""Ends the change requests that nobody answered in time, and carries out the changes that have no other loop."""

from __future__ import annotations

import logging

from ..domain.errors import PlatformError
from ..operations.change_request import carry_on, end_forsaken
from ..operations.decide_change import HOLDABLE
from ..ports import Ports

log = logging.getLogger(__name__)

IDLE_SECONDS = 15.0
BUSY_SECONDS = 0.5


class ChangeRequestReconciler:
    """What has expired is refused from that moment on, also before it is looked at here."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    async def run(self) -> None:
        """Passes until it is cancelled; a failed pass is logged and tried again."""
        while True:
            rest = IDLE_SECONDS
            try:
                rest = await self.pass_over()
            except PlatformError as exc:
                log.warning("change requests: %s %s", exc.message, exc.internal)
            except Exception:
                log.exception("the pass over change requests failed")
            await self._ports.activation.wait(rest, loop="change requests")

    async def pass_over(self) -> float:
        """Returns the seconds until the next pass."""
        if ended := await end_forsaken(self._ports):
            log.info("%s change requests have expired, or lost their requester", ended)
        goes_on = await carry_on(self._ports, HOLDABLE)
        for kind in HOLDABLE.values():
            if kind.tidy is not None:
                await kind.tidy(self._ports)
        return BUSY_SECONDS if goes_on else IDLE_SECONDS
