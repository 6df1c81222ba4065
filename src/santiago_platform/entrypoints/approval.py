"""Where somebody approves a change that waits: the URL of the console's page for it, in both eras of the protocol.

The page asks for a sign-in of its own, so who approves proves to be who it is: what the requester's client answers only
says whether the page was opened. No token passes through that client, and its yes approves nothing.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolRequestParams, ElicitRequest, ElicitRequestURLParams, InputRequiredResult

from ..domain.change_request import Wants
from ..domain.operation import OperationState
from ..ports import Ports
from .confirmation import PATIENCE_SECONDS
from .console.pages.approve import approval_path

Context = ServerRequestContext[Any, Any]

KEY = "approve"


@dataclass(frozen=True)
class Pending:
    """operation: that waits for an approval. url: where it is read and approved. reason: whose yes is missing."""

    operation: str
    url: str
    reason: str

    @property
    def message(self) -> str:
        return (
            f"Operation {self.operation} {self.reason}. Somebody who may approve it signs in at this page "
            "and reads the plan there. Opening it approves nothing."
        )

    def required(self) -> InputRequiredResult:
        params = ElicitRequestURLParams(message=self.message, url=self.url)
        return InputRequiredResult(
            input_requests={KEY: ElicitRequest(params=params)}, request_state=f"{KEY} {self.operation}"
        )


def console_url(ports: Ports) -> str:
    """Where browsers reach the console: as santiago.yaml says of this server, else on this machine."""
    settings = ports.workspace.last_good_settings()
    if settings.oauth is None:
        return f"http://127.0.0.1:{settings.addresses.server_port}"
    resource = urlsplit(settings.oauth.resource)
    return f"{resource.scheme}://{resource.netloc}"


def pending(ports: Ports, shown: Mapping[str, Any]) -> Pending | None:
    """Of a tool's answer; None where it has nothing that waits for an approval."""
    plan = shown.get("plan") or {}
    operation = next((c for c in shown.get("changes", ()) if isinstance(c, dict)), shown)
    if operation.get("state") != OperationState.AWAITING or not plan.get("hash"):
        return None
    if operation.get("phase", Wants.CONFIRMATION if plan.get("advice") else Wants.APPROVAL) != Wants.APPROVAL:
        return None
    url = console_url(ports) + approval_path(operation["id"], plan["hash"])
    return Pending(operation["id"], url, operation.get("reason") or "waits for an approval")


def named(ports: Ports, shown: dict[str, Any]) -> dict[str, Any]:
    """The answer with the URL in its words, for whoever can only read; the same one where nothing waits."""
    if isinstance(shown.get("operations"), list):
        told = [named(ports, operation) for operation in shown["operations"]]
        return {**shown, "operations": told} if told != shown["operations"] else shown
    waits = pending(ports, shown)
    if waits is None:
        return shown
    words = f"approval pending: somebody who may signs in at {waits.url}"
    if "changes" in shown:  # of a flag
        return {**shown, "warnings": [*shown.get("warnings", ()), words]}
    return {**shown, "next": f"{words}; or {shown.get('next', '')}"}


def answered(params: CallToolRequestParams) -> dict[str, Any] | None:
    """A call made again after the page was shown: how the operation stands, whatever the client says of it."""
    if KEY not in (params.input_responses or {}):
        return None
    return status((params.request_state or "").removeprefix(f"{KEY} "))


def status(operation: str) -> dict[str, Any]:
    return {"action": "status", "operation": operation}


def can_be_asked(ctx: Context) -> bool:
    """Whether the client has said that it opens URLs."""
    capabilities = ctx.session.client_capabilities
    elicitation = capabilities.elicitation if capabilities is not None else None
    return elicitation is not None and elicitation.url is not None


async def show(ctx: Context, waits: Pending) -> None:
    """Within the call; whether the page was opened makes no difference."""
    with suppress(MCPError, TimeoutError):  # no way back to it on this transport, or nobody is there
        async with asyncio.timeout(PATIENCE_SECONDS):
            await ctx.session.elicit_url(waits.message, waits.url, f"{waits.operation}-{secrets.token_hex(4)}")
