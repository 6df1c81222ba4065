from __future__ import annotations

from ...domain.delivery import Notification, Receiver
from ...domain.errors import PlatformError


class FakeNotifier:
    """Implements ports.notifier.Notifier. sent: what was taken, by file. failing: what a file's receiver answers."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Notification]] = []
        self.failing: dict[str, PlatformError] = {}

    async def notify(self, receiver: Receiver, notification: Notification) -> None:
        name = receiver.url_file or receiver.url_variable or ""
        if name in self.failing:
            raise self.failing[name]
        self.sent.append((name, notification))
