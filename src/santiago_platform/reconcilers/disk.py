"""The loop over the disk: what nothing uses is removed every hour, and little space is told once."""

from __future__ import annotations

import logging
from datetime import timedelta

from ..domain.disk import DiskLevel
from ..domain.errors import PlatformError
from ..domain.identity import PLATFORM
from ..operations.change import note
from ..operations.disk_space import DiskState, disk_state
from ..operations.release_service import prune_releases
from ..ports import Ports

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
FORGOTTEN_AT_ONCE = 200  # operations or mails in one transaction, so that nobody waits for it
TIDY_SECONDS = 3600.0


class DiskReconciler:
    """Tidies every hour, and at once where space gets little. One per daemon."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._told = DiskLevel.ENOUGH
        self._tidied = float("-inf")

    async def run(self) -> None:
        """Passes until it is cancelled; a failed pass is logged and tried again."""
        while True:
            try:
                await self.pass_over()
            except PlatformError as exc:
                log.warning("the disk could not be tidied: %s %s", exc.message, exc.internal)
            except Exception:
                log.exception("the pass over the disk failed")
            await self._ports.clock.sleep(LOOK_SECONDS)

    async def pass_over(self) -> None:
        """Looks at the space and tidies where it is time. A level that changed is noted in the ship's log."""
        state = disk_state(self._ports)
        level = state.space.told(self._told, state.limits)
        fuller = list(DiskLevel).index(level) > list(DiskLevel).index(self._told)
        if level is not self._told:
            self._told = level
            await self._tell(state, level)
        now = self._ports.clock.monotonic()
        if fuller or now - self._tidied >= TIDY_SECONDS:
            self._tidied = now
            await self._tidy()

    async def _tell(self, state: DiskState, level: DiskLevel) -> None:
        log.warning("disk: %s; %s", level, state.words or str(state.space))
        body = {"free_bytes": state.space.free_bytes, "total_bytes": state.space.total_bytes}
        await note(self._ports, PLATFORM, f"disk.{level}", str(self._ports.workspace.root), body)

    async def _tidy(self) -> None:
        for release in await prune_releases(self._ports):
            log.info("pruned release %s of %s", release.short, release.service)
        await self._forget_operations()
        await self._forget_mail()
        releases = {release.digest for release in await self._ports.artifacts.list()}
        for removed in await self._ports.disk.tidy(self._ports.workspace.settings().retention, releases):
            log.info("removed %s: nothing uses it", removed)

    async def _forget_operations(self) -> None:
        keep, forgotten = self._ports.workspace.last_good_settings().retention.operations, 0
        while count := await self._ports.store.write(
            lambda tx: tx.prune_operations(keep=keep, limit=FORGOTTEN_AT_ONCE)
        ):
            forgotten += count
        if forgotten:
            log.info("forgot %d operations: the ship's log has them", forgotten)

    async def _forget_mail(self) -> None:
        kept = timedelta(days=self._ports.workspace.last_good_settings().retention.mail_days)
        before = self._ports.clock.now() - kept
        while await self._ports.store.write(lambda tx: tx.prune_mail(before, limit=FORGOTTEN_AT_ONCE)):
            pass
