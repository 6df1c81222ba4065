"""The loop that says that operations have begun. Their ends are said in the transaction that completes them."""

from __future__ import annotations

import logging

from ..domain.announcement import announcements
from ..domain.errors import PlatformError
from ..domain.operation import OperationState
from ..operations.post import post
from ..ports import Ports
from ..ports.store import Transaction

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
RUNNING_AT_ONCE = 1_000


class AnnouncementReconciler:
    """One per daemon. An operation that ends before a look is said to have ended, and that is enough."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._said: set[str] = set()

    async def run(self) -> None:
        """Passes until it is cancelled; a failed pass is logged and tried again."""
        while True:
            try:
                await self.pass_over()
            except PlatformError as exc:
                log.warning("announcements: %s %s", exc.message, exc.internal)
            except Exception:
                log.exception("the pass over announcements failed")
            await self._ports.activation.wait(LOOK_SECONDS, loop="announcements")

    async def pass_over(self) -> None:
        """Says of each operation that runs that it does, if that is to be said and was not yet."""
        under_way = await self._ports.store.read(lambda view: view.operations(running=True, limit=RUNNING_AT_ONCE))
        running = [o for o in under_way if o.state is OperationState.RUNNING]  # others wait for somebody, and said so
        settings = self._ports.workspace.last_good_settings()
        fresh = [
            mail
            for operation in running
            if operation.id not in self._said
            for mail in announcements(operation, settings.kind_of(operation.environment))
        ]
        if fresh:

            def unit(tx: Transaction) -> None:
                post(tx, fresh, settings)

            await self._ports.store.write(unit)
        self._said = {operation.id for operation in running}
