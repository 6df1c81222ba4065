"""An external AI, asked once for each call: one HTTP request, no retries, nothing believed of what it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import httpx2

from ...domain.advisor import Advisors, AdvisorType, Provider
from ...domain.budget import Price
from ...domain.errors import ErrorCode, PlatformError
from ...domain.proposal import Ask, Completion, Task, Usage, model_name
from ...ports.advisors import AnswerError, NotBilledError
from .anthropic import anthropic_model
from .connection import OneRequest, client_over
from .copilot import copilot_model
from .openai import openai_model
from .openai_compatible import openai_compatible_model
from .price_list import list_price

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelResponse
    from pydantic_ai.models import Model

TOOL = "propose"  # what a model calls to answer
HINTS = {
    401: "its key is not accepted",
    403: "its key is not accepted",
    404: "is the name of the model right?",
    429: "it has had too many requests, or its own budget is spent",
}
# After these a gateway may have been asked in earnest: they are settled as if it had answered.
MAYBE_BILLED = frozenset({408, 499})

# Imports the vendor's SDK, which takes seconds: called in a thread, when it is needed and not before.
Open = Callable[[Provider, str, str, httpx2.AsyncClient], "Model"]

TYPES: Mapping[AdvisorType, Open] = {
    AdvisorType.OPENAI: openai_model,
    AdvisorType.ANTHROPIC: anthropic_model,
    AdvisorType.COPILOT: copilot_model,
    AdvisorType.OPENAI_COMPATIBLE: openai_compatible_model,
}


class ExternalAdvisor:
    """Implements ports.advisors.Advisor for a provider of santiago.yaml."""

    def __init__(
        self, name: str, settings: Advisors, prices: Mapping[str, Price], key: Callable[[Provider], str | None]
    ) -> None:
        """prices: of santiago.yaml, by provider and model, `copilot/gpt-5.4`, else by model alone. key: reads the
        provider's; raises PlatformError where it cannot."""
        self.name = name
        self._settings = settings
        self._provider = settings.providers[name]
        self._prices = prices
        self._key = key

    def model(self, task: Task, *, cheap: bool) -> str:
        return self._settings.model_for(self.name, task, cheap=cheap)

    def price(self, model: str) -> Price | None:
        own = self._prices.get(f"{self.name}/{model}") or self._prices.get(model)
        return own or list_price(self._provider.type, model)

    async def propose(self, ask: Ask, model: str) -> Completion:
        provider = self._provider
        try:
            key = self._key(provider) or ""
        except PlatformError as exc:
            raise NotBilledError(exc.code, exc.message, exc.hint) from exc
        transport = OneRequest()
        try:
            async with client_over(transport, provider.timeout_seconds) as client:
                opened = await asyncio.to_thread(TYPES[provider.type], provider, model, key, client)
                async with asyncio.timeout(provider.timeout_seconds):
                    response = await _request(opened, ask, provider)
        except Exception as exc:  # noqa: BLE001 - a vendor's library: whatever it raises, the call may have cost money
            raise self._failure(transport, exc) from None
        return self._completion(response, ask, model)

    def _failure(self, transport: OneRequest, exc: Exception) -> PlatformError:
        """What a provider says of a failure stays out of it: it may repeat the key, or the prompt."""
        status = transport.status
        internal = f"{type(exc).__name__}, HTTP status {status}"
        if not transport.sent:
            code = ErrorCode.UNAVAILABLE
            return NotBilledError(
                code, f"{self.name} cannot be reached", "is it up, and is its address right?", internal=internal
            )
        if status is not None and 400 <= status < 500 and status not in MAYBE_BILLED:
            hint = HINTS.get(status, "it does not take the request as it is")
            return NotBilledError(ErrorCode.UNAVAILABLE, f"{self.name} answered {status}", hint, internal=internal)
        if isinstance(exc, TimeoutError) or _has_timed_out(exc):
            return PlatformError(
                ErrorCode.DEADLINE_EXCEEDED,
                f"{self.name} did not answer within {self._provider.timeout_seconds:g} s",
                f"advisors.providers.{self.name}.timeout_seconds in santiago.yaml is how long it may take",
                internal=internal,
            )
        said = f"answered {status}" if status not in (None, 200) else "broke off, or answered what cannot be read"
        return PlatformError(
            ErrorCode.UNAVAILABLE, f"{self.name} {said}", "another advisor may answer", internal=internal
        )

    def _completion(self, response: ModelResponse, ask: Ask, model: str) -> Completion:
        from pydantic_ai.messages import TextPart, ToolCallPart

        counted = Usage(
            input_tokens=max(0, response.usage.input_tokens), output_tokens=max(0, response.usage.output_tokens)
        )
        # Who answers has read and written: without tokens it has not counted.
        usage = counted if counted.input_tokens and counted.output_tokens else None
        if response.finish_reason == "length":
            raise AnswerError(f"{self.name} was cut off at {ask.max_answer_tokens} tokens", usage=usage)
        if response.finish_reason == "content_filter" or (response.provider_details or {}).get("refusal"):
            raise AnswerError(f"{self.name} refused to answer", usage=usage)
        calls = [part for part in response.parts if isinstance(part, ToolCallPart)]
        if len(calls) > 1 or any(call.tool_name != TOOL for call in calls):
            raise AnswerError(f"{self.name} called tools that it was not given", usage=usage)
        if calls:
            given = calls[0].args
            text = given if isinstance(given, str) else calls[0].args_as_json_str()
        else:
            text = "".join(part.content for part in response.parts if isinstance(part, TextPart)).strip()
        if not text.startswith("{"):
            raise AnswerError(f"{self.name} answered in prose", usage=usage)
        return Completion(text=text, model=model_name(response.model_name or "", model), usage=usage)


def _has_timed_out(exc: BaseException | None) -> bool:
    """Whether that is what lies under a library's own error."""
    while exc is not None:
        if isinstance(exc, httpx2.TimeoutException):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


async def _request(model: Model, ask: Ask, provider: Provider) -> ModelResponse:
    from pydantic_ai.direct import model_request, model_request_stream
    from pydantic_ai.messages import ModelRequest, SystemPromptPart, UserPromptPart
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.settings import ModelSettings
    from pydantic_ai.tools import ToolDefinition

    said = ask.prompt
    if ask.correction:
        said += f"\n\nYour answer before did not hold: {ask.correction}\nAnswer again, whole."
    messages = [ModelRequest(parts=[SystemPromptPart(ask.system), UserPromptPart(said)])]
    settings = ModelSettings(max_tokens=ask.max_answer_tokens, timeout=provider.timeout_seconds)
    propose = ToolDefinition(
        name=TOOL, description="Your whole answer.", parameters_json_schema=ask.answer, kind="output"
    )
    parameters = ModelRequestParameters(output_mode="tool", output_tools=[propose], allow_text_output=False)
    if not provider.stream:
        return await model_request(model, messages, model_settings=settings, model_request_parameters=parameters)
    async with model_request_stream(
        model, messages, model_settings=settings, model_request_parameters=parameters
    ) as stream:
        async for _ in stream:
            pass
        return _whole(stream.get())


def _whole(response: ModelResponse) -> ModelResponse:
    """A stream that ends without saying why was cut, however properly its connection was closed: it has counted only
    what it had written by then, and half of an answer may be valid."""
    details = response.provider_details or {}
    if not details.get("finish_reason") and not details.get("refusal"):
        raise EOFError("the stream ended before the answer did")
    return response
