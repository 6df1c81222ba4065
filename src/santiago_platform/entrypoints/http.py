"""The server over HTTP: MCP for agents, plain JSON and the console beside it, and who may call it by which name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from mcp.server.transport_security import (
    TransportSecurityMiddleware,
    TransportSecuritySettings,
)
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..domain.identity import Principal
from ..ports import Ports
from . import a2a
from .authentication import AuthenticationMiddleware, Authenticator
from .console.console import Console, is_console
from .http_answer import BODY_BYTES, http_error, principal_of
from .invocation import ToolCalls
from .json_api import HOOK_PATH, JsonApi, Problems, Status, oauth_of
from .mcp_resources import read_resource
from .mcp_server import build_server
from .metrics import ServerMetrics
from .rates import Rates
from .resource_updates import ResourceUpdates
from .tracing import TracingMiddleware

PASSED_KEPT = 64  # hosts and origins that were let pass, as they were sent
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")


def build_app(
    ports: Ports,
    *,
    status: Status,
    problems: Problems,
    hook_token: str,
    metrics: ServerMetrics | None = None,
    hosts: Sequence[str] = LOOPBACK_HOSTS,
) -> ASGIApp:
    """The whole server as an ASGI application; its lifespan must be run.

    status: what `santiago status` shows. problems: why the server is not ready, in words; none means ready.
    hook_token: what Alertmanager sends as its bearer token. hosts: names by which clients may call it; a request
    for another one is refused, as a browser on a page that rebinds its name would send it.
    """
    authenticator, rates = Authenticator(ports), Rates(ports)
    console = Console(ports, authenticator, rates)
    calls = ToolCalls(ports, metrics)
    api = JsonApi(ports, calls, authenticator, status, problems, hook_token)
    updates = ResourceUpdates(ports, read_resource)
    server = build_server(calls, ports, updates, _principal_of_context)
    streaming = StreamableHTTPSessionManager(server, max_request_body_size=BODY_BYTES)
    bulk = StreamableHTTPSessionManager(server, json_response=True, max_request_body_size=BODY_BYTES)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        looking = [
            asyncio.create_task(looks.run(), name=name)
            for name, looks in (("resources", updates), ("console", console.updates))
        ]
        try:
            async with streaming.run(), bulk.run():
                yield
        finally:
            for task in looking:
                task.cancel()

    app = Starlette(
        routes=[
            Route("/mcp/json", StreamableHTTPASGIApp(bulk)),  # first: it is called most
            Route("/mcp", StreamableHTTPASGIApp(streaming)),
            *api.routes(),
            *console.routes(),
        ],
        exception_handlers={HTTPException: http_error},
        lifespan=lifespan,
    )
    known = AuthenticationMiddleware(
        app,
        authenticator,
        rates,
        oauth=lambda: oauth_of(ports),
        exempt=lambda path: path in (HOOK_PATH, a2a.CARD_PATH) or is_console(path),
    )
    guarded = _HostMiddleware(known, hosts)
    return TracingMiddleware(guarded, ports.traces) if ports.traces.enabled else guarded


def _principal_of_context(context: ServerRequestContext[Any, Any]) -> Principal:
    request: Any = context.request  # over HTTP every message has its own, also within a session
    return principal_of(request)


class _HostMiddleware:
    """Refuses a request for another host's name, and one that a page of another origin sends."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        origins = [f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts]
        self._app = app
        self._passed: set[tuple[tuple[bytes, bytes], ...]] = set()
        self._security = TransportSecurityMiddleware(
            TransportSecuritySettings(
                allowed_hosts=[*hosts, *(f"{host}:*" for host in hosts)],
                allowed_origins=[*origins, *(f"{origin}:*" for origin in origins)],
            )
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            named = tuple(header for header in scope["headers"] if header[0] in (b"host", b"origin"))
            if named not in self._passed:
                refused = await self._security.validate_request(Request(scope))
                if refused is not None:
                    await refused(scope, receive, send)
                    return
                if len(self._passed) < PASSED_KEPT:
                    self._passed.add(named)
        await self._app(scope, receive, send)
