"""GET over a Unix socket, on a connection that is kept.

A general HTTP client takes a millisecond of the processor for each request, ten times as much as this one, and the
Envoys are asked four times for every look at them.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import cast

from httptools import HttpParserError, HttpResponseParser

Answer = tuple[int, bytes]  # status and body


class UnixHttp:
    """For one server. One request at a time."""

    def __init__(self, path: Path, timeout_seconds: float) -> None:
        self._path = path
        self._timeout = timeout_seconds
        self._connection: _Connection | None = None

    async def get(self, target: str) -> bytes:
        """The body of the answer. target: path and query.

        Raises FileNotFoundError or ConnectionRefusedError where no process listens, another OSError where it does not
        answer whole and in time, ValueError for an answer that is not a success or not HTTP.
        """
        request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        async with asyncio.timeout(self._timeout):
            kept = self._connection
            if kept is not None and kept.usable:
                try:
                    return _body(await kept.ask(request), target)
                except ConnectionError:
                    pass  # it was kept from a process that has gone
            loop = asyncio.get_running_loop()
            _, self._connection = await loop.create_unix_connection(_Connection, str(self._path))
            return _body(await self._connection.ask(request), target)

    @property
    def peer(self) -> socket.socket:
        """The socket that the last answer came by. Raises ConnectionResetError where there is none."""
        if self._connection is None:
            raise ConnectionResetError("nothing was asked yet")
        return self._connection.socket

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _body(answer: Answer, target: str) -> bytes:
    status, body = answer
    if status != 200:
        raise ValueError(f"GET {target} was answered {status}")
    return body


class _Connection(asyncio.Protocol):
    """usable: it may be asked again."""

    def __init__(self) -> None:
        self.usable = False
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None

    @property
    def socket(self) -> socket.socket:
        if self._transport is None:
            raise ConnectionResetError("the connection is closed")
        return cast("socket.socket", self._transport.get_extra_info("socket"))

    async def ask(self, request: bytes) -> Answer:
        """Raises ConnectionError where it is or gets closed, ValueError for what is not HTTP. Cancelled, it is closed:
        the answer would be taken for the next one's."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the connection is closed")
        self.usable = False
        self._parser = HttpResponseParser(self)
        self._received = bytearray()
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            answer = await self._answer
        except BaseException:
            self.close()
            raise
        self.usable = True
        return answer

    def close(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserError as exc:
            self._failed(ValueError(f"this is not HTTP: {exc}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._failed(ConnectionResetError("the connection was closed before the answer was whole"))

    def on_body(self, body: bytes) -> None:
        self._received += body

    def on_message_complete(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((self._parser.get_status_code(), bytes(self._received)))

    def _failed(self, exc: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc)
