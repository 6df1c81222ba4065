"""Real MCP clients of both eras deploy, wait and read."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.entrypoints.invocation import ToolCalls
from santiago_platform.entrypoints.mcp_resources import read_resource
from santiago_platform.entrypoints.mcp_server import build_server
from santiago_platform.entrypoints.resource_updates import ResourceUpdates
from santiago_platform.reconcilers.rollout import RolloutReconciler
from santiago_platform.tools import TOOLS

WAYS = [("auto", "/mcp"), ("legacy", "/mcp"), ("auto", "/mcp/json"), ("legacy", "/mcp/json")]
WEB = {"service": "web", "environment": "production"}


@pytest.mark.parametrize(("mode", "path"), WAYS)
async def test_a_client_lists_deploys_waits_and_reads(served: Any, mode: str, path: str) -> None:
    async with served.client(mode, path) as client:
        assert client.protocol_version == ("2026-07-28" if mode == "auto" else "2025-11-25")
        assert [tool.name for tool in (await client.list_tools()).tools] == list(TOOLS)
        deployed = await client.call_tool("deploy_service", {**WEB, "git_ref": "v1", "wait": True})
        assert not deployed.is_error, deployed.content
        assert deployed.structured_content["state"] == "succeeded"
        assert deployed.structured_content["proof"]["verdict"] == "MATCH"
        seen = (await client.call_tool("read_architecture", WEB)).structured_content["services"][0]
        assert seen["live"] == deployed.structured_content["version"]
        back = await client.call_tool("manage_operation", {**WEB, "action": "rollback"})
        assert back.is_error
        assert "no version to go back to" in back.content[0].text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_wait_over_a_stream_reports_progress_that_rises(served: Any, mode: str) -> None:
    told: list[tuple[float, str]] = []
    served.platform.traffic.acknowledging = False  # so that the shift takes until we have heard of it

    async def progress(done: float, total: float | None, message: str | None) -> None:
        assert total == 1.0
        told.append((done, message or ""))
        if "shifting" in (message or ""):
            served.platform.traffic.acknowledging = True

    async with served.client(mode) as client:
        started = await client.call_tool("deploy_service", {**WEB, "git_ref": "v1"})
        command = {"action": "wait", "operation": started.structured_content["id"]}
        ended = await client.call_tool("manage_operation", command, progress_callback=progress)
    assert ended.structured_content["operations"][0]["state"] == "succeeded"
    assert "web/production: shifting" in [message for _, message in told]
    assert [done for done, _ in told] == sorted({done for done, _ in told})


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_wait_ends_where_a_person_is_needed(served: Any, mode: str) -> None:
    async with served.client(mode) as client:
        held = await client.call_tool("deploy_service", {**WEB, "git_ref": "v1", "hold": True, "wait": True})
        assert (held.structured_content["state"], held.structured_content["phase"]) == ("running", "holding")
        assert "promote" in held.structured_content["next"]
        command = {"operation": held.structured_content["id"]}
        await client.call_tool("manage_operation", {**command, "action": "promote"})
        ended = await client.call_tool("manage_operation", {**command, "action": "wait"})
    assert ended.structured_content["operations"][0]["state"] == "succeeded"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_in_the_same_process_is_served_too(platform: FakePlatform, mode: str) -> None:
    updates = ResourceUpdates(platform.ports, read_resource)
    ann = Principal(name="ann", role=Role.DEVELOPER)
    server = build_server(ToolCalls(platform.ports), platform.ports, updates, lambda _: ann)
    loop = asyncio.create_task(RolloutReconciler(platform.ports).run())
    async with Client(server, mode=mode) as client:
        deployed = await client.call_tool("deploy_service", {**WEB, "git_ref": "v1", "wait": True})
    loop.cancel()
    assert deployed.structured_content["state"] == "succeeded"
    assert deployed.structured_content["by"] == "ann"


@pytest.mark.parametrize("version", HANDSHAKE_PROTOCOL_VERSIONS)
async def test_every_older_version_of_the_protocol_is_agreed_to_and_served(served: Any, version: str) -> None:
    accept = {"accept": "application/json, text/event-stream"}
    hello = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "old", "version": "1"}}
    async with served.http(**accept) as http:
        answer = await http.post("/mcp/json", json=_message("initialize", hello, 1))
        assert answer.json()["result"]["protocolVersion"] == version
        assert answer.json()["result"]["serverInfo"]["name"] == "santiago"
        assert "read_architecture" in answer.json()["result"]["instructions"]
        http.headers["mcp-session-id"] = answer.headers["mcp-session-id"]
        http.headers["mcp-protocol-version"] = version
        await http.post("/mcp/json", json=_message("notifications/initialized", {}))
        call = _message("tools/call", {"name": "read_architecture", "arguments": {}}, 2)
        result = (await http.post("/mcp/json", json=call)).json()["result"]
    assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
    assert result["structuredContent"]["undeployed"] == ["web"]


async def test_a_version_that_there_is_not_is_refused_with_those_that_there_are(served: Any) -> None:
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2031-01-01",
        "mcp-method": "tools/list",
    }
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2031-01-01",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    async with served.http(**headers) as http:
        answer = await http.post("/mcp", json=_message("tools/list", {"_meta": meta}, 1))
    assert answer.status_code == 400
    assert answer.json()["error"]["data"]["supported"] == ["2026-07-28"]


@pytest.mark.parametrize(("mode", "path"), WAYS)
async def test_an_unknown_tool_is_the_protocols_error_with_the_nearest_names(served: Any, mode: str, path: str) -> None:
    async with served.client(mode, path) as client:
        with pytest.raises(MCPError, match="did you mean deploy_service") as raised:
            await client.call_tool("deploy_servise", {})
    assert raised.value.code == -32602
    assert raised.value.data["code"] == "not_found"


async def test_a_session_of_one_caller_is_not_there_for_another(served: Any) -> None:
    other = await served.token(Role.OBSERVER)
    accept = {"accept": "application/json, text/event-stream"}
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "old", "version": "1"}}
    async with served.http(**accept) as http:
        opened = await http.post("/mcp", json=_message("initialize", hello, 1))
    session = {"mcp-session-id": opened.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
    async with served.http(other.token, **accept, **session) as http:
        assert (await http.post("/mcp", json=_message("tools/list", {}, 2))).status_code == 404


async def test_a_hundred_clients_at_once_are_all_answered(served: Any) -> None:
    async def one(number: int) -> str:
        mode, path = WAYS[number % len(WAYS)]
        async with served.client(mode, path) as client:
            result = await client.call_tool("read_architecture", {})
            return result.structured_content["undeployed"][0]

    async with asyncio.timeout(60):
        assert await asyncio.gather(*(one(n) for n in range(100))) == ["web"] * 100


async def test_a_caller_that_goes_away_ends_its_wait_and_nothing_else(served: Any, eventually: Any) -> None:
    served.platform.traffic.acknowledging = False
    async with served.client() as client:
        started = await client.call_tool("deploy_service", {**WEB, "git_ref": "v1"})
        operation = started.structured_content["id"]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await client.call_tool("manage_operation", {"action": "wait", "operation": operation})

        async def cancelled() -> bool:
            text = (await _get(served, "/metrics")).text
            return 'santiago_tool_calls_total{outcome="cancelled",tool="manage_operation"} 1.0' in text

        await eventually(cancelled)
        status = await client.call_tool("manage_operation", {"action": "status", "operation": operation})
    assert status.structured_content["operations"][0]["state"] == "running"


async def _get(served: Any, path: str) -> httpx2.Response:
    async with served.http() as http:
        return await http.get(path)


def _message(method: str, params: dict[str, Any], id: int | None = None) -> dict[str, Any]:
    message = {"jsonrpc": "2.0", "method": method, "params": params}
    return message if id is None else {**message, "id": id}
