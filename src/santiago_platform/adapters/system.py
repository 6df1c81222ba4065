"""The machine's own clock, and the activation of loops within one process."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import suppress
from datetime import UTC, datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no letters that look like digits


class SystemClock:
    """Implements ports.clock.Clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def new_id(self, prefix: str) -> str:
        number = (time.time_ns() // 1_000_000 << 30) | secrets.randbits(30)
        digits = ""
        while number:
            number, digit = divmod(number, 32)
            digits = _ALPHABET[digit] + digits
        return f"{prefix}-{digits}"

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class LoopActivation:
    """Implements ports.activation.Activation for the loops of one process."""

    def __init__(self) -> None:
        self._events: dict[str, asyncio.Event] = {}
        self._activated = False

    def activate(self) -> None:
        self._activated = True
        for event in self._events.values():
            event.set()

    async def wait(self, timeout: float, loop: str = "") -> bool:
        if loop not in self._events:
            self._events[loop] = asyncio.Event()
            if self._activated:
                self._events[loop].set()
        event = self._events[loop]
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await event.wait()
        activated = event.is_set()
        event.clear()
        return activated
