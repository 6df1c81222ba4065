"""Traffic as clients make it: a fixed number of keep-alive connections, and every answer counted."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """What came back. versions: answers by the version that gave them; failed_versions: those that were a failure, with
    "" for a failure without an answer. failures: what went wrong, in words."""

    sent: int = 0
    failed: int = 0
    versions: Counter[str] = field(default_factory=Counter)
    failed_versions: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def quantile(self, q: float) -> float:
        """Of the response times, in seconds; nan without any."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else float("nan")


class Load:
    """`async with Load(port, host) as tally`: GETs until the block ends. pause_seconds: between two of a connection.
    patience_seconds: after which a client gives up.

    An answer other than 2xx, a broken connection and a time-out each count as a failed request.
    """

    def __init__(
        self,
        port: int,
        host: str,
        *,
        connections: int = 4,
        pause_seconds: float = 0.01,
        path: str = "/",
        patience_seconds: float = 10.0,
    ) -> None:
        self._address = ("127.0.0.1", port)
        self._request = (f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: santiago-load\r\n\r\n").encode()
        self._connections = connections
        self._pause = pause_seconds
        self._patience = patience_seconds
        self._ending = asyncio.Event()
        self.tally = Tally()

    async def __aenter__(self) -> Tally:
        self._tasks = [asyncio.create_task(self._client()) for _ in range(self._connections)]
        return self.tally

    async def __aexit__(self, *_: object) -> None:
        self._ending.set()  # requests under way are answered and counted
        await asyncio.gather(*self._tasks)

    async def _client(self) -> None:
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self._ending.is_set():
            self.tally.sent += 1
            began = time.perf_counter()
            try:
                async with asyncio.timeout(self._patience):
                    streams = streams or await asyncio.open_connection(*self._address)
                    status, version, keep = await self._exchange(*streams)
            except (OSError, EOFError, ValueError) as exc:
                self._fail(type(exc).__name__ + (f": {exc}" if str(exc) else ""))
                keep = False
            else:
                self.tally.seconds.append(time.perf_counter() - began)
                self.tally.versions[version] += 1
                if not 200 <= status < 300:
                    self._fail(f"status {status}", version)
            if not keep and streams is not None:
                streams[1].close()
                streams = None
            await asyncio.sleep(self._pause)
        if streams is not None:
            streams[1].close()

    def _fail(self, why: str, version: str = "") -> None:
        self.tally.failed += 1
        self.tally.failed_versions[version] += 1
        self.tally.failures[why] += 1

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, str, bool]:
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        if headers.get("transfer-encoding") == "chunked":
            while size := int((await reader.readline()).split(b";")[0], 16):
                await reader.readexactly(size + 2)
            await reader.readline()
        else:
            await reader.readexactly(int(headers.get("content-length", "0")))
        keep = headers.get("connection", "").lower() != "close"
        return int(head[0].split(" ")[1]), headers.get("x-santiago-version", ""), keep
