from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Time and fresh names: the two things that would make a decision irreproducible."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC. May jump."""

    def monotonic(self) -> float:
        """Seconds that never go back; for drains and time-outs within one process."""

    def new_id(self, prefix: str) -> str:
        """A fresh name `PREFIX-...`, sortable by time, of lower-case letters and digits."""

    async def sleep(self, seconds: float) -> None:
        """Returns after `seconds`; of the same time as `monotonic`."""
