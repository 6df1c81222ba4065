"""Who is let in, and what hostile input does: it gets an error in words, and never a trace."""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx2
import pytest

from santiago_platform.domain.identity import Role

PROTECTED = [
    ("POST", "/mcp"),
    ("GET", "/mcp"),
    ("POST", "/mcp/json"),
    ("POST", "/api/tools/read_architecture"),
    ("GET", "/api/status"),
    ("GET", "/api/tokens"),
    ("GET", "/api/log/verify"),
    ("POST", "/hooks/alertmanager"),
    ("GET", "/nothing"),
]
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
DEEP = "[" * 100_000 + "]" * 100_000
NAME = {"service": "web"}
HOSTILE: list[tuple[str, Any]] = [
    ("a number for a text", {"service": 42}),
    ("a list for a text", {"service": ["web"]}),
    ("an object for a text", {"service": {"$ne": None}}),
    ("a text for a truth", {"include_documents": "yes"}),
    ("a number for a truth", {"include_documents": 1}),
    ("an unknown argument", {"servise": "web"}),
    ("a prototype", {"__proto__": {"admin": True}}),
    ("a dunder", {"__class__": "x", "constructor": {}}),
    ("a NUL", {"service": "web\0"}),
    ("a newline", {"service": "web\n"}),
    ("a traversal", {"service": "../../etc/passwd"}),
    ("a shell", {"service": "$(reboot)"}),
    ("an escape", {"service": "\x1b[2J"}),
    ("a bidi override", {"service": "w\u202eeb"}),
    ("a surrogate", {"service": "\ud800"}),
    ("a surrogate for a name", {"\udfff": "web"}),
    ("a huge text", {"service": "a" * 3_900_000}),
    ("a huge name", {"a" * 3_900_000: 1}),
    ("very many arguments", {f"a{n}": n for n in range(100_000)}),
    ("a huge number", {"include_documents": 10**4000}),
]


def _no_trace(text: str) -> None:
    assert "Traceback" not in text
    assert '.py"' not in text
    assert "site-packages" not in text
    assert len(text) < 6_000


def _call(arguments: object, name: str = "read_architecture") -> bytes:
    params = {"name": name, "arguments": arguments, "_meta": META}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()


def _headers(name: str = "read_architecture") -> dict[str, str]:
    return {
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": name,
    }


