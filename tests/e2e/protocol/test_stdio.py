"""A desktop client starts the bridge as its subprocess and speaks to the daemon through it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters, stdio_client

from santiago_platform.domain.identity import Role
from santiago_platform.tools import TOOLS

PROGRAM = """
import asyncio, sys
from pathlib import Path
from santiago_platform.entrypoints.stdio import bridge
asyncio.run(bridge(Path(sys.argv[1]), sys.argv[2]))
"""
WEB = {"service": "web", "environment": "production"}


def desktop(socket: Path, token: str, mode: str) -> Client:
    parameters = StdioServerParameters(command=sys.executable, args=["-c", PROGRAM, str(socket), token])
    return Client(stdio_client(parameters), mode=mode)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_desktop_client_of_either_era_lists_deploys_and_hears_of_progress(served: Any, mode: str) -> None:
    told: list[str] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        told.append(message or "")
        served.platform.traffic.acknowledging = True

    served.platform.traffic.acknowledging = False
    async with desktop(served.socket, served.owner, mode) as client:
        assert client.protocol_version == ("2026-07-28" if mode == "auto" else "2025-11-25")
        assert [tool.name for tool in (await client.list_tools()).tools] == list(TOOLS)
        arguments = {**WEB, "git_ref": "v1", "wait": True}
        deployed = await client.call_tool("deploy_service", arguments, progress_callback=progress)
        with pytest.raises(MCPError, match="did you mean read_logs"):
            await client.call_tool("read_log", {})
    assert deployed.structured_content["state"] == "succeeded"
    assert told


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_bridge_outlives_the_daemon(serve_again: Any, platform: Any, tmp_path: Path, mode: str) -> None:
    socket = tmp_path / "daemon.sock"
    async with serve_again(platform, socket) as served:
        owner = served.owner
        bridged = desktop(socket, owner, mode)
        client = await bridged.__aenter__()
        assert not (await client.call_tool("read_architecture", {})).is_error
    try:
        with pytest.raises(MCPError, match="santiago up"):
            await client.call_tool("read_architecture", {})
        async with serve_again(platform, socket):
            for _ in range(2):
                again = await client.call_tool("read_architecture", {})
                assert again.structured_content["undeployed"] == ["web"]
    finally:
        await bridged.__aexit__(None, None, None)


async def test_a_revoked_token_is_told_to_the_desktop_client_in_words(served: Any) -> None:
    issued = await served.token(Role.OBSERVER)
    async with desktop(served.socket, issued.token, "auto") as client:
        assert not (await client.call_tool("read_architecture", {})).is_error
        async with served.http() as http:
            assert (await http.delete(f"/api/tokens/{issued.id}")).status_code == 204
        with pytest.raises(MCPError, match="unknown, expired or revoked"):
            await client.call_tool("read_architecture", {})
