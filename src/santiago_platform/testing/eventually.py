"""Waiting for a state, never for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(
    look: Callable[[], Awaitable[T]], accept: Callable[[T], object] = bool, seconds: float = 10.0
) -> T:
    """What `look` gives as soon as `accept` likes it. Fails with what was seen last after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        seen = await look()
        if accept(seen):
            return seen
        assert time.monotonic() < deadline, f"still {seen!r} after {seconds} s"
        await asyncio.sleep(0.01)
