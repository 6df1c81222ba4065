from __future__ import annotations

from ...domain.ship_log import Chain, Draft, Entry, Head, Verification, verify
from ...ports.clock import Clock
from ..redaction import redacted
from ..ship_log.head_key import HeadKey


class FakeShipLog:
    """Implements ports.ship_log.ShipLog in memory. entries: what was appended. lines: what a file would hold."""

    def __init__(self, clock: Clock) -> None:
        self.entries: list[Entry] = []
        self.lines: list[bytes] = []
        self._clock = clock
        self._chain = Chain()
        self._key = HeadKey.generate()

    async def append(self, draft: Draft) -> Entry:
        entry, line = self._chain.append(redacted(draft), self._clock.now())
        self.entries.append(entry)
        self.lines.append(line)
        return entry

    async def unfinished(self) -> list[Entry]:
        return self._chain.unfinished

    async def completed(self) -> list[Entry]:
        return self._chain.completed

    async def entry(self, seq: int) -> Entry | None:
        return next((entry for entry in self.entries if entry.seq == seq), None)

    async def head(self) -> Head:
        return self._key.sign(self._chain.seq, self._chain.hash, self._clock.now())

    async def verify(self) -> Verification:
        return verify((f"line {number}", line) for number, line in enumerate(self.lines, 1))
