from __future__ import annotations

from typing import Protocol

from ..domain.silence import Silence


class Silences(Protocol):
    """What tells nobody for a while. Every method raises UNAVAILABLE while it cannot be asked."""

    async def make(self, silence: Silence) -> str:
        """Its id. Asked for twice there are two, which do no more than one. Raises INVALID_ARGUMENT for
        one that has ended already."""

    async def end(self, id: str) -> None:
        """At once. Idempotent; one that is not there has ended."""

    async def active(self) -> tuple[Silence, ...]:
        """Those that have not ended, of one alert of one service in one environment each: what others have made more
        broadly is not among them."""
