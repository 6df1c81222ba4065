"""Tool calls as they go over the wire by each way that leads to the tools, for our server and for the bare one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx2

from .wrk import Call

MODERN, HANDSHAKE = "2026-07-28", "2025-11-25"
HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
CLIENT = {"name": "bench", "version": "1"}


@dataclass(frozen=True)
class Transport:
    """protocol: a version of MCP; empty means plain JSON. streams: answers may come as a stream of events."""

    name: str
    protocol: str
    streams: bool = False

    def call(
        self, port: int, tool: str, arguments: dict[str, Any], token: str = "", *, bare: bool = False, sessions: int = 1
    ) -> Call:
        """bare: of the SDK's own server, which has one path. sessions: to open, where the protocol has them."""
        headers = {**HEADERS, **({"Authorization": f"Bearer {token}"} if token else {})}
        if not self.protocol:
            return Call(f"/api/tools/{tool}", tuple(headers.items()), json.dumps(arguments))
        path = "/mcp" if bare or self.streams else "/mcp/json"
        headers["Mcp-Protocol-Version"] = self.protocol
        params: dict[str, Any] = {"name": tool, "arguments": arguments}
        opened: tuple[str, ...] = ()
        if self.protocol == MODERN:
            headers |= {"Mcp-Method": "tools/call", "Mcp-Name": tool}
            params["_meta"] = {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientInfo": CLIENT,
                "io.modelcontextprotocol/clientCapabilities": {},
            }
        else:
            opened = _sessions(f"http://127.0.0.1:{port}{path}", headers, sessions)
        return Call(path, tuple(headers.items()), _message("tools/call", params, id=1), opened)


AIMED = Transport(f"{MODERN}, JSON", MODERN)
OTHERS = (
    Transport(f"{MODERN}, streams", MODERN, streams=True),
    Transport(f"{HANDSHAKE}, JSON", HANDSHAKE),
    Transport(f"{HANDSHAKE}, streams", HANDSHAKE, streams=True),
)
PLAIN = Transport("plain JSON", "")


def _message(method: str, params: dict[str, Any], **fields: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", **fields, "method": method, "params": params}, separators=(",", ":"))


def _sessions(url: str, headers: dict[str, str], count: int) -> tuple[str, ...]:
    hello = {"protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": CLIENT}
    opened = []
    with httpx2.Client(headers=headers, trust_env=False, timeout=30) as client:
        for _ in range(count):
            session = client.post(url, content=_message("initialize", hello, id=0)).headers["mcp-session-id"]
            initialized = _message("notifications/initialized", {})
            client.post(url, content=initialized, headers={"mcp-session-id": session}).raise_for_status()
            opened.append(session)
    return tuple(opened)
