"""A walk over all routes as a tenant: none has the name of what is another's, nor tells it from what is not there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.domain.alert_notification import notification
from santiago_platform.domain.environment import Environment, Settings, Tenant
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.entrypoints.a2a import CARD_PATH, RPC_PATH
from santiago_platform.entrypoints.authentication import OPEN_PATHS
from santiago_platform.entrypoints.console.console import is_console
from santiago_platform.entrypoints.http import build_app
from santiago_platform.entrypoints.json_api import HOOK_PATH
from santiago_platform.operations.incidents import receive_alerts
from santiago_platform.operations.issue_token import TokenRequest, issue_token
from santiago_platform.operations.release_service import ReleaseRequest, release_service
from santiago_platform.operations.sessions import SessionRequest, open_session
from santiago_platform.testing.alerts import alert, webhook
from santiago_platform.tools import TOOLS

OWNER = Principal(name="root", role=Role.OWNER)
BOB = Principal(name="bob", role=Role.PLATFORM, tenant="bank")
SECRET = "vault"  # the name that only its tenant may know
NO_RELEASE = "sha256:" + "0" * 64
SETTINGS = Settings(
    environments={"production": Environment(), "staging": Environment()},
    tenants={"shop": Tenant(services=("till",)), "bank": Tenant(services=(SECRET,))},
)


class Place:
    """The platform over HTTP, called as a developer of the shop, with what is the bank's."""

    def __init__(
        self,
        platform: FakePlatform,
        client: httpx2.AsyncClient,
        *,
        release: str,
        session: str,
        token: str,
        incident: str,
    ) -> None:
        self.platform = platform
        self.client = client
        self.release, self.session, self.token, self.incident = release, session, token, incident

    async def said(self, method: str, path: str, body: dict[str, Any] | None = None) -> str:
        answer = await self.client.request(method, path, json=body)
        return f"{answer.status_code} {answer.text}"


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async def status() -> dict[str, Any]:
        return {
            "workspace": "/w",
            "units": [{"name": f"{SECRET}__production"}],
            "warnings": [],
            "problems": [],
            "ship_log": {"entries": 4711},
        }

    async def problems() -> list[str]:
        return []

    platform = FakePlatform(workspace=FakeWorkspace(("web", "till", SECRET), SETTINGS))
    app = build_app(platform.ports, status=status, problems=problems, hook_token="hook")
    release = await release_service(platform.ports, BOB, ReleaseRequest(service=SECRET))
    session = await open_session(platform.ports, BOB, SessionRequest(purpose=f"open the {SECRET}"))
    told = notification(webhook(alert(platform.clock.now(), service=SECRET, summary=f"the {SECRET} is open")))
    alerted = await receive_alerts(platform.ports, told)
    foreign = await issue_token(platform.ports, OWNER, TokenRequest(name="bob", role=Role.PLATFORM, tenant="bank"))
    mine = await issue_token(platform.ports, OWNER, TokenRequest(name="ann", role=Role.DEVELOPER, tenant="shop"))
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app),
        base_url="http://localhost",
        headers={"authorization": f"Bearer {mine.token}"},
    ) as client:
        yield Place(
            platform,
            client,
            release=release.digest,
            session=session.id,
            token=foreign.id,
            incident=alerted.incidents[0],
        )


