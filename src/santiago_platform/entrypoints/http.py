"""The server over HTTP: MCP for agents, plain JSON for programs and the command line, and what watches it."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, assert_never

from mcp.server.context import ServerRequestContext
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from mcp.server.transport_security import (
    DEFAULT_MAX_REQUEST_BODY_SIZE,
    TransportSecurityMiddleware,
    TransportSecuritySettings,
)
from pydantic_core import from_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Principal
from ..domain.oauth import SCOPES, OAuth
from ..domain.secret import VALUE_BYTES, Secret
from ..operations.ask_policy import PolicyQuery, ask_policy
from ..operations.authority import authorise
from ..operations.check_gates import GatesQuery, read_gates
from ..operations.deliveries import dead_letters, retry_deliveries
from ..operations.disk_space import disk_state
from ..operations.evidence import EVIDENCE_BYTES, EvidenceRequest, add_evidence, list_evidence
from ..operations.issue_token import TokenRequest, issue_token, list_tokens, revoke_token
from ..operations.jobs import JobsQuery, RunJobRequest, read_jobs, run_job
from ..operations.push_release import PushRequest, push_release
from ..operations.read_versions import VersionsQuery, read_versions
from ..operations.release_service import ReleaseRequest, release_service
from ..operations.report_budget import report_budget
from ..operations.secrets import RemoveRequest, list_secrets, remove_secret, set_secret
from ..operations.sessions import SessionRequest, end_session, list_sessions, open_session, renew_session
from ..operations.tenancy import of_all_tenants
from ..ports import Ports
from ..tools.schema import parse
from ..tools.tool import render
from . import a2a
from .authentication import OAUTH_PATH, AuthenticationMiddleware, Authenticator, Caller, bearer
from .invocation import ToolCalls, refusal
from .mcp_resources import error_object, read_resource
from .mcp_server import build_server
from .metrics import ServerMetrics
from .rates import Rates
from .resource_updates import ResourceUpdates

log = logging.getLogger(__name__)

BODY_BYTES = DEFAULT_MAX_REQUEST_BODY_SIZE
PASSED_KEPT = 64  # hosts and origins that were let pass, as they were sent
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
HOOK_PATH = "/hooks/alertmanager"
Status = Callable[[], Awaitable[dict[str, Any]]]
Handler = Callable[[Request], Awaitable[Response]]
Problems = Callable[[], Awaitable[Sequence[str]]]


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
    authenticator = Authenticator(ports)
    calls = ToolCalls(ports, metrics)
    api = _Api(ports, calls, authenticator, status, problems, hook_token)
    updates = ResourceUpdates(ports, read_resource)
    server = build_server(calls, ports, updates, _principal_of_context)
    streaming = StreamableHTTPSessionManager(server, max_request_body_size=BODY_BYTES)
    bulk = StreamableHTTPSessionManager(server, json_response=True, max_request_body_size=BODY_BYTES)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        looking = asyncio.create_task(updates.run(), name="resources")
        try:
            async with streaming.run(), bulk.run():
                yield
        finally:
            looking.cancel()

    app = Starlette(
        routes=[
            Route("/mcp/json", StreamableHTTPASGIApp(bulk)),  # first: it is called most
            Route("/mcp", StreamableHTTPASGIApp(streaming)),
            *api.routes(),
        ],
        exception_handlers={HTTPException: _http_error},
        lifespan=lifespan,
    )
    known = AuthenticationMiddleware(
        app,
        authenticator,
        Rates(ports),
        oauth=lambda: _oauth(ports),
        exempt=frozenset({HOOK_PATH, a2a.CARD_PATH}),
    )
    return _HostMiddleware(known, hosts)


class _Api:
    """Plain JSON: a body is the request's fields, an answer the result's, an error {"error": {code, message, hint}}."""

    def __init__(
        self,
        ports: Ports,
        calls: ToolCalls,
        authenticator: Authenticator,
        status: Status,
        problems: Problems,
        hook_token: str,
    ) -> None:
        self._ports = ports
        self._calls = calls
        self._authenticator = authenticator
        self._status = status
        self._problems = problems
        self._hook_token = hook_token

    def routes(self) -> list[Route]:
        handlers: list[tuple[str, str, Handler]] = [
            ("POST", "/api/tools/{name}", self.call_tool),
            ("GET", "/api/status", self.status),
            ("POST", "/api/releases", self.release),
            ("GET", "/api/jobs", self.jobs),
            ("POST", "/api/jobs", self.run_job),
            ("POST", "/api/releases/push", self.push),
            ("GET", "/api/gates/{service}/{environment}", self.gates),
            ("GET", "/api/versions/{service}/{environment}", self.versions),
            ("POST", "/api/policy", self.policy),
            ("PUT", "/evidence/{digest}", self.attest),
            ("GET", "/evidence/{digest}", self.evidence),
            ("GET", "/api/secrets", self.secrets),
            ("PUT", "/api/secrets/{environment}/{name}", self.set_secret),
            ("DELETE", "/api/secrets/{environment}/{name}", self.remove_secret),
            ("POST", "/api/sessions", self.open_session),
            ("GET", "/api/sessions", self.sessions),
            ("POST", "/api/sessions/{id}", self.renew_session),
            ("DELETE", "/api/sessions/{id}", self.end_session),
            ("POST", "/api/tokens", self.issue),
            ("GET", "/api/tokens", self.tokens),
            ("DELETE", "/api/tokens/{id}", self.revoke),
            ("GET", "/api/log/verify", self.verify),
            ("GET", OAUTH_PATH, self.oauth_metadata),
            ("GET", "/api/reports/budget", self.budget),
            ("GET", "/api/deliveries", self.undelivered),
            ("POST", "/api/deliveries", self.redeliver),
            ("GET", "/healthz", self.alive),
            ("GET", "/readyz", self.ready),
            ("GET", "/metrics", self.scrape),
            ("GET", a2a.CARD_PATH, self.agent_card),
            ("POST", a2a.RPC_PATH, self.agent_message),
            ("POST", HOOK_PATH, self.alerts),
        ]
        return [Route(path, _guarded(handler), methods=[method]) for method, path, handler in handlers]

    async def call_tool(self, request: Request) -> Response:
        arguments = await _body(request)
        name = request.path_params["name"]
        return _json((await self._calls.answer(_principal(request), name, arguments)).text)

    async def status(self, request: Request) -> Response:
        authorise(self._ports, _principal(request), "read_architecture")
        found = await self._status()
        if not self._is_the_workspaces(_principal(request)):
            # Warnings name services of everybody, and the log counts what everybody does.
            found = {**found, "units": [], "warnings": []}
            found.pop("ship_log", None)
        return JSONResponse(found)

    def _is_the_workspaces(self, principal: Principal) -> bool:
        """Whether it may know of what concerns all tenants: the owner, and the workspace's own tenant."""
        return of_all_tenants(principal) or principal.tenant == self._ports.workspace.last_good_settings().tenant

    async def release(self, request: Request) -> Response:
        asked = parse(ReleaseRequest, await _body(request))
        return _json(render(await release_service(self._ports, _principal(request), asked)))

    async def jobs(self, request: Request) -> Response:
        asked = parse(JobsQuery, dict(request.query_params))
        return _json(render(await read_jobs(self._ports, _principal(request), asked)))

    async def run_job(self, request: Request) -> Response:
        asked = parse(RunJobRequest, await _body(request))
        return _json(render(await run_job(self._ports, _principal(request), asked)), 202)

    async def push(self, request: Request) -> Response:
        asked = parse(PushRequest, await _body(request))
        return _json(render(await push_release(self._ports, _principal(request), asked)))

    async def gates(self, request: Request) -> Response:
        asked = parse(GatesQuery, {**request.query_params, **request.path_params})
        return _json(render(await read_gates(self._ports, _principal(request), asked)))

    async def versions(self, request: Request) -> Response:
        asked = parse(VersionsQuery, dict(request.path_params))
        return _json(render(await read_versions(self._ports, _principal(request), asked)))

    async def policy(self, request: Request) -> Response:
        asked = parse(PolicyQuery, await _body(request))
        return _json(render(await ask_policy(self._ports, _principal(request), asked)))

    async def attest(self, request: Request) -> Response:
        """The body is the file itself, of any content type."""
        asked = parse(EvidenceRequest, {**request.query_params, "release": request.path_params["digest"]})
        content = await _content(request, EVIDENCE_BYTES)
        return _json(render(await add_evidence(self._ports, _principal(request), asked, content)), 201)

    async def evidence(self, request: Request) -> Response:
        return _json(render(await list_evidence(self._ports, _principal(request), request.path_params["digest"])))

    async def secrets(self, request: Request) -> Response:
        return _json(render(await list_secrets(self._ports, _principal(request))))

    async def set_secret(self, request: Request) -> Response:
        """The body is the value itself, of any content type."""
        secret = parse(Secret, {**request.query_params, **request.path_params})
        content = await _content(request, VALUE_BYTES)
        return _json(render(await set_secret(self._ports, _principal(request), secret, content)), 201)

    async def remove_secret(self, request: Request) -> Response:
        asked = {**request.query_params, **request.path_params}
        version = asked.pop("version", None)
        number = int(version) if version is not None and version.isdecimal() else version
        removal = parse(RemoveRequest, {"secret": asked, "version": number})
        await remove_secret(self._ports, _principal(request), removal)
        return Response(status_code=204)

    async def issue(self, request: Request) -> Response:
        asked = parse(TokenRequest, await _body(request))
        return _json(render(await issue_token(self._ports, _principal(request), asked)), 201)

    async def tokens(self, request: Request) -> Response:
        found = await list_tokens(self._ports, _principal(request))
        return JSONResponse({"tokens": [token.model_dump(mode="json") for token in found]})

    async def revoke(self, request: Request) -> Response:
        try:
            await revoke_token(self._ports, _principal(request), request.path_params["id"])
        finally:
            self._authenticator.forget()
        return Response(status_code=204)

    async def open_session(self, request: Request) -> Response:
        asked = parse(SessionRequest, await _body(request))
        return _json(render(await open_session(self._ports, _principal(request), asked)), 201)

    async def sessions(self, request: Request) -> Response:
        return _json(render(await list_sessions(self._ports, _principal(request))))

    async def renew_session(self, request: Request) -> Response:
        return _json(render(await renew_session(self._ports, _principal(request), request.path_params["id"])))

    async def end_session(self, request: Request) -> Response:
        try:
            await end_session(self._ports, _principal(request), request.path_params["id"])
        finally:
            self._authenticator.forget()
        return Response(status_code=204)

    async def verify(self, request: Request) -> Response:
        authorise(self._ports, _principal(request), "read_operation")
        if not self._is_the_workspaces(_principal(request)):
            raise PlatformError(
                ErrorCode.PERMISSION_DENIED, "the ship's log is of all tenants", "the owner can verify it"
            )
        found = await self._ports.ship_log.verify()
        return JSONResponse({"intact": found.intact, **found.model_dump(mode="json")})

    async def oauth_metadata(self, _: Request) -> Response:
        """RFC 9728: where a client gets a token for this server."""
        oauth = _oauth(self._ports)
        if oauth is None:
            raise PlatformError(
                ErrorCode.NOT_FOUND, "this server takes no tokens of others", "`santiago token issue` makes one"
            )
        return JSONResponse(
            {
                "resource": oauth.resource,
                "authorization_servers": [oauth.issuer],
                "scopes_supported": SCOPES,
                "bearer_methods_supported": ["header"],
                "resource_name": "Santiago Platform Engineer",
            },
            headers={"cache-control": "public, max-age=300"},
        )

    async def budget(self, request: Request) -> Response:
        return _json(render(await report_budget(self._ports, _principal(request))))

    async def undelivered(self, request: Request) -> Response:
        return _json(render(await dead_letters(self._ports, _principal(request))))

    async def redeliver(self, request: Request) -> Response:
        return _json(render(await retry_deliveries(self._ports, _principal(request))), 202)

    async def agent_card(self, request: Request) -> Response:
        return a2a.card(str(request.base_url))

    async def agent_message(self, request: Request) -> Response:
        return await a2a.answer(self._ports, _principal(request), request, await _content(request, BODY_BYTES))

    async def alive(self, _: Request) -> Response:
        return JSONResponse({"alive": True})

    async def ready(self, _: Request) -> Response:
        problems, disk = list(await self._problems()), disk_state(self._ports)
        body = {"ready": not problems, "problems": problems, "warnings": disk.warnings, "disk": disk.level}
        return JSONResponse(body, 503 if problems else 200)

    async def scrape(self, _: Request) -> Response:
        return Response(self._calls.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def alerts(self, request: Request) -> Response:
        if not hmac.compare_digest(bearer(request.scope).encode(), self._hook_token.encode()):
            raise PlatformError(ErrorCode.UNAUTHENTICATED, "this is not Alertmanager's token")
        body = await _body(request)
        alerts = body.get("alerts")
        if not isinstance(alerts, list) or body.get("status") not in ("firing", "resolved"):
            raise PlatformError(
                ErrorCode.INVALID_ARGUMENT, "this is not a notification of Alertmanager: it has no status and alerts"
            )
        self._calls.metrics.alerts_received(body["status"], len(alerts))
        log.warning("Alertmanager: %d alerts are %s", len(alerts), body["status"])
        return JSONResponse({"received": len(alerts)})


def _oauth(ports: Ports) -> OAuth | None:
    try:
        return ports.workspace.last_good_settings().oauth
    except PlatformError:
        return None


def _principal(request: Request) -> Principal:
    caller: Caller = request.user
    return caller.principal


def _principal_of_context(context: ServerRequestContext[Any, Any]) -> Principal:
    request: Any = context.request  # over HTTP every message has its own, also within a session
    return _principal(request)


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object that was sent; nothing is {}. Raises INVALID_ARGUMENT, also for what is too large or too deep."""
    body = await _content(request, BODY_BYTES)
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT, "the body is not declared as JSON", "send Content-Type: application/json"
        )
    try:
        value = from_json(body or b"{}", allow_inf_nan=False)
    except ValueError as exc:
        raise PlatformError(ErrorCode.INVALID_ARGUMENT, f"the body is not JSON: {str(exc)[:200]}") from exc
    if not isinstance(value, dict):
        raise PlatformError(ErrorCode.INVALID_ARGUMENT, "the body is not a JSON object", 'send {"argument": value}')
    return value


async def _content(request: Request, limit: int) -> bytes:
    """What was sent. Raises INVALID_ARGUMENT for more than `limit` bytes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise PlatformError(ErrorCode.INVALID_ARGUMENT, f"the body is larger than {limit} bytes")
    return bytes(body)


def _json(text: bytes, status: int = 200) -> Response:
    return Response(text, status, media_type="application/json")


def _guarded(handler: Handler) -> Handler:
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Exception as exc:  # noqa: BLE001 - what is not a PlatformError is logged with its trace there
            return _error(refusal(exc, f"{request.method} {request.url.path}"))

    return answer


def _error(exc: PlatformError) -> Response:
    headers = {"retry-after": str(max(1, round(exc.retry_after)))} if exc.retry_after is not None else {}
    if exc.code is ErrorCode.UNAUTHENTICATED:
        headers["www-authenticate"] = 'Bearer realm="santiago"'
    return JSONResponse({"error": error_object(exc)}, http_status(exc.code), headers)


async def _http_error(request: Request, exc: Exception) -> Response:
    """What the router refuses: no such path, or not by this method."""
    assert isinstance(exc, HTTPException)  # noqa: S101 - it is registered for this class
    code = ErrorCode.NOT_FOUND if exc.status_code == 404 else ErrorCode.UNSUPPORTED
    error = {"code": code, "message": f"{exc.detail}: {request.method} {request.url.path[:200]}", "hint": ""}
    return JSONResponse({"error": error}, exc.status_code, exc.headers)


def http_status(code: ErrorCode) -> int:
    """The HTTP status that says the same, as near as there is one."""
    match code:
        case ErrorCode.INVALID_ARGUMENT:
            return 400
        case ErrorCode.UNAUTHENTICATED:
            return 401
        case ErrorCode.PERMISSION_DENIED:
            return 403
        case ErrorCode.NOT_FOUND:
            return 404
        case ErrorCode.CONFLICT | ErrorCode.FAILED_PRECONDITION:
            return 409
        case ErrorCode.RESOURCE_EXHAUSTED:
            return 429
        case ErrorCode.INTERNAL | ErrorCode.DATA_CORRUPT:
            return 500
        case ErrorCode.UNSUPPORTED:
            return 501
        case ErrorCode.UNAVAILABLE:
            return 503
        case ErrorCode.DEADLINE_EXCEEDED:
            return 504
        case _:
            assert_never(code)


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
