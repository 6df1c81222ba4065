"""Who sent a request: a bearer token, asked for on loopback too, becomes the principal in the request's scope."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from http import HTTPStatus
from math import ceil
from typing import Any

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.types import ASGIApp, Receive, Scope, Send

from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Principal
from ..domain.oauth import METADATA_PATH, SCOPES, OAuth
from ..operations.issue_token import authenticate
from ..operations.sessions import within_session
from ..ports import Ports
from .invocation import refusal
from .rates import Rates

SESSION_HEADER = b"santiago-session"
SESSIONS_PATH = "/api/sessions"
OAUTH_PATH = f"{METADATA_PATH}/mcp"
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics", OAUTH_PATH})
REMEMBERED_SECONDS = 1.0  # so long a token may outlive its time; a revoked one does not
REMEMBERED_TOKENS = 10_000

_STATUS = {
    ErrorCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    ErrorCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    ErrorCode.FAILED_PRECONDITION: HTTPStatus.CONFLICT,
    ErrorCode.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
    ErrorCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
}


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

    async def caller(self, token: str, session: str | None = None) -> Caller:
        """session: that it names. Raises PlatformError: UNAUTHENTICATED, FAILED_PRECONDITION (the session)."""
        key = hashlib.sha256(f"{token} {session or ''}".encode()).digest()
        now = self._ports.clock.monotonic()
        known = self._known.get(key)
        if known is not None and now < known[0]:
            return known[1]
        forgotten = self._forgotten
        principal = await authenticate(self._ports, token)
        caller = Caller(await within_session(self._ports, principal, session))
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
    """Lets a request pass with its `Caller` as scope["user"], or answers 401, or 429 where it calls too often.

    exempt: whether a path has an authentication of its own.
    """

    def __init__(
        self,
        app: ASGIApp,
        authenticator: Authenticator,
        rates: Rates,
        oauth: Callable[[], OAuth | None],
        exempt: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._rates = rates
        self._oauth = oauth
        self._app = app
        self._authenticator = authenticator
        self._exempt = exempt

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_open(scope["path"]):
            try:
                # One that has expired must not keep its bearer from renewing it.
                session = None if scope["path"].startswith(SESSIONS_PATH) else session_named(scope)
                scope["user"] = caller = await self._authenticator.caller(bearer(scope), session)
                self._rates.admit(caller.principal)
            except Exception as exc:  # noqa: BLE001 - what is not a PlatformError is logged with its trace there
                error = refusal(exc, "authentication")
                await _refuse(error, scope["path"], send, self._challenge(error))
                return
        await self._app(scope, receive, send)

    def _is_open(self, path: str) -> bool:
        return path in OPEN_PATHS or self._exempt(path)

    def _challenge(self, exc: PlatformError) -> str:
        """What a client of OAuth needs to get a token that holds: RFC 6750 and RFC 9728."""
        if exc.code not in (ErrorCode.UNAUTHENTICATED, ErrorCode.PERMISSION_DENIED):
            return ""
        denied = exc.code is ErrorCode.PERMISSION_DENIED
        error = f'insufficient_scope", scope="{" ".join(SCOPES)}' if denied else "invalid_token"
        oauth = self._oauth()
        where = f', resource_metadata="{oauth.metadata_url}"' if oauth else ""
        return f'Bearer realm="santiago", error="{error}"{where}'


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


def session_named(scope: Scope) -> str | None:
    """The id in the header Santiago-Session; None where there is none."""
    return next((v.decode("latin-1").strip()[:64] for name, v in scope["headers"] if name == SESSION_HEADER), None)


async def _refuse(exc: PlatformError, path: str, send: Send, challenge: str) -> None:
    status = _STATUS.get(exc.code, HTTPStatus.SERVICE_UNAVAILABLE)
    error: dict[str, Any] = {"code": exc.code, "message": exc.message, "hint": exc.hint}
    if exc.retry_after is not None:
        error["retry_after"] = round(exc.retry_after, 3)
    if path.startswith("/mcp"):  # in JSON-RPC's form, so that an MCP client shows the words
        body = {"jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": str(exc), "data": error}}
    else:
        body = {"error": error}
    text = json.dumps(body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
    if exc.retry_after is not None:
        headers.append((b"retry-after", str(ceil(exc.retry_after)).encode()))
    if challenge:
        headers.append((b"www-authenticate", challenge.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
