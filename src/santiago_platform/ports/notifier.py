from __future__ import annotations

from typing import Protocol

from ..domain.delivery import Notification, Receiver


class Notifier(Protocol):
    """Tells people where they look: chat, e-mail, webhooks."""

    async def notify(self, receiver: Receiver, notification: Notification) -> None:
        """Returns once the other side has taken it. A cancellation may leave it sent.

        Raises PlatformError: FAILED_PRECONDITION where the receiver has no address that can be read, UNAVAILABLE
        where the other side did not take it, DEADLINE_EXCEEDED. No word of it, internal ones neither, has the address.
        """
