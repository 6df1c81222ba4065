"""MCP over stdin and stdout for desktop clients: every message goes to the daemon and back, in either era.

It outlives the daemon: while that is away calls are answered with an error, and a session of the handshake era
that the daemon forgot by a restart is opened again with the client's own handshake.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import httpx2
from mcp.client.streamable_http import MCP_SESSION_ID, streamable_http_client
from mcp.server.stdio import stdio_server
from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    NAME_BEARING_METHODS,
    encode_header_value,
)
from mcp.shared.message import ClientMessageMetadata, SessionMessage
from mcp_types import (
    CONNECTION_CLOSED,
    PARSE_ERROR,
    PROTOCOL_VERSION_META_KEY,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
)

log = logging.getLogger(__name__)

URL = "http://localhost/mcp"


async def bridge(socket: Path, token: str) -> None:
    """Serves until stdin ends. socket: the daemon's; token: the bearer token of who calls."""
    daemon = DaemonTransport(httpx2.AsyncHTTPTransport(uds=str(socket)))
    async with (
        httpx2.AsyncClient(
            transport=daemon,
            headers={"authorization": f"Bearer {token}"},
            # A call that waits may be silent for minutes; a daemon that dies closes the connection.
            timeout=httpx2.Timeout(10, read=None, pool=None),
        ) as client,
        streamable_http_client(URL, http_client=client) as (from_daemon, to_daemon),
        stdio_server() as (from_client, to_client),
        anyio.create_task_group() as group,
    ):
        era = Era()

        async def answers() -> None:
            async for item in from_daemon:
                if isinstance(item, SessionMessage):
                    era.answered(item.message)
                    await to_client.send(item)

        group.start_soon(answers)
        async for item in from_client:
            if isinstance(item, SessionMessage):
                headers = era.headers(item.message)
                await to_daemon.send(SessionMessage(item.message, ClientMessageMetadata(headers=headers)))
            else:
                error = ErrorData(code=PARSE_ERROR, message="this line is not a JSON-RPC message")
                await to_client.send(SessionMessage(JSONRPCError(jsonrpc="2.0", id=None, error=error)))
        group.cancel_scope.cancel()


class Era:
    """The HTTP headers that go with each message: they repeat what the message says, differently in each era."""

    def __init__(self) -> None:
        self._handshake: str | None = None
        self._initialize: object = None

    def headers(self, message: JSONRPCMessage) -> dict[str, str]:
        if not isinstance(message, JSONRPCRequest | JSONRPCNotification):
            return self._version()
        params: Mapping[str, Any] = message.params or {}
        meta = params.get("_meta")
        version = meta.get(PROTOCOL_VERSION_META_KEY) if isinstance(meta, Mapping) else None
        if message.method == "initialize" and isinstance(message, JSONRPCRequest):
            self._initialize = message.id
            return {}
        if not isinstance(version, str):
            return self._version()
        headers = {MCP_PROTOCOL_VERSION_HEADER: version, MCP_METHOD_HEADER: message.method}
        name = params.get(NAME_BEARING_METHODS.get(message.method, ""))
        return {**headers, MCP_NAME_HEADER: encode_header_value(name)} if isinstance(name, str) else headers

    def answered(self, message: JSONRPCMessage) -> None:
        """Keeps the version that the daemon agreed to in the handshake."""
        if isinstance(message, JSONRPCResponse) and message.id == self._initialize:
            self._handshake = str(message.result.get("protocolVersion"))

    def _version(self) -> dict[str, str]:
        return {MCP_PROTOCOL_VERSION_HEADER: self._handshake} if self._handshake else {}


class DaemonTransport(httpx2.AsyncBaseTransport):
    """Turns a daemon that is away into an answer, and repeats the handshake with one that was restarted."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner
        self._handshake: list[httpx2.Request] = []
        self._sessions: dict[str, str] = {}
        self._repeating = anyio.Lock()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        session = request.headers.get(MCP_SESSION_ID)
        try:
            response = await self._send(request, session)
            if response.status_code == 404 and session is not None and request.method == "POST":
                await response.aclose()
                response = await self._send_anew(request, session)
        except httpx2.TransportError as exc:
            log.warning("the daemon does not answer: %s", exc)
            return _away()
        self._remember(request, response)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _send(self, request: httpx2.Request, session: str | None) -> httpx2.Response:
        if session is not None:
            request.headers[MCP_SESSION_ID] = self._sessions.get(session, session)
        return await self._inner.handle_async_request(request)

    def _remember(self, request: httpx2.Request, response: httpx2.Response) -> None:
        if request.method != "POST" or response.status_code >= 400:
            return
        method = _method(request)
        if method == "initialize":
            self._handshake = [request]
        elif method == "notifications/initialized":
            self._handshake = [*self._handshake[:1], request]

    async def _send_anew(self, request: httpx2.Request, session: str) -> httpx2.Response:
        async with self._repeating:
            refused = request.headers[MCP_SESSION_ID]
            if self._sessions.get(session, session) == refused:  # else another call has repeated it meanwhile
                for message in self._handshake:
                    if MCP_SESSION_ID in message.headers:
                        message.headers[MCP_SESSION_ID] = self._sessions[session]
                    answer = await self._inner.handle_async_request(message)
                    await answer.aread()
                    await answer.aclose()
                    if opened := answer.headers.get(MCP_SESSION_ID):
                        self._sessions[session] = opened
        return await self._send(request, session)


def _method(request: httpx2.Request) -> object:
    message = json.loads(request.content)
    return message.get("method") if isinstance(message, dict) else None


def _away() -> httpx2.Response:
    message = "the platform does not answer: `santiago up` starts it, `santiago status` says how it is"
    error = {"code": CONNECTION_CLOSED, "message": message}
    return httpx2.Response(503, json={"jsonrpc": "2.0", "id": None, "error": error})
