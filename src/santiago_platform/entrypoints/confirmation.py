"""Asks the requester's own client whether the plan of its words is what was meant, in both eras of the protocol.

Until 2025-11-25 the server asks within the call; since 2026-07-28 the call ends with what is to be asked, and is made
again with the answer: that is resumed by the operation's id, so it is planned once and is one operation. A yes so
confirms, and never approves: an approval is somebody else's.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CallToolRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
)

from ..domain.change_request import Wants
from ..domain.operation import OperationState
from ..tools.tool import Answer

Context = ServerRequestContext[Any, Any]

KEY = "confirm"
INPUT_REQUIRED_SINCE = "2026-07-28"
PATIENCE_SECONDS = 300.0
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {KEY: {"type": "boolean", "title": "Do it", "description": "false withdraws it"}},
    "required": [KEY],
}


@dataclass(frozen=True)
class Question:
    """operation: that waits for the requester's word. plan: the hash of what it is shown."""

    operation: str
    plan: str
    message: str

    @property
    def state(self) -> str:
        """What the client sends back unchanged. It names an operation of the caller's own, or is refused as any."""
        return f"{self.operation} {self.plan}"

    def required(self) -> InputRequiredResult:
        params = ElicitRequestFormParams(message=self.message, requested_schema=SCHEMA)
        return InputRequiredResult(input_requests={KEY: ElicitRequest(params=params)}, request_state=self.state)


def question(answer: Answer) -> Question | None:
    """None where nothing waits for whoever asked."""
    shown = answer.structured
    plan = shown.get("plan") or {}
    operation = next((c for c in shown.get("changes", ()) if isinstance(c, dict)), shown)
    waits = operation.get("state") == OperationState.AWAITING and plan.get("advice") and plan.get("hash")
    if not waits or shown.get("phase", Wants.CONFIRMATION) != Wants.CONFIRMATION:
        return None
    lines = [*plan["changes"], f"way back: {plan['way_back']}"]
    if plan.get("risk"):
        lines.append(f"risk: {plan['risk']}")
    lines += [f"risk: {risk}" for risk in plan["advice"].get("risks", ())]
    lines.append(f"planned by {plan['advice']['by']} for ${plan['advice']['cost_usd']}")
    return Question(operation["id"], plan["hash"], "Is this what you meant?\n" + "\n".join(f"- {x}" for x in lines))


def answered(params: CallToolRequestParams) -> dict[str, Any] | None:
    """The word that a call made again brings, as arguments of manage_operation; None where it is a call of its own."""
    said = (params.input_responses or {}).get(KEY)
    if said is None:
        return None
    operation, _, plan = (params.request_state or "").partition(" ")
    return _word(operation, plan, said if isinstance(said, ElicitResult) else None)


def can_be_asked(ctx: Context) -> bool:
    """Whether the client has said that it shows forms. A bare `elicitation` is of the time before there were others."""
    capabilities = ctx.session.client_capabilities
    elicitation = capabilities.elicitation if capabilities is not None else None
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


def asks_by_result(ctx: Context) -> bool:
    return ctx.protocol_version >= INPUT_REQUIRED_SINCE


async def ask(ctx: Context, asked: Question) -> dict[str, Any] | None:
    """Within the call. None where the client gives no answer: the operation goes on to wait."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            said = await ctx.session.elicit_form(asked.message, SCHEMA)
    except (MCPError, TimeoutError):  # no way back to it on this transport, or nobody is there
        return None
    return _word(asked.operation, asked.plan, said)


def _word(operation: str, plan: str, said: ElicitResult | None) -> dict[str, Any]:
    """Only a form that was sent says yes; what was closed without a word leaves it waiting."""
    if said is None or said.action == "cancel":
        return {"action": "status", "operation": operation}
    if said.action == "accept" and (said.content or {}).get(KEY) is True:
        return {"action": "approve", "operation": operation, "plan": plan, "reason": "confirmed in the client"}
    return {"action": "reject", "operation": operation, "reason": "declined in the client"}
