"""Who sent a request: a bearer token, asked for on loopback too, becomes the principal in the request's scope."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.types import ASGIApp, Receive, Scope, Send

from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Principal

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
Authenticate = Callable[[str], Awaitable[Principal]]


class Caller(AuthenticatedUser):
    """The principal, in the form by which the MCP SDK ties a session to who opened it."""

    def __init__(self, principal: Principal) -> None:
        super().__init__(
            AccessToken(token="", client_id=principal.name, scopes=[], subject=f"{principal.tenant}/{principal.role}")
        )
        self.principal = principal


class AuthenticationMiddleware:
    """Lets a request pass with its `Caller` as scope["user"], or answers 401.

    authenticate: raises PlatformError(UNAUTHENTICATED); asked at every request, so that a revocation works at once.
    exempt: paths with an authentication of their own.
    """

    def __init__(self, app: ASGIApp, authenticate: Authenticate, exempt: frozenset[str] = frozenset()) -> None:
        self._app = app
        self._authenticate = authenticate
        self._open = OPEN_PATHS | exempt

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self._open:
            try:
                scope["user"] = Caller(await self._authenticate(bearer(scope)))
            except PlatformError as exc:
                await _refuse(exc, scope["path"], send)
                return
        await self._app(scope, receive, send)


def bearer(scope: Scope) -> str:
    """The token of the one Authorization header. Raises UNAUTHENTICATED where there is none, or not just one."""
    found = [value for name, value in scope["headers"] if name == b"authorization"]
    scheme, _, token = found[0].decode("latin-1").partition(" ") if len(found) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not token.strip():
        raise PlatformError(
            ErrorCode.UNAUTHENTICATED,
            "a bearer token is needed: Authorization: Bearer TOKEN",
            "`santiago token issue` makes one; the owner's is in .santiago/owner.token",
        )
    return token.strip()


async def _refuse(exc: PlatformError, path: str, send: Send) -> None:
    unauthenticated = exc.code is ErrorCode.UNAUTHENTICATED
    status = HTTPStatus.UNAUTHORIZED if unauthenticated else HTTPStatus.SERVICE_UNAVAILABLE
    error: dict[str, Any] = {"code": exc.code, "message": exc.message, "hint": exc.hint}
    if path.startswith("/mcp"):  # in JSON-RPC's form, so that an MCP client shows the words
        body = {"jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": str(exc), "data": error}}
    else:
        body = {"error": error}
    text = json.dumps(body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
    if unauthenticated:
        headers.append((b"www-authenticate", b'Bearer realm="santiago", error="invalid_token"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
