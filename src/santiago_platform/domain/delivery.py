"""Delivery of mail to where people look: who gets which, when it is tried again, and when no more. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from .identity import Name, Role
from .mailbox import Mail, Severity
from .value import Value

ATTEMPTS = 10  # over a little more than an hour
FIRST_WAIT = timedelta(seconds=5)
LONGEST_WAIT = timedelta(minutes=15)


class Receiver(Value):
    """Where mail is delivered to, beside the mailboxes: an address of Apprise. It has secrets, so it is named only.

    url_file: with the address, by a path that is absolute or within the workspace. url_variable: of the platform's
    environment. roles: of whose mailboxes; none means all. severity: at least. tenant: whose mail; None means the
    workspace's own.
    """

    url_file: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    url_variable: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    roles: tuple[Role, ...] = ()
    severity: Severity = Severity.INFO
    tenant: Name | None = None

    @model_validator(mode="after")
    def _has_one_address(self) -> Self:
        if (self.url_file is None) == (self.url_variable is None):
            raise ValueError("say either url_file or url_variable")
        return self

    def wants(self, mail: Mail, own_tenant: str, *, named: bool) -> bool:
        """named: the mail says that it goes to this one. It never gets another tenant's."""
        concerned = not self.roles or not mail.to or not set(self.roles).isdisjoint(mail.to)
        asked = named or (concerned and mail.severity.rank >= self.severity.rank)
        return asked and mail.tenant == (self.tenant or own_tenant)


class Notification(Value):
    """What a receiver gets. id: of the delivery, the same each time that it is tried."""

    id: str
    severity: Severity
    title: str
    text: str


class DeliveryState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"  # given up


class Delivery(Value):
    """One mail for one receiver. next_at: when it is tried. reason: why the last attempt failed."""

    id: str
    mail: str
    tenant: Name
    receiver: Name
    state: DeliveryState = DeliveryState.PENDING
    attempts: int = 0
    next_at: datetime
    reason: Annotated[str, Field(max_length=500)] = ""
    at: datetime

    def delivered(self) -> Delivery:
        return self.model_copy(update={"state": DeliveryState.DELIVERED, "attempts": self.attempts + 1, "reason": ""})

    def failed(self, reason: str, now: datetime) -> Delivery:
        """Tried again after a wait that doubles; after ATTEMPTS of them no more."""
        attempts = self.attempts + 1
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** (attempts - 1))
        state = DeliveryState.DEAD if attempts >= ATTEMPTS else DeliveryState.PENDING
        update = {"state": state, "attempts": attempts, "reason": reason[:500], "next_at": now + wait}
        return self.model_copy(update=update)

    def revived(self, now: datetime) -> Delivery:
        return self.model_copy(update={"state": DeliveryState.PENDING, "attempts": 0, "next_at": now})

    def given_up(self, reason: str) -> Delivery:
        return self.model_copy(update={"state": DeliveryState.DEAD, "reason": reason[:500]})


def deliveries(mail: Mail, receivers: Mapping[str, Receiver], own_tenant: str) -> Iterable[Delivery]:
    """One for each receiver that wants it; their ids follow from the mail's and the receiver's."""
    for name, receiver in receivers.items():
        if receiver.wants(mail, own_tenant, named=name == mail.receiver):
            yield Delivery(
                id=f"dl-{mail.id}-{name}", mail=mail.id, tenant=mail.tenant, receiver=name, next_at=mail.at, at=mail.at
            )


def notification(delivery: Delivery, mail: Mail) -> Notification:
    links = (("operation", mail.operation), ("incident", mail.incident))
    about = "".join(f"\n{name} {link}" for name, link in links if link)
    return Notification(
        id=delivery.id,
        severity=mail.severity,
        title=f"{mail.severity} to {mail.addressee} from {mail.sender.name} ({mail.sender.role})",
        text=f"{mail.text}\n{about}\ndelivery {delivery.id}",
    )