# Of each route: what is the bank's, and the same of nobody's. A new route without a line here fails the walk.
def calls(place: Place, service: str, release: str, session: str, token: str) -> dict[tuple[str, str], Any]:
    job = {"service": service, "environment": "production", "job": "nightly"}
    incident = place.incident if token == place.token else "in-none"
    return {
        ("GET", "/api/status"): ("/api/status", None),
        ("POST", "/api/releases"): ("/api/releases", {"service": service}),
        ("GET", "/api/jobs"): (f"/api/jobs?service={service}", None),
        ("POST", "/api/jobs"): ("/api/jobs", job),
        ("POST", "/api/releases/push"): ("/api/releases/push", {"service": service, "release": release}),
        ("GET", "/api/gates/{service}/{environment}"): (f"/api/gates/{service}/production", None),
        ("GET", "/api/versions/{service}/{environment}"): (f"/api/versions/{service}/production", None),
        ("GET", "/api/secrets"): ("/api/secrets", None),
        ("GET", "/api/reports/budget"): ("/api/reports/budget", None),
        ("GET", "/api/incidents"): (f"/api/incidents?service={service}", None),
        ("GET", "/api/incidents/{id}"): (f"/api/incidents/{incident}", None),
        ("POST", "/api/incidents/{id}"): (f"/api/incidents/{incident}", {"action": "resolve"}),
        ("GET", "/api/reports/dora"): (f"/api/reports/dora?service={service}", None),
        ("GET", "/api/reports/weekly"): ("/api/reports/weekly", None),
        ("GET", "/api/reports/slo"): ("/api/reports/slo", None),
        ("GET", "/api/reports/slo/{service}/proposal"): (f"/api/reports/slo/{service}/proposal", None),
        ("GET", "/api/deliveries"): ("/api/deliveries", None),
        ("POST", "/api/deliveries"): ("/api/deliveries", None),
        ("PUT", "/api/secrets/{environment}/{name}"): (f"/api/secrets/production/key?service={service}", {}),
        ("DELETE", "/api/secrets/{environment}/{name}"): (f"/api/secrets/production/key?service={service}", None),
        ("POST", "/api/policy"): (
            "/api/policy",
            {"action": "read_logs", "principal": "bob" if token == place.token else "nobody"},
        ),
        ("PUT", "/evidence/{digest}"): (f"/evidence/{release}", {}),
        ("GET", "/evidence/{digest}"): (f"/evidence/{release}", None),
        ("POST", "/api/sessions"): ("/api/sessions", {"purpose": "a walk"}),
        ("GET", "/api/sessions"): ("/api/sessions", None),
        ("POST", "/api/sessions/{id}"): (f"/api/sessions/{session}", {}),
        ("DELETE", "/api/sessions/{id}"): (f"/api/sessions/{session}", None),
        ("POST", "/api/tokens"): ("/api/tokens", {"name": "eve", "role": "owner"}),
        ("GET", "/api/tokens"): ("/api/tokens", None),
        ("DELETE", "/api/tokens/{id}"): (f"/api/tokens/{token}", None),
        ("GET", "/api/log/verify"): ("/api/log/verify", None),
    }


def routes(platform: FakePlatform) -> set[tuple[str, str]]:
    async def nothing() -> Any:
        return {}

    server: Any = build_app(platform.ports, status=nothing, problems=nothing, hook_token="hook")
    while not hasattr(server, "routes"):
        server = server._app
    without = OPEN_PATHS | {HOOK_PATH, "/mcp", "/mcp/json", "/api/tools/{name}"}  # tools have a walk of their own
    without |= {CARD_PATH, RPC_PATH}  # one card for everybody, and a door for mail to one's own tenant alone
    found = {(method, route.path) for route in server.routes for method in route.methods or ("POST",)}
    return {
        (method, path) for method, path in found if method != "HEAD" and path not in without and not is_console(path)
    }


async def test_no_route_tells_what_is_anothers_from_what_is_not_there(place: Place) -> None:
    theirs = calls(place, SECRET, place.release, place.session, place.token)
    none = calls(place, "ghost", NO_RELEASE, "se-none", "none")
    assert set(theirs) == routes(place.platform), "the walk knows every route"
    for (method, name), (path, body) in theirs.items():
        said = await place.said(method, path, body)
        other_path, other_body = none[method, name]
        other = await place.said(method, other_path, other_body)
        if (method, name) not in (("POST", "/api/sessions"), ("GET", "/api/sessions")):
            pairs = {SECRET: "ghost", place.release: NO_RELEASE, place.session: "se-none", "bob": "nobody"}
            pairs[place.incident] = "in-none"
            for word, instead in pairs.items():
                said = said.replace(word, instead)
            assert said == other, name


async def test_no_route_has_the_name_of_what_is_anothers(place: Place) -> None:
    for (method, name), (path, body) in calls(place, "ghost", NO_RELEASE, "se-none", "none").items():
        said = await place.said(method, path, body)
        assert SECRET not in said, name
        assert "bank" not in said, name
        assert "4711" not in said, "how much others do is theirs"
    for tool in TOOLS.values():
        assert SECRET not in await place.said("POST", f"/api/tools/{tool.name}", dict(tool.example))


async def test_what_everybody_may_scrape_names_nobody(place: Place) -> None:
    for path in ("/metrics", "/healthz", "/readyz"):
        said = await place.said("GET", path)
        assert SECRET not in said
        assert "bank" not in said
