"""The plain JSON interface, in the process, over the platform in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Level, Principal, Role
from santiago_platform.domain.oauth import OAuth
from santiago_platform.domain.rate import RateLimit
from santiago_platform.domain.secret import VALUE_BYTES, Secret
from santiago_platform.domain.ship_log import EntryKind
from santiago_platform.entrypoints.http import build_app
from santiago_platform.entrypoints.http_answer import BODY_BYTES, http_status
from santiago_platform.operations.evidence import EVIDENCE_BYTES
from santiago_platform.operations.issue_token import TokenRequest, issue_token

ROOT = Principal(name="root", role=Role.OWNER)


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform()


@pytest.fixture
async def http(platform: FakePlatform) -> AsyncIterator[httpx2.AsyncClient]:
    async def status() -> dict[str, Any]:
        return {"daemon": {"pid": 7}}

    async def problems() -> list[str]:
        return []

    app = build_app(platform.ports, status=status, problems=problems, hook_token="hook")
    issued = await issue_token(platform.ports, ROOT, TokenRequest(name="owner", role=Role.OWNER))
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app),
        base_url="http://localhost",
        headers={"authorization": f"Bearer {issued.token}"},
    ) as client:
        yield client


async def bearer(platform: FakePlatform, role: Role) -> dict[str, str]:
    issued = await issue_token(platform.ports, ROOT, TokenRequest(name="somebody", role=role))
    return {"authorization": f"Bearer {issued.token}"}


def error(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_a_tool_is_called_with_its_arguments_and_answers_its_result(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/api/tools/read_architecture", json={"service": "web"})
    assert answer.status_code == 200
    assert answer.json()["undeployed"] == ["web"]
    assert (await http.post("/api/tools/read_architecture")).json() == answer.json()


async def test_errors_have_their_code_words_and_status(http: httpx2.AsyncClient) -> None:
    unknown = await http.post("/api/tools/read_log", json={})
    assert error(unknown) == (404, "not_found")
    assert unknown.json()["error"]["hint"] == "did you mean read_logs?"
    assert error(await http.post("/api/tools/read_architecture", json={"service": "nope"})) == (404, "not_found")
    assert error(await http.post("/api/tools/read_logs", json=[1])) == (400, "invalid_argument")
    assert error(await http.post("/api/tools/read_logs", content="{}", headers={"content-type": "text/plain"})) == (
        400,
        "invalid_argument",
    )
    assert error(await http.get("/api/nothing")) == (404, "not_found")
    assert error(await http.delete("/api/status")) == (405, "unsupported")


async def test_who_may_not_is_told_so_and_the_log_keeps_it(http: httpx2.AsyncClient, platform: FakePlatform) -> None:
    observer = await bearer(platform, Role.OBSERVER)
    for path, body in (
        ("/api/tools/deploy_service", {"service": "web", "environment": "production", "git_ref": "HEAD"}),
        ("/api/releases", {"service": "web"}),
        ("/api/tokens", {"name": "mallory", "role": "owner"}),
    ):
        assert error(await http.post(path, json=body, headers=observer)) == (403, "permission_denied")
        assert platform.ship_log.entries[-1].kind is EntryKind.COMPLETED
        assert platform.ship_log.entries[-1].outcome == "denied"
    assert error(await http.get("/api/tokens", headers=observer)) == (403, "permission_denied")
    assert error(await http.delete("/api/tokens/x", headers=observer)) == (403, "permission_denied")


async def test_tokens_are_issued_listed_without_secrets_and_revoked(http: httpx2.AsyncClient) -> None:
    issued = await http.post("/api/tokens", json={"name": "ann", "role": "developer", "ttl_seconds": 60})
    assert issued.status_code == 201
    new = {"authorization": f"Bearer {issued.json()['token']}"}
    assert (await http.get("/api/status", headers=new)).json() == {"daemon": {"pid": 7}}
    listed = await http.get("/api/tokens")
    assert [token["name"] for token in listed.json()["tokens"] if not token["revoked"]] == ["owner", "ann"]
    assert issued.json()["token"] not in listed.text
    assert (await http.delete(f"/api/tokens/{issued.json()['id']}")).status_code == 204
    assert (await http.get("/api/status", headers=new)).status_code == 401
    assert error(await http.delete("/api/tokens/nope")) == (404, "not_found")


async def test_a_token_ends_with_its_time(http: httpx2.AsyncClient, platform: FakePlatform) -> None:
    issued = await http.post("/api/tokens", json={"name": "ann", "role": "developer", "ttl_seconds": 60})
    new = {"authorization": f"Bearer {issued.json()['token']}"}
    platform.clock.advance(59)
    assert (await http.get("/api/status", headers=new)).status_code == 200
    platform.clock.advance(1)
    assert (await http.get("/api/status", headers=new)).status_code == 401


async def test_a_release_is_built_once_and_answered(http: httpx2.AsyncClient, platform: FakePlatform) -> None:
    first = await http.post("/api/releases", json={"service": "web"})
    again = await http.post("/api/releases", json={"service": "web"})
    assert first.json()["digest"].startswith("sha256:")
    assert first.json() == again.json()
    assert len(platform.artifacts.builds) == 1


async def test_the_log_is_verified(http: httpx2.AsyncClient, platform: FakePlatform) -> None:
    found = (await http.get("/api/log/verify")).json()
    assert found["intact"]
    assert found["entries"] == len(platform.ship_log.entries)


async def test_calls_are_counted_by_tool_and_outcome(http: httpx2.AsyncClient) -> None:
    await http.post("/api/tools/read_architecture", json={})
    await http.post("/api/tools/read_architecture", json={"service": 1})
    await http.post("/api/tools/nothing", json={})
    text = (await http.get("/metrics")).text
    assert 'santiago_tool_calls_total{outcome="ok",tool="read_architecture"} 1.0' in text
    assert 'santiago_tool_calls_total{outcome="invalid_argument",tool="read_architecture"} 1.0' in text
    assert 'santiago_tool_calls_total{outcome="not_found",tool="unknown"} 1.0' in text
    assert 'santiago_tool_call_seconds_count{tool="read_architecture"} 2.0' in text


async def test_what_may_work_later_says_when(http: httpx2.AsyncClient, platform: FakePlatform) -> None:
    async def busy(*_: object, **__: object) -> None:
        raise PlatformError(ErrorCode.UNAVAILABLE, "busy", "again", internal="secret", retry_after=2.4)

    platform.logs.read = busy  # type: ignore[method-assign, assignment]
    answer = await http.post("/api/tools/read_logs", json={})
    assert error(answer) == (503, "unavailable")
    assert answer.headers["retry-after"] == "2"
    assert "secret" not in answer.text


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_has_a_status_that_is_an_error(code: ErrorCode) -> None:
    assert 400 <= http_status(code) < 600


async def test_a_disk_that_gets_full_is_a_warning_of_readiness(
    http: httpx2.AsyncClient, platform: FakePlatform
) -> None:
    assert (await http.get("/readyz")).json() == {"ready": True, "problems": [], "warnings": [], "disk": "enough"}
    platform.disk.free_bytes = 500 << 20
    answer = await http.get("/readyz")
    assert (answer.status_code, answer.json()["disk"]) == (200, "low")
    assert "500.0 MiB free" in answer.json()["warnings"][0]


async def test_a_change_on_a_full_disk_is_refused_and_reads_go_on(
    http: httpx2.AsyncClient, platform: FakePlatform
) -> None:
    platform.disk.free_bytes = 0
    refused = await http.post("/api/releases", json={"service": "web"})
    assert error(refused) == (429, ErrorCode.RESOURCE_EXHAUSTED)
    assert (await http.post("/api/tools/read_architecture")).status_code == 200
    platform.disk.free_bytes = 1 << 40
    assert (await http.post("/api/releases", json={"service": "web"})).status_code == 200


async def test_evidence_is_uploaded_as_the_file_itself_and_listed(
    http: httpx2.AsyncClient, platform: FakePlatform
) -> None:
    release = (await http.post("/api/releases", json={"service": "web"})).json()["digest"]
    junit = b'{"kind": "junit", "findings": {"type": "tests", "tests": 2}}'
    pipeline = await bearer(platform, Role.PIPELINE) | {"content-type": "application/xml"}
    made = await http.put(f"/evidence/{release}?kind=junit&name=unit", content=junit, headers=pipeline)
    assert made.status_code == 201
    assert (made.json()["name"], made.json()["summary"]) == ("unit", "2 tests, 0 failures, 0 errors, 0 skipped")
    assert (await http.get(f"/evidence/{release}")).json()["evidence"] == [made.json()]
    assert error(await http.put(f"/evidence/{release}", content=junit)) == (403, "permission_denied")  # the owner
    assert error(await http.put(f"/evidence/{release}?kind=x", content=junit, headers=pipeline))[0] == 400
    assert error(await http.put(f"/evidence/{release}?kinds=junit", content=junit, headers=pipeline))[0] == 400
    assert error(await http.put(f"/evidence/{'0' * 64}", content=junit, headers=pipeline)) == (404, "not_found")
    assert (await http.put(f"/evidence/{release}", content=junit, headers={"authorization": ""})).status_code == 401


async def test_evidence_has_a_limit_of_its_own(http: httpx2.AsyncClient, platform: FakePlatform) -> None:
    release = (await http.post("/api/releases", json={"service": "web"})).json()["digest"]
    pipeline = await bearer(platform, Role.PIPELINE)
    large = b'{"kind": "junit", "findings": {"type": "tests", "tests": 2}}'.ljust(BODY_BYTES + 1)
    assert (await http.put(f"/evidence/{release}", content=large, headers=pipeline)).status_code == 201
    refused = await http.put(f"/evidence/{release}", content=large.ljust(EVIDENCE_BYTES + 1), headers=pipeline)
    assert error(refused) == (400, "invalid_argument")


async def test_versions_are_listed_over_http(http: httpx2.AsyncClient) -> None:
    assert error(await http.get("/api/versions/web/production")) == (404, "not_found")
    await http.post("/api/tools/deploy_service", json={"service": "web", "environment": "production", "git_ref": "v1"})
    found = (await http.get("/api/versions/web/production")).json()
    assert found == {"service": "web", "environment": "production", "versions": []}


async def test_a_secret_is_set_as_the_value_itself_listed_without_it_and_removed(
    http: httpx2.AsyncClient, platform: FakePlatform
) -> None:
    path = "/api/secrets/production/password"
    made = await http.put(f"{path}?service=web", content=b"hunter2")
    assert made.status_code == 201
    assert (made.json()["version"], made.json()["service"]) == (1, "web")
    listed = await http.get("/api/secrets")
    assert listed.json()["secrets"] == [made.json()]
    assert "hunter2" not in made.text + listed.text
    secret = Secret(environment="production", name="password", service="web")
    assert await platform.secrets.value(secret, 1) == "hunter2"
    assert error(await http.put(path, content=b"x" * (VALUE_BYTES + 1))) == (400, "invalid_argument")
    assert error(await http.put("/api/secrets/moon/password", content=b"x")) == (404, "not_found")
    assert error(await http.put("/api/secrets/production/No_Name", content=b"x")) == (400, "invalid_argument")
    assert error(await http.put(f"{path}?servce=web", content=b"x")) == (400, "invalid_argument")
    observer = await bearer(platform, Role.OBSERVER)
    assert error(await http.put(path, content=b"x", headers=observer)) == (403, "permission_denied")
    assert (await http.get("/api/secrets", headers=observer)).status_code == 200
    assert error(await http.delete(f"{path}?service=web&version=2")) == (404, "not_found")
    assert (await http.delete(f"{path}?service=web&version=1")).status_code == 204
    assert (await http.get("/api/secrets")).json()["secrets"] == []


async def test_gates_are_asked_over_http(http: httpx2.AsyncClient) -> None:
    assert error(await http.get("/api/gates/web/production")) == (404, "not_found")
    release = (await http.post("/api/releases", json={"service": "web"})).json()["digest"]
    found = (await http.get(f"/api/gates/web/production?release={release}")).json()
    assert found == {"service": "web", "environment": "production", "release": release, "passes": True, "answers": []}


async def test_a_session_is_named_by_a_header_and_renewed_when_it_has_expired(
    http: httpx2.AsyncClient, platform: FakePlatform
) -> None:
    opened = await http.post("/api/sessions", json={"purpose": "release day"})
    assert opened.status_code == 201
    session = {"santiago-session": opened.json()["id"]}
    change = {"service": "web", "environment": "production", "git_ref": "HEAD"}
    assert (await http.post("/api/tools/deploy_service", json=change, headers=session)).status_code == 200
    assert platform.ship_log.entries[-1].body["session"] == opened.json()["id"]
    await platform.clock.sleep(7201)
    assert error(await http.post("/api/tools/read_logs", headers=session)) == (409, "failed_precondition")
    assert (await http.post("/api/tools/read_logs")).status_code == 200
    renewed = await http.post(f"/api/sessions/{opened.json()['id']}", headers=session)
    assert renewed.json()["open"]
    assert (await http.post("/api/tools/read_logs", headers=session)).status_code == 200
    assert (await http.delete(f"/api/sessions/{opened.json()['id']}")).status_code == 204
    assert error(await http.post("/api/tools/read_logs", headers=session)) == (409, "failed_precondition")


async def test_who_calls_too_often_is_told_when_to_come_again(http: httpx2.AsyncClient, platform: FakePlatform) -> None:
    limit = RateLimit(calls_per_second=0.5, burst=1)
    platform.workspace.current = platform.workspace.current.model_copy(update={"rates": limit})
    headers = await bearer(platform, Role.OBSERVER)
    assert (await http.post("/api/tools/read_logs", headers=headers)).status_code == 200
    refused = await http.post("/api/tools/read_logs", headers=headers)
    assert error(refused) == (429, "resource_exhausted")
    assert refused.headers["retry-after"] == "2"
    assert refused.json()["error"]["retry_after"] == 2.0
    over_mcp = await http.post("/mcp", headers=headers, json={})
    assert over_mcp.status_code == 429
    assert over_mcp.json()["error"]["data"]["code"] == "resource_exhausted"
    assert (await http.post("/api/tools/read_logs")).status_code == 200, "the owner's"


def with_oauth(platform: FakePlatform) -> None:
    oauth = OAuth(issuer="https://login.example", resource="https://platform.example/mcp", jwks="keys.json")
    platform.workspace.current = platform.workspace.current.model_copy(update={"oauth": oauth})


async def test_a_client_of_oauth_is_told_where_to_get_a_token(http: httpx2.AsyncClient, platform: FakePlatform) -> None:
    place = "/.well-known/oauth-protected-resource/mcp"
    nobody = {"authorization": "Bearer a.b.c"}
    assert error(await http.get(place, headers=nobody)) == (404, "not_found")
    with_oauth(platform)
    found = (await http.get(place, headers=nobody)).json()
    assert found["authorization_servers"] == ["https://login.example"]
    assert found["resource"] == "https://platform.example/mcp"
    refused = await http.post("/mcp", headers=nobody, json={})
    assert refused.status_code == 401
    assert f'resource_metadata="https://platform.example{place}"' in refused.headers["www-authenticate"]


async def test_a_token_is_for_what_its_scopes_say(http: httpx2.AsyncClient, platform: FakePlatform) -> None:
    platform.identity_provider.tokens["a.b.c"] = Principal(
        name="ann", role=Role.DEVELOPER, level=Level.MASTER, granted=("read", "scale_resources")
    )
    ann = {"authorization": "Bearer a.b.c"}
    change = {"service": "web", "environment": "production"}
    assert (await http.post("/api/tools/read_logs", headers=ann)).status_code == 200
    scaled = await http.post("/api/tools/scale_resources", json={**change, "replicas": 2}, headers=ann)
    assert error(scaled) == (409, "failed_precondition"), "nothing is live: it came so far"
    refused = await http.post("/api/tools/deploy_service", json={**change, "git_ref": "HEAD"}, headers=ann)
    assert error(refused) == (403, "permission_denied")
    assert "santiago:deploy_service" in refused.json()["error"]["hint"]
    assert platform.ship_log.entries[-1].outcome == "denied"