@pytest.mark.parametrize(("method", "path"), PROTECTED)
@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer wrong", "Basic b3duZXI6eA==", "Bearer é"])
async def test_without_a_good_token_nothing_answers(
    served: Any, method: str, path: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"authorization": authorization.encode("latin-1")}
    async with served.http("") as http:
        answer = await http.request(method, path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    _no_trace(answer.text)


async def test_two_tokens_in_one_request_are_refused(served: Any) -> None:
    both = [("authorization", f"Bearer {served.owner}"), ("authorization", "Bearer other")]
    async with served.http("") as http:
        assert (await http.get("/api/status", headers=both)).status_code == 401


async def test_what_watches_the_server_needs_no_token(served: Any) -> None:
    async with served.http("") as http:
        assert (await http.get("/healthz")).json() == {"alive": True}
        assert (await http.get("/readyz")).status_code == 200
        assert "santiago_tool_call_seconds" in (await http.get("/metrics")).text
        served.problems.append("the disk is full")
        unready = await http.get("/readyz")
    assert (unready.status_code, unready.json()["problems"]) == (503, ["the disk is full"])


@pytest.mark.parametrize("path", ["/mcp", "/mcp/json", "/api/status", "/healthz", "/metrics"])
async def test_a_request_for_another_hosts_name_is_refused(served: Any, path: str) -> None:
    async with served.http() as http:
        for host in ("evil.example", "evil.example:8700", "localhost.evil.example", "127.0.0.1.evil.example:80", ""):
            assert (await http.get(path, headers={"host": host})).status_code in (400, 421)


async def test_a_page_of_another_origin_is_refused(served: Any) -> None:
    async with served.http() as http:
        assert (await http.get("/api/status", headers={"origin": "http://evil.example"})).status_code == 403
        assert (await http.get("/api/status", headers={"origin": served.url})).status_code == 200


async def test_a_revoked_token_is_refused_from_the_next_call_on(served: Any) -> None:
    issued = await served.token(Role.OBSERVER)
    async with served.http() as owner, served.http(issued.token) as observer:
        assert (await observer.get("/api/status")).status_code == 200
        assert (await owner.delete(f"/api/tokens/{issued.id}")).status_code == 204
        assert (await observer.get("/api/status")).status_code == 401


@pytest.mark.parametrize(("what", "arguments"), HOSTILE, ids=[what for what, _ in HOSTILE])
async def test_hostile_arguments_get_an_error_in_words(
    served: Any, what: str, arguments: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with served.http() as http:
        over_mcp = await http.post("/mcp/json", content=_call(arguments), headers=_headers())
        plain = await http.post(
            "/api/tools/read_architecture",
            content=json.dumps(arguments),
            headers={"content-type": "application/json"},
        )
    result = over_mcp.json()["result"]
    assert result["isError"]
    assert result["_meta"]["io.santiago/error"]["code"] == "invalid_argument"
    assert "read_architecture takes" in result["content"][0]["text"]
    assert plain.status_code == 400
    assert plain.json()["error"]["code"] == "invalid_argument"
    for text in (over_mcp.text, plain.text):
        _no_trace(text)
        assert "pydantic" not in text.lower()
    assert not caplog.records, what


BOMBS = {
    "deep": DEEP.encode(),
    "deep in arguments": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"a":'
    + DEEP.encode()
    + b"}}}",
    "not JSON": b"{",
    "not UTF-8": b'{"a":"\xff\xfe"}',
    "not an object": b"[1,2]",
    "a number": b"1" * 10_000,
    "nothing that JSON has": b'{"service": NaN}',
    "larger than is read": b'{"a":"' + b"a" * (4 * 1024 * 1024) + b'"}',
}


@pytest.mark.parametrize("what", BOMBS)
@pytest.mark.parametrize("path", ["/mcp", "/mcp/json", "/api/tools/read_architecture"])
@pytest.mark.parametrize("era", ["2026-07-28", "2025-11-25"])
async def test_a_bomb_is_a_clear_refusal_and_the_server_lives_on(served: Any, what: str, path: str, era: str) -> None:
    async with served.http() as http:
        answer = await _post(http, path, BOMBS[what], {**_headers(), "mcp-protocol-version": era})
        assert 400 <= answer.status_code < 500
        _no_trace(answer.text)
        assert (await http.get("/healthz")).status_code == 200


async def _post(http: httpx2.AsyncClient, path: str, content: bytes, headers: dict[str, str]) -> httpx2.Response:
    return await http.post(path, content=content, headers=headers)


async def test_a_fault_of_ours_is_an_id_for_the_caller_and_a_trace_for_the_log(
    served: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("secret detail")

    async with served.http() as http:
        await http.post("/api/tools/read_architecture", json={})  # who is calling is known
        served.platform.workspace.last_good_settings = broken
        over_mcp = (await http.post("/mcp", content=_call({}), headers=_headers())).json()["result"]
        plain = await http.post("/api/tools/read_architecture", json={})
        broken_status = await http.get("/api/tokens/x")
    words = over_mcp["content"][0]["text"]
    assert words.startswith("internal error ")
    assert plain.status_code == 500
    assert broken_status.status_code == 405
    for text in (words, plain.text):
        _no_trace(text)
        assert "secret detail" not in text
    error_id = words.split()[2]
    assert error_id in caplog.text
    assert "secret detail" in caplog.text


async def test_alertmanager_has_a_token_of_its_own(served: Any) -> None:
    alert = {"status": "firing", "labels": {"alertname": "Errors"}, "startsAt": "2026-01-01T00:00:00Z"}
    notification = {"status": "firing", "alerts": [alert]}
    async with served.http("hook-secret") as hook, served.http() as owner:
        assert (await hook.post("/hooks/alertmanager", json=notification)).json()["received"] == 1
        assert (await hook.post("/hooks/alertmanager", json={"alerts": 1})).status_code == 400
        assert (await owner.post("/hooks/alertmanager", json=notification)).status_code == 401
        assert (await hook.get("/api/status")).status_code == 401
        assert 'santiago_alerts_received_total{status="firing"} 1.0' in (await hook.get("/metrics")).text
