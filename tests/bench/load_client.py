"""Sends prepared HTTP requests over many connections and measures the answers: `wrk` in small, as its own process.

    python -m tests.bench.load_client < PLAN.json > MEASURED.json

It does as little as it can, since it shares the machine with what it measures: requests are encoded beforehand, and
of an answer only its status and its length are read.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict, dataclass, field
from typing import cast

import uvloop


@dataclass(frozen=True)
class Plan:
    """request: as it goes over the wire. period_seconds: between two requests of a connection; 0 sends the next one
    with the answer. warm_seconds: at the start, not measured."""

    port: int
    request: str
    connections: int
    seconds: float
    period_seconds: float = 0.0
    warm_seconds: float = 0.0


@dataclass
class Measured:
    """seconds: of the measurement. milliseconds: of each answer, from when its request was due."""

    seconds: float = 0.0
    failed: int = 0
    first_failure: str = ""
    milliseconds: list[float] = field(default_factory=list)

    @property
    def calls_per_second(self) -> float:
        return len(self.milliseconds) / self.seconds

    def quantile(self, q: float) -> float:
        """In milliseconds."""
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


class _Connection(asyncio.Protocol):
    """One agent. A request that is late because the one before it was slow is counted from when it was due."""

    def __init__(self, load: _Load, due: float) -> None:
        self._load = load
        self._due = due
        self._received = bytearray()
        self._waiting = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._load.loop.call_at(self._due, self._send)

    def _send(self) -> None:
        if self._load.loop.time() >= self._load.end or self._transport is None or self._transport.is_closing():
            self._finish()
            return
        self._waiting = True
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = bytes(self._received[:head_end]).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r")[0] or 0)
        if len(self._received) < head_end + 4 + length:
            return
        now = self._load.loop.time()
        self._waiting = False
        body = bytes(self._received[head_end + 4 :])
        self._load.answered(self._due, now, b" 200 " in head[:16] and b'"isError":true' not in body, head[:40] + body)
        self._received.clear()
        period = self._load.plan.period_seconds
        self._due = self._due + period if period else now
        self._load.loop.call_at(self._due, self._send) if period else self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting:
            self._load.answered(self._due, self._load.loop.time(), False, f"connection lost: {exc}".encode())
        self._finish()

    def _finish(self) -> None:
        if self._transport is not None:
            transport, self._transport = self._transport, None
            transport.close()
            self._load.finished()


class _Load:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.loop = asyncio.get_running_loop()
        self.request = plan.request.encode("latin-1")
        self.measured = Measured(seconds=plan.seconds)
        self._left = plan.connections
        self._done = asyncio.Event()

    async def run(self) -> Measured:
        begin = self.loop.time() + 0.2 + self.plan.connections / 5000
        self._measured_from = begin + self.plan.warm_seconds
        self.end = self._measured_from + self.plan.seconds
        for number in range(self.plan.connections):
            spread = self.plan.period_seconds * number / self.plan.connections
            await self.loop.create_connection(
                lambda due=begin + spread: _Connection(self, due), "127.0.0.1", self.plan.port
            )
        async with asyncio.timeout_at(self.end + 30):
            await self._done.wait()
        return self.measured

    def answered(self, due: float, now: float, well: bool, answer: bytes) -> None:
        if not well:
            self.measured.failed += 1
            self.measured.first_failure = self.measured.first_failure or answer[:500].decode(errors="replace")
        elif self._measured_from <= due < self.end:
            self.measured.milliseconds.append(1000 * (now - due))

    def finished(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._done.set()


async def _main() -> None:
    measured = await _Load(Plan(**json.load(sys.stdin))).run()
    json.dump(asdict(measured), sys.stdout)


if __name__ == "__main__":
    uvloop.run(_main())
