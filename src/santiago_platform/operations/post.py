"""Puts mail into mailboxes, within a transaction."""

from __future__ import annotations

from collections.abc import Iterable

from ..domain.delivery import deliveries
from ..domain.environment import Settings
from ..domain.mailbox import Mail, copies
from ..ports.store import Transaction


def post(tx: Transaction, mails: Iterable[Mail], settings: Settings) -> None:
    """Twice the same id is once, so a writer that crashed may post again. A mail lies in each mailbox it goes to,
    and is to be delivered to each receiver that wants it."""
    for mail in mails:
        for copy in copies(mail):
            tx.add_mail(copy)
        for delivery in deliveries(mail, settings.notify, settings.tenant):
            tx.add_delivery(delivery)
