"""A tiny gRPC service and client over h2c, without generated code: messages are bytes.

Source of the format: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived, ResponseReceived, StreamEnded, TrailersReceived

from ..domain.route import Endpoint

_CONTENT = ("content-type", "application/grpc")


class GrpcUpstream:
    """Says its version: to /test/Version once, to /test/Watch once for each message of the client, until that ends.

    It speaks HTTP/2 alone, as gRPC servers do, and knows no other method. copies: calls that are mirrored.
    """

    def __init__(self, version: str, instance: str) -> None:
        self.version = version
        self.instance = instance
        self.copies = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, port: int = 0) -> GrpcUpstream:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        return self

    async def stop(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def endpoint(self, *, draining: bool = False) -> Endpoint:
        port = self._server.sockets[0].getsockname()[1]
        return Endpoint(instance=self.instance, host="127.0.0.1", port=port, draining=draining)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = H2Connection(H2Configuration(client_side=False))
        connection.initiate_connection()
        methods: dict[int, str] = {}
        try:
            with suppress(ConnectionError, asyncio.CancelledError):
                writer.write(connection.data_to_send())
                while data := await reader.read(65536):
                    for event in connection.receive_data(data):
                        self._answer(connection, event, methods)
                    writer.write(connection.data_to_send())
                    await writer.drain()
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    def _answer(self, connection: H2Connection, event: Event, methods: dict[int, str]) -> None:
        match event:
            case RequestReceived(stream_id=stream, headers=headers):
                found = _text(headers)
                methods[stream] = found[":path"]
                self.copies += "x-santiago-mirror" in found
                if found.get("content-type") != "application/grpc":
                    connection.reset_stream(stream)  # as the C core of gRPC does
                    del methods[stream]
                elif found[":path"] == "/test/Watch":
                    connection.send_headers(stream, [(":status", "200"), _CONTENT])
            case DataReceived(stream_id=stream, data=data, flow_controlled_length=length):
                connection.acknowledge_received_data(length, stream)
                if data and methods.get(stream) == "/test/Watch":
                    connection.send_data(stream, _framed(self.version))
            case StreamEnded(stream_id=stream) if stream in methods:
                status = "0"
                if methods[stream] == "/test/Version":
                    connection.send_headers(stream, [(":status", "200"), _CONTENT])
                    connection.send_data(stream, _framed(self.version))
                elif methods[stream] != "/test/Watch":
                    status = "12"  # UNIMPLEMENTED
                    connection.send_headers(stream, [(":status", "200"), _CONTENT])
                connection.send_headers(stream, [("grpc-status", status)], end_stream=True)


class GrpcClient:
    """One connection, over which calls are made one after the other, and one stream may be held."""

    def __init__(self, port: int, authority: str, *metadata: tuple[str, str]) -> None:
        """metadata: goes with every call."""
        self._port = port
        self._authority = authority
        self._metadata = metadata
        self._connection = H2Connection(H2Configuration(client_side=True))
        self._events: list[Event] = []

    async def __aenter__(self) -> GrpcClient:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._connection.initiate_connection()
        await self._flush()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()

    async def version(self) -> str:
        """A unary call. Raises ValueError with what came back where that is no gRPC success."""
        async with asyncio.timeout(10):
            return await self._version()

    async def _version(self) -> str:
        stream = await self.begin("/test/Version")
        await self.send(stream, end=True)
        text = await self.receive(stream)
        await self.end(stream)
        return text

    async def begin(self, method: str) -> int:
        """A call whose messages are still to come. Returns its stream."""
        stream = self._connection.get_next_available_stream_id()
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method),
            (":authority", self._authority),
            ("te", "trailers"),
            _CONTENT,
            *self._metadata,
        ]
        self._connection.send_headers(stream, headers)
        await self._flush()
        return stream

    async def send(self, stream: int, *, end: bool = False) -> None:
        """One message."""
        self._connection.send_data(stream, _framed("?"), end_stream=end)
        await self._flush()

    async def receive(self, stream: int) -> str:
        """The next message of the server. Raises ValueError with the status where none comes."""
        async for event in self._of(stream):
            match event:
                case DataReceived(data=data):
                    return data[5:].decode()
                case ResponseReceived(headers=headers) | TrailersReceived(headers=headers):
                    found = _text(headers)
                    if found.get(":status", "200") != "200" or "grpc-status" in found:
                        raise ValueError(f"status {found.get(':status')}, grpc-status {found.get('grpc-status')}")
        raise ValueError("the connection ended")

    async def end(self, stream: int) -> None:
        """Waits for the end of a call. Raises ValueError where that is no success."""
        async for event in self._of(stream):
            if isinstance(event, TrailersReceived) and (status := _text(event.headers)["grpc-status"]) != "0":
                raise ValueError(f"grpc-status {status}")
            if isinstance(event, StreamEnded):
                return

    async def _of(self, stream: int) -> AsyncIterator[Event]:
        while True:
            for event in [e for e in self._events if getattr(e, "stream_id", None) == stream]:
                self._events.remove(event)
                if isinstance(event, DataReceived):
                    self._connection.acknowledge_received_data(event.flow_controlled_length, stream)
                    if not event.data:
                        continue
                yield event
            data = await self._reader.read(65536)
            if not data:
                return
            self._events += self._connection.receive_data(data)
            await self._flush()

    async def _flush(self) -> None:
        self._writer.write(self._connection.data_to_send())
        await self._writer.drain()


def _text(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in headers}


def _framed(text: str) -> bytes:
    """A message that is not compressed, and its length."""
    return struct.pack(">BI", 0, len(text)) + text.encode()
