"""A tiny real HTTP service within the test: says which version it is, and can be slow, break and die."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

from ..domain.route import Endpoint


class Upstream:
    """Listens on a port of its own from `start` to `stop`.

    GET /hold answers when `release` is set; /stream sends a line of the version again and again until then; /headers
    gives back the request's headers as JSON; an upgrade to websocket is echoed byte by byte; all else answers with the
    version. requests: seen, health checks left out. copies: those of them that are mirrored. received: bytes of all
    bodies. metrics: what /metrics answers, where it is not empty. resets: so many of the next requests break off before
    an answer; truncates: within it. reading: without it bodies are left where they are.
    """

    def __init__(self, version: str, instance: str) -> None:
        self.version = version
        self.instance = instance
        self.requests = 0
        self.copies = 0
        self.resets = 0
        self.truncates = 0
        self.reading = asyncio.Event()
        self.reading.set()
        self.holding = 0
        self.received = 0
        self.status = 200
        self.metrics = ""
        self.release = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> Upstream:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def stop(self) -> None:
        """As SIGKILL does: every connection breaks at once."""
        self._server.close()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    def endpoint(self, *, draining: bool = False) -> Endpoint:
        port = self._server.sockets[0].getsockname()[1]
        return Endpoint(instance=self.instance, host="127.0.0.1", port=port, draining=draining)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            # Cancelled by `stop`; asyncio would report a connection that ends as cancelled.
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._request(reader, writer):
                    pass
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        path = first.split(" ")[1]
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines if line)}
        await self.reading.wait()
        if headers.get("transfer-encoding") == "chunked":
            while size := int(await reader.readline(), 16):
                self.received += len((await reader.readexactly(size + 2))[:-2])
            await reader.readline()
        left = int(headers.get("content-length", 0))
        while left:
            taken = await reader.read(min(left, 1 << 20))
            if not taken:
                return False
            left -= len(taken)
            self.received += len(taken)
        if path == "/healthz":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()
            return True
        self.requests += 1
        self.copies += "x-santiago-mirror" in headers
        if self.resets > 0:
            self.resets -= 1
            return False
        if headers.get("upgrade") == "websocket":
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
            while data := await reader.read(1024):
                writer.write(data)
            return False
        if path == "/hold":
            self.holding += 1
            await self.release.wait()
        if path == "/stream":
            return await self._stream(writer)
        text, kind = self.version, "text/plain"
        if path == "/headers":
            text = json.dumps(headers)
        elif path == "/metrics" and self.metrics:
            text, kind = self.metrics, "text/plain; version=0.0.4; charset=utf-8"
        body = text.encode()
        head = (
            f"HTTP/1.1 {self.status} X\r\nserver: upstream\r\n"
            f"content-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        if self.truncates > 0:
            self.truncates -= 1
            writer.write(head.encode() + body[:1])
            await writer.drain()
            return False
        writer.write(head.encode() + body)
        await writer.drain()
        return True

    async def _stream(self, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        line = f"{self.version}\n".encode()
        while not self.release.is_set():
            writer.write(b"%x\r\n%s\r\n" % (len(line), line))
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True
