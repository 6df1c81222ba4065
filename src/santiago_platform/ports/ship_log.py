from __future__ import annotations

from typing import Protocol

from ..domain.ship_log import Draft, Entry, Head, Verification


class ShipLog(Protocol):
    """Appends to the tamper-evident log. Only the daemon holds one.

    Concurrent appends are written and synced together (group commit) in the order of their calls.
    """

    async def append(self, draft: Draft) -> Entry:
        """Redacts, chains, writes and syncs; returns when the line is durable. A cancellation may leave the
        line written. Raises RESOURCE_EXHAUSTED where the disk is full: then the change must not be made.
        Raises INVALID_ARGUMENT for the completion of an entry that is not open: each is completed once."""

    async def unfinished(self) -> list[Entry]:
        """Opened entries that nothing completes, oldest first."""

    async def completed(self) -> list[Entry]:
        """The newest entries that complete another, oldest first: some hundred."""

    async def entry(self, seq: int) -> Entry | None:
        """The entry of that number; None where there is none, or where its line cannot be read."""

    async def head(self) -> Head:
        """The chain's signed end."""

    async def verify(self) -> Verification: ...
