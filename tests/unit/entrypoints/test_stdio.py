"""What the bridge adds to each message, in each era."""

from __future__ import annotations

from mcp_types import JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from santiago_platform.entrypoints.stdio import Era

ENVELOPE = {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}


def request(method: str, params: dict[str, object] | None = None, id: int = 1) -> JSONRPCRequest:
    return JSONRPCRequest(jsonrpc="2.0", id=id, method=method, params=params)


def test_a_request_of_2026_repeats_its_version_method_and_name() -> None:
    call = request("tools/call", {"name": "read_logs", **ENVELOPE})
    assert Era().headers(call) == {
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": "read_logs",
    }
    assert "mcp-name" not in Era().headers(request("tools/list", dict(ENVELOPE)))


def test_a_name_that_no_header_can_hold_is_encoded() -> None:
    call = request("tools/call", {"name": "läs\n", **ENVELOPE})
    assert Era().headers(call)["mcp-name"] == "=?base64?bMOkcwo=?="


def test_a_handshake_has_no_version_until_the_daemon_has_agreed_to_one() -> None:
    era = Era()
    assert era.headers(request("initialize", {"protocolVersion": "2025-06-18"}, id=7)) == {}
    assert era.headers(request("ping", id=8)) == {}
    era.answered(JSONRPCResponse(jsonrpc="2.0", id=8, result={"protocolVersion": "nonsense"}))
    era.answered(JSONRPCResponse(jsonrpc="2.0", id=7, result={"protocolVersion": "2025-06-18"}))
    note = JSONRPCNotification(jsonrpc="2.0", method="notifications/initialized")
    assert era.headers(note) == {"mcp-protocol-version": "2025-06-18"}
    assert era.headers(request("tools/list", id=9)) == {"mcp-protocol-version": "2025-06-18"}
