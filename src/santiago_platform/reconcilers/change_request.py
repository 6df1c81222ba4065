"""Ends the change requests that nobody has answered in time."""

from __future__ import annotations

import asyncio
import logging

from ..operations.change_request import end_forsaken
from ..ports import Ports

log = logging.getLogger(__name__)

EVERY_SECONDS = 15.0


class ChangeRequestReconciler:
    """What has expired is refused from that moment on, also before it is looked at here."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    async def run(self) -> None:
        while True:
            try:
                if ended := await end_forsaken(self._ports):
                    log.info("%s change requests have expired", ended)
            except Exception:
                log.exception("looking for change requests that have expired failed")
            await asyncio.sleep(EVERY_SECONDS)
