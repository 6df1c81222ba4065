"""Agents that call now and then: prepared HTTP requests over many connections, in a process of its own.

    python -m tests.bench.load_client <PLAN.json >MEASURED.json

It does as little as it can, since it shares the machine with what it measures: requests are encoded beforehand, and of
an answer only the status, the length and whether a tool refused are looked at.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import uvloop

ROOT = Path(__file__).parents[2]
GRACE_SECONDS = 20  # for the last answers


@dataclass(frozen=True)
class Plan:
    """requests: as they go over the wire; the connections take them in turn. period_seconds: from one request of a
    connection to its next; 0 sends it with the answer to the one before. warm_seconds: at the start, not measured."""

    port: int
    requests: tuple[str, ...]
    connections: int
    seconds: float
    period_seconds: float = 0.0
    warm_seconds: float = 0.0


@dataclass
class Measured:
    """milliseconds: of each answer that was due within the measured `seconds`, from when its request was due."""

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


def measure(plan: Plan) -> Measured:
    """Runs the plan in a process of its own. Raises RuntimeError where a request failed, with the first one's words."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.load_client"],
        input=json.dumps(asdict(plan)),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=plan.seconds + plan.warm_seconds + 2 * GRACE_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the load client ended with {done.returncode}: {done.stderr[-1000:]}")
    measured = Measured(**json.loads(done.stdout))
    if measured.failed or not measured.milliseconds:
        raise RuntimeError(f"{measured.failed} requests failed, the first one so: {measured.first_failure}")
    return measured


class _Agent(asyncio.Protocol):
    """One connection, opened anew where the server has closed it between two requests, as any client does.

    A request that is late, because the one before it was slow or a connection was needed, counts from when it was due.
    """

    def __init__(self, load: _Load, request: bytes, due: float) -> None:
        self._load = load
        self._request = request
        self._due = due
        self._received = bytearray()
        self._waiting = False
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        try:
            await self._load.loop.create_connection(lambda: self, "127.0.0.1", self._load.plan.port)
        except OSError as exc:
            self._load.answered(self._due, f"no connection: {exc}")
            self._load.finished()
        else:
            self._wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def _wait(self) -> None:
        """Until the next request is due, or for ever where it would come after the end."""
        if self._due >= self._load.end:
            if self._transport is not None:
                self._transport.close()
            self._load.finished()
        elif self._due > time.monotonic():
            self._load.loop.call_at(self._due, self._send)
        else:
            self._send()

    def _send(self) -> None:
        if self._transport is None:
            self._task = self._load.loop.create_task(self.connect())  # which sends, since it is due
            return
        self._waiting = True
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        head = bytes(self._received[:end]).lower()
        if b"transfer-encoding: chunked" in head:
            if not self._received.endswith(b"\r\n0\r\n\r\n"):
                return
        elif len(self._received) < end + int(head.partition(b"content-length:")[2].partition(b"\r")[0] or 0):
            return
        self._waiting = False
        well = head.startswith(b"http/1.1 200") and b'"isError":true' not in self._received
        self._load.answered(self._due, "" if well else self._received.decode(errors="replace"))
        self._received.clear()
        period = self._load.plan.period_seconds
        self._due = self._due + period if period else time.monotonic()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._waiting:
            self._load.answered(self._due, f"the connection was lost: {exc}")
            self._load.finished()


class _Load:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.loop = asyncio.get_running_loop()
        self.measured = Measured(seconds=plan.seconds)
        self._left = plan.connections
        self._done = asyncio.Event()

    async def run(self) -> Measured:
        plan = self.plan
        begin = time.monotonic() + 0.1 + plan.connections / 2000
        self._from = begin + plan.warm_seconds
        self.end = self._from + plan.seconds
        requests = [request.encode("latin-1") for request in plan.requests]
        for number in range(plan.connections):
            due = begin + plan.period_seconds * number / plan.connections
            await _Agent(self, requests[number % len(requests)], due).connect()
        async with asyncio.timeout(self.end - time.monotonic() + GRACE_SECONDS):
            await self._done.wait()
        return self.measured

    def answered(self, due: float, failure: str) -> None:
        if failure:
            self.measured.failed += 1
            self.measured.first_failure = self.measured.first_failure or failure[:1000]
        elif self._from <= due < self.end:
            # Not by the loop's clock: uvloop's counts whole milliseconds, and stands still while callbacks run.
            self.measured.milliseconds.append(1000 * (time.monotonic() - due))

    def finished(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._done.set()


async def _main() -> None:
    json.dump(asdict(await _Load(Plan(**json.load(sys.stdin))).run()), sys.stdout)


if __name__ == "__main__":
    uvloop.run(_main())
