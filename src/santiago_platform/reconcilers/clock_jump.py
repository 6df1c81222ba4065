"""Notices that the wall clock has jumped, by the monotonic one beside it."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from datetime import timedelta

from ..ports.clock import Clock

JUMP_SECONDS = 2.0  # less than this a clock may have been slewed by


class ClockJumps:
    """For whoever keeps moments in rows. What jumps while no daemon runs is not noticed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offsets: dict[Hashable, float] = {}

    def of(self, key: Hashable) -> timedelta:
        """By how much it has jumped since `dealt_with`, or since the first look; zero where it has not."""
        offset = self._offset()
        jump = offset - self._offsets.setdefault(key, offset)
        return timedelta(seconds=jump) if abs(jump) >= JUMP_SECONDS else timedelta()

    def dealt_with(self, key: Hashable) -> None:
        """What had been stored before is right again."""
        self._offsets[key] = self._offset()

    def forget(self, key: Hashable) -> None:
        self._offsets.pop(key, None)

    def forget_all_but(self, keys: Collection[Hashable]) -> None:
        self._offsets = {key: offset for key, offset in self._offsets.items() if key in keys}

    def _offset(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()
