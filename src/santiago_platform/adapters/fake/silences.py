from __future__ import annotations

from ...domain.errors import ErrorCode, PlatformError
from ...domain.silence import Silence
from ...ports.clock import Clock


class FakeSilences:
    """Silences in a dictionary, by id. down: it does not answer. sabotaged: it says that it makes, and makes none."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._made: dict[str, Silence] = {}
        self._count = 0
        self.down = False
        self.sabotaged = False

    async def make(self, silence: Silence) -> str:
        self._answer()
        if silence.ends_at <= self._clock.now():
            raise PlatformError(ErrorCode.INVALID_ARGUMENT, "a silence that has ended silences nothing", "")
        self._count += 1
        id = f"silence-{self._count}"
        if not self.sabotaged:
            self._made[id] = silence.model_copy(update={"id": id})
        return id

    async def end(self, id: str) -> None:
        self._answer()
        self._made.pop(id, None)

    async def active(self) -> tuple[Silence, ...]:
        self._answer()
        now = self._clock.now()
        return tuple(silence for silence in self._made.values() if silence.ends_at > now)

    def _answer(self) -> None:
        if self.down:
            raise PlatformError(ErrorCode.UNAVAILABLE, "Alertmanager does not answer", "try again")
