"""Plain JSON for programs and the command line: each route is one operation."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..domain.alert_notification import notification
from ..domain.errors import ErrorCode, PlatformError, retryable
from ..domain.identity import Principal
from ..domain.oauth import SCOPES, OAuth
from ..domain.secret import VALUE_BYTES, Secret
from ..operations.ask_policy import PolicyQuery, ask_policy
from ..operations.authority import authorise
from ..operations.check_gates import GatesQuery, read_gates
from ..operations.deliveries import dead_letters, retry_deliveries
from ..operations.disk_space import disk_state
from ..operations.evidence import EVIDENCE_BYTES, EvidenceRequest, add_evidence, list_evidence
from ..operations.incidents import IncidentCommand, manage_incident, receive_alerts
from ..operations.issue_token import TokenRequest, issue_token, list_tokens, revoke_token
from ..operations.jobs import JobsQuery, RunJobRequest, read_jobs, run_job
from ..operations.push_release import PushRequest, push_release
from ..operations.read_incidents import IncidentsQuery, list_incidents, show_incident
from ..operations.read_ship_log import verify_ship_log
from ..operations.read_versions import VersionsQuery, read_versions
from ..operations.release_service import ReleaseRequest, release_service
from ..operations.secrets import RemoveRequest, SecretView, list_secrets, remove_secret, set_secret
from ..operations.sessions import SessionRequest, end_session, list_sessions, open_session, renew_session
from ..operations.tenancy import of_all_tenants
from ..ports import Ports
from ..tools.schema import parse
from ..tools.tool import render
from . import a2a
from .authentication import OAUTH_PATH, Authenticator, bearer
from .http_answer import BODY_BYTES, Handler, guarded, json_answer, json_body, principal_of, sent
from .invocation import ToolCalls
from .report_api import ReportApi

HOOK_PATH = "/hooks/alertmanager"
Status = Callable[[], Awaitable[dict[str, Any]]]
Problems = Callable[[], Awaitable[Sequence[str]]]


class JsonApi:
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
            ("GET", "/api/incidents", self.incidents),
            ("GET", "/api/incidents/{id}", self.incident),
            ("POST", "/api/incidents/{id}", self.manage_incident),
            *ReportApi(self._ports).handlers(),
            ("GET", "/api/deliveries", self.undelivered),
            ("POST", "/api/deliveries", self.redeliver),
            ("GET", "/healthz", self.alive),
            ("GET", "/readyz", self.ready),
            ("GET", "/metrics", self.scrape),
            ("GET", a2a.CARD_PATH, self.agent_card),
            ("POST", a2a.RPC_PATH, self.agent_message),
            ("POST", HOOK_PATH, self.alerts),
        ]
        return [Route(path, guarded(handler), methods=[method]) for method, path, handler in handlers]

    async def call_tool(self, request: Request) -> Response:
        arguments = await json_body(request)
        name = request.path_params["name"]
        return json_answer((await self._calls.answer(principal_of(request), name, arguments)).text)

    async def status(self, request: Request) -> Response:
        authorise(self._ports, principal_of(request), "read_architecture")
        found = await self._status()
        if not self._is_the_workspaces(principal_of(request)):
            # Warnings name services of everybody, and the log counts what everybody does.
            found = {**found, "units": [], "warnings": []}
            found.pop("ship_log", None)
        return JSONResponse(found)

    def _is_the_workspaces(self, principal: Principal) -> bool:
        """Whether it may know of what concerns all tenants: the owner, and the workspace's own tenant."""
        return of_all_tenants(principal) or principal.tenant == self._ports.workspace.last_good_settings().tenant

    async def release(self, request: Request) -> Response:
        asked = parse(ReleaseRequest, await json_body(request))
        return json_answer(render(await release_service(self._ports, principal_of(request), asked)))

    async def jobs(self, request: Request) -> Response:
        asked = parse(JobsQuery, dict(request.query_params))
        return json_answer(render(await read_jobs(self._ports, principal_of(request), asked)))

    async def run_job(self, request: Request) -> Response:
        asked = parse(RunJobRequest, await json_body(request))
        return json_answer(render(await run_job(self._ports, principal_of(request), asked)), 202)

    async def push(self, request: Request) -> Response:
        asked = parse(PushRequest, await json_body(request))
        return json_answer(render(await push_release(self._ports, principal_of(request), asked)))

    async def gates(self, request: Request) -> Response:
        asked = parse(GatesQuery, {**request.query_params, **request.path_params})
        return json_answer(render(await read_gates(self._ports, principal_of(request), asked)))

    async def versions(self, request: Request) -> Response:
        asked = parse(VersionsQuery, dict(request.path_params))
        return json_answer(render(await read_versions(self._ports, principal_of(request), asked)))

    async def policy(self, request: Request) -> Response:
        asked = parse(PolicyQuery, await json_body(request))
        return json_answer(render(await ask_policy(self._ports, principal_of(request), asked)))

    async def attest(self, request: Request) -> Response:
        """The body is the file itself, of any content type."""
        asked = parse(EvidenceRequest, {**request.query_params, "release": request.path_params["digest"]})
        content = await sent(request, EVIDENCE_BYTES)
        return json_answer(render(await add_evidence(self._ports, principal_of(request), asked, content)), 201)

    async def evidence(self, request: Request) -> Response:
        return json_answer(
            render(await list_evidence(self._ports, principal_of(request), request.path_params["digest"]))
        )

    async def secrets(self, request: Request) -> Response:
        return json_answer(render(await list_secrets(self._ports, principal_of(request))))

    async def set_secret(self, request: Request) -> Response:
        """The body is the value itself, of any content type."""
        secret = parse(Secret, {**request.query_params, **request.path_params})
        content = await sent(request, VALUE_BYTES)
        made = await set_secret(self._ports, principal_of(request), secret, content)
        return json_answer(render(made), 201 if isinstance(made, SecretView) else 202)

    async def remove_secret(self, request: Request) -> Response:
        asked = {**request.query_params, **request.path_params}
        version = asked.pop("version", None)
        number = int(version) if version is not None and version.isdecimal() else version
        removal = parse(RemoveRequest, {"secret": asked, "version": number})
        held = await remove_secret(self._ports, principal_of(request), removal)
        return json_answer(render(held), 202) if held is not None else Response(status_code=204)

    async def issue(self, request: Request) -> Response:
        asked = parse(TokenRequest, await json_body(request))
        return json_answer(render(await issue_token(self._ports, principal_of(request), asked)), 201)

    async def tokens(self, request: Request) -> Response:
        found = await list_tokens(self._ports, principal_of(request))
        return JSONResponse({"tokens": [token.model_dump(mode="json") for token in found]})

    async def revoke(self, request: Request) -> Response:
        try:
            await revoke_token(self._ports, principal_of(request), request.path_params["id"])
        finally:
            self._authenticator.forget()
        return Response(status_code=204)

    async def open_session(self, request: Request) -> Response:
        asked = parse(SessionRequest, await json_body(request))
        return json_answer(render(await open_session(self._ports, principal_of(request), asked)), 201)

    async def sessions(self, request: Request) -> Response:
        return json_answer(render(await list_sessions(self._ports, principal_of(request))))

    async def renew_session(self, request: Request) -> Response:
        return json_answer(render(await renew_session(self._ports, principal_of(request), request.path_params["id"])))

    async def end_session(self, request: Request) -> Response:
        try:
            await end_session(self._ports, principal_of(request), request.path_params["id"])
        finally:
            self._authenticator.forget()
        return Response(status_code=204)

    async def verify(self, request: Request) -> Response:
        found = await verify_ship_log(self._ports, principal_of(request))
        return JSONResponse({"intact": found.intact, **found.model_dump(mode="json")})

    async def oauth_metadata(self, _: Request) -> Response:
        """RFC 9728: where a client gets a token for this server."""
        oauth = oauth_of(self._ports)
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

    async def incidents(self, request: Request) -> Response:
        given: dict[str, Any] = dict(request.query_params)
        if given.get("limit", "").isdecimal():
            given["limit"] = int(given["limit"])
        if given.get("open") in ("true", "false"):
            given["open"] = given["open"] == "true"
        asked = parse(IncidentsQuery, given)
        return json_answer(render(await list_incidents(self._ports, principal_of(request), asked)))

    async def incident(self, request: Request) -> Response:
        return json_answer(render(await show_incident(self._ports, principal_of(request), request.path_params["id"])))

    async def manage_incident(self, request: Request) -> Response:
        asked = parse(IncidentCommand, {**await json_body(request), "incident": request.path_params["id"]})
        return json_answer(render(await manage_incident(self._ports, principal_of(request), asked)))

    async def undelivered(self, request: Request) -> Response:
        return json_answer(render(await dead_letters(self._ports, principal_of(request))))

    async def redeliver(self, request: Request) -> Response:
        return json_answer(render(await retry_deliveries(self._ports, principal_of(request))), 202)

    async def agent_card(self, request: Request) -> Response:
        return a2a.card(str(request.base_url))

    async def agent_message(self, request: Request) -> Response:
        return await a2a.answer(self._ports, principal_of(request), request, await sent(request, BODY_BYTES))

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
        told = notification(await json_body(request))
        try:
            received = await receive_alerts(self._ports, told)
        except PlatformError as exc:
            if not retryable(exc.code):
                raise
            # Alertmanager sends again what is answered with a 5xx, and gives up what is answered otherwise.
            raise PlatformError(ErrorCode.UNAVAILABLE, exc.message, exc.hint, internal=exc.internal) from exc
        self._calls.metrics.alerts_received(told.status, len(told.alerts))
        return json_answer(render(received))


def oauth_of(ports: Ports) -> OAuth | None:
    try:
        return ports.workspace.last_good_settings().oauth
    except PlatformError:
        return None
