"""Asks the calling client's own model, in both eras of the protocol.

Until 2025-11-25 the server asks within the call. Since 2026-07-28 the call ends with the question and is made again
with the answer: what was answered before comes back in its state, and the call goes on with the same operation.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
from decimal import Decimal
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CallToolRequestParams,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    InputRequiredResult,
    SamplingMessage,
    TextContent,
)

from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Principal
from ..domain.proposal import Ask, Completion, model_name
from ..domain.value import Value
from ..ports.client_model import Calling, NeedsInput
from .confirmation import PATIENCE_SECONDS

Context = ServerRequestContext[Any, Any]

KEY = "propose"
ANSWER_CHARACTERS = 100_000
STATE_CHARACTERS = 4 * ANSWER_CHARACTERS
_SECRET = secrets.token_bytes(32)  # a state does not outlive the process: a call made again then is a first one


class _State(Value):
    """What a call that ends with a question is to know once it is made again. Fields as in `NeedsInput`."""

    operation: str = ""
    answers: tuple[str, ...] = ()
    tried: tuple[str, ...] = ()
    cost_usd: Decimal = Decimal(0)


def can_be_asked(ctx: Context) -> bool:
    capabilities = ctx.session.client_capabilities
    return capabilities is not None and capabilities.sampling is not None


def within_the_call(ctx: Context) -> Calling:
    """For a client that is asked while its call goes on."""

    async def ask(asked: Ask) -> Completion:
        request = CreateMessageRequest(params=_params(asked))
        try:  # by its own method the SDK warns that the later era asks otherwise, which it does here
            async with asyncio.timeout(PATIENCE_SECONDS):
                said = await ctx.session.send_request(request, CreateMessageResult)
        except TimeoutError as exc:
            raise PlatformError(
                ErrorCode.DEADLINE_EXCEEDED,
                f"the client's model did not answer within {PATIENCE_SECONDS:g} s",
                "it may wait for somebody's consent in the client",
            ) from exc
        except MCPError as exc:
            raise PlatformError(
                ErrorCode.UNAVAILABLE,
                "the client's model was not asked",
                "it may be on another transport",
                internal=str(exc),
            ) from exc
        return _completion(said)

    return Calling(ask)


def by_result(params: CallToolRequestParams, who: Principal) -> Calling:
    """For a client that is asked by the result of its call, and makes it again. Raises INVALID_ARGUMENT."""
    said = (params.input_responses or {}).get(KEY)
    known = _state(params.request_state, who) if said is not None else _State()
    answers = known.answers
    if isinstance(said, CreateMessageResult):
        answers = (*answers, _completion(said).model_dump_json())
    left = list(answers)

    async def ask(asked: Ask) -> Completion:
        if left:
            return Completion.model_validate_json(left.pop(0))
        raise NeedsInput(asked, answers)

    return Calling(ask, known.operation, known.tried, known.cost_usd)


def required(needed: NeedsInput, who: Principal) -> InputRequiredResult:
    known = _State(operation=needed.operation, answers=needed.answers, tried=needed.tried, cost_usd=needed.cost_usd)
    body = known.model_dump_json().encode()
    state = base64.urlsafe_b64encode(_seal(body, who) + body).decode()
    request = CreateMessageRequest(params=_params(needed.ask))
    return InputRequiredResult(input_requests={KEY: request}, request_state=state)


def _state(text: str | None, who: Principal) -> _State:
    """What was sealed for this very principal; anything else is a first call. Raises INVALID_ARGUMENT where it was
    made by somebody else."""
    if text is None:
        return _State()
    try:
        raw = base64.urlsafe_b64decode(text[:STATE_CHARACTERS])
    except ValueError as exc:
        raise _foreign() from exc
    seal, body = raw[:32], raw[32:]
    if not hmac.compare_digest(seal, _seal(body, who)):
        raise _foreign()
    return _State.model_validate_json(body)


def _foreign() -> PlatformError:
    return PlatformError(
        ErrorCode.INVALID_ARGUMENT, "this state is not of a call of yours, or it is of before a restart", "call again"
    )


def _seal(body: bytes, who: Principal) -> bytes:
    return hmac.new(_SECRET, f"{who.tenant}/{who.name}\n".encode() + body, hashlib.sha256).digest()


def _params(ask: Ask) -> CreateMessageRequestParams:
    wanted = json.dumps(ask.answer, separators=(",", ":"))
    text = f"{ask.prompt}\n\nAnswer with one JSON object of this schema, and nothing else:\n{wanted}"
    if ask.correction:
        text += f"\n\nYour answer before did not hold: {ask.correction}"
    message = SamplingMessage(role="user", content=TextContent(type="text", text=text))
    return CreateMessageRequestParams(
        messages=[message], system_prompt=ask.system, max_tokens=ask.max_answer_tokens, temperature=0.0
    )


def _completion(said: CreateMessageResult) -> Completion:
    """The JSON object in what was said: models like to put a fence around it."""
    parts = said.content if isinstance(said.content, list) else [said.content]
    text = "".join(part.text for part in parts if isinstance(part, TextContent))[:ANSWER_CHARACTERS]
    begin, end = text.find("{"), text.rfind("}")
    return Completion(text=text[begin : end + 1] if 0 <= begin < end else text, model=model_name(said.model))
