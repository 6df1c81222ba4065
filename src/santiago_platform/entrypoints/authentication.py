"""Who sent a request: a bearer token, asked for on loopback too, becomes the principal in the request's scope."""

from __future__ import annotations

import hashlib
import json
from http import HTTPStatus
from typing import Any

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.types import ASGIApp, Receive, Scope, Send

from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Principal
from ..operations.issue_token import authenticate
from ..ports import Ports

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
REMEMBERED_SECONDS = 1.0  # so long a token may outlive its time; a revoked one does not
REMEMBERED_TOKENS = 10_000


class Caller(AuthenticatedUser):
    """The principal, in the form by which the MCP SDK ties a session to who opened it."""

    def __init__(self, principal: Principal) -> None:
        subject = f"{principal.tenant}/{principal.role}"
        super().__init__(AccessToken(token="", client_id=principal.name, scopes=[], subject=subject))
        self.principal = principal


class Authenticator:
    """Knows callers by their tokens, and remembers them for a moment, which spares most calls a look into the store."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._known: dict[bytes, tuple[float, Caller]] = {}
        self._forgotten = 0

    async def caller(self, token: str) -> Caller:
        """Raises PlatformError(UNAUTHENTICATED)."""
        key = hashlib.sha256(token.encode()).digest()
        now = self._ports.clock.monotonic()
        known = self._known.get(key)
        if known is not None and now < known[0]:
            return known[1]
        forgotten = self._forgotten
        caller = Caller(await authenticate(self._ports, token))
        if forgotten == self._forgotten:  # else what was read may have been revoked meanwhile
            if len(self._known) >= REMEMBERED_TOKENS:
                self._known.clear()
            self._known[key] = (now + REMEMBERED_SECONDS, caller)
        return caller

    def forget(self) -> None:
        """To be called after a revocation: the next call of every token is looked up."""
        self._forgotten += 1
        self._known.clear()


class AuthenticationMiddleware:
    """Lets a request pass with its `Caller` as scope["user"], or answers 401.

    exempt: paths with an authentication of their own.
    """

    def __init__(self, app: ASGIApp, authenticator: Authenticator, exempt: frozenset[str] = frozenset()) -> None:
        self._app = app
        self._authenticator = authenticator
        self._open = OPEN_PATHS | exempt

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self._open:
            try:
                scope["user"] = await self._authenticator.caller(bearer(scope))
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
