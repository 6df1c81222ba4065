"""Deliveries that were given up: which, why, and once more."""

from __future__ import annotations

from datetime import datetime

from ..domain.delivery import Delivery, DeliveryState
from ..domain.identity import Principal
from ..domain.value import Value
from ..ports import Ports
from ..ports.store import Snapshot, Transaction
from .authority import authorise
from .change import change
from .tenancy import of_all_tenants

SHOWN = 200


class DeadLetter(Value):
    id: str
    mail: str
    receiver: str
    attempts: int
    reason: str
    at: datetime


class DeadLetters(Value):
    """Oldest first."""

    deliveries: tuple[DeadLetter, ...]


async def dead_letters(ports: Ports, principal: Principal) -> DeadLetters:
    """Of the caller's tenant. Raises PlatformError(PERMISSION_DENIED)."""
    authorise(ports, principal, "read_mailbox", ports.workspace.last_good_settings())
    return _view(await ports.store.read(lambda view: _dead(view, principal)))


async def retry_deliveries(ports: Ports, principal: Principal) -> DeadLetters:
    """Lets all of the caller's tenant be tried again, and answers which. Raises PlatformError(PERMISSION_DENIED)."""
    async with change(ports, principal, "message_team.retry", "deliveries that were given up", {}) as record:
        authorise(ports, principal, "message_team", ports.workspace.last_good_settings())
        now = ports.clock.now()

        def unit(tx: Transaction) -> list[Delivery]:
            dead = _dead(tx, principal)
            for delivery in dead:
                tx.save_delivery(delivery.revived(now))
            return dead

        revived = await ports.store.write(unit)
        record.body = {"deliveries": [delivery.id for delivery in revived]}
    ports.activation.activate()
    return _view(revived)


async def delivery_warnings(ports: Ports) -> list[str]:
    """For the platform's status: one line for each receiver that did not get something."""
    dead = await ports.store.read(lambda view: list(view.deliveries(state=DeliveryState.DEAD, limit=SHOWN)))
    last = {delivery.receiver: delivery for delivery in dead}
    return [
        f"mail to receiver {name} was given up ({sum(d.receiver == name for d in dead)}): {delivery.reason}; "
        "`santiago mail undelivered` lists it"
        for name, delivery in sorted(last.items())
    ]


def _dead(view: Snapshot, principal: Principal) -> list[Delivery]:
    found = view.deliveries(state=DeliveryState.DEAD, limit=SHOWN)
    return [d for d in found if of_all_tenants(principal) or d.tenant == principal.tenant]


def _view(dead: list[Delivery]) -> DeadLetters:
    shown = (DeadLetter(**d.model_dump(include=set(DeadLetter.model_fields))) for d in dead)
    return DeadLetters(deliveries=tuple(shown))
