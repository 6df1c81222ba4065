"""The loop over deliveries: mail goes to the receivers that want it, at least once, or is given up and told."""

from __future__ import annotations

import asyncio
import logging

from ..domain.delivery import Delivery, DeliveryState, notification
from ..domain.errors import PlatformError
from ..domain.identity import PLATFORM
from ..operations.change import note
from ..ports import Ports
from ..ports.store import Snapshot

log = logging.getLogger(__name__)

IDLE_SECONDS = 1.0
AT_ONCE = 8


class DeliveryReconciler:
    """One per daemon. A crash between a receiver's answer and the row makes a delivery come twice, with its id."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    async def run(self) -> None:
        """Passes until it is cancelled; a failed pass is logged and tried again."""
        while True:
            try:
                while await self.pass_over() == AT_ONCE:
                    pass
            except PlatformError as exc:
                log.warning("deliveries: %s %s", exc.message, exc.internal)
            except Exception:
                log.exception("the pass over deliveries failed")
            await self._ports.activation.wait(IDLE_SECONDS, loop="deliveries")

    async def pass_over(self) -> int:
        """Tries what is due, some at once. Returns how many those were."""
        now = self._ports.clock.now()

        def look(view: Snapshot) -> list[Delivery]:
            return list(view.deliveries(state=DeliveryState.PENDING, due=now, limit=AT_ONCE))

        due = await self._ports.store.read(look)
        await asyncio.gather(*(self._deliver(delivery) for delivery in due))
        return len(due)

    async def _deliver(self, delivery: Delivery) -> None:
        after = await self._tried(delivery)
        await self._ports.store.write(lambda tx: tx.save_delivery(after))
        if after.state is DeliveryState.DEAD:
            log.warning("delivery %s to %s is given up: %s", after.id, after.receiver, after.reason)
            body = {"mail": after.mail, "attempts": after.attempts, "reason": after.reason}
            await note(self._ports, PLATFORM, "delivery.dead", f"receiver {after.receiver}", body)

    async def _tried(self, delivery: Delivery) -> Delivery:
        receiver = self._ports.workspace.last_good_settings().notify.get(delivery.receiver)
        if receiver is None:
            return delivery.given_up("santiago.yaml has no such receiver any more")
        mail = next(iter(await self._ports.store.read(lambda view: view.mail_of_id(delivery.mail))), None)
        if mail is None:
            return delivery.given_up("the mail is gone: it was too old")
        try:
            await self._ports.notifier.notify(receiver, notification(delivery, mail))
        except PlatformError as exc:
            return delivery.failed(exc.message, self._ports.clock.now())
        return delivery.delivered()
