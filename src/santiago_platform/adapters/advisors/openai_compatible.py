"""Whatever speaks OpenAI's chat completions: vLLM, NIM, a gateway; often on one's own GPUs, often without a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2

from ...domain.advisor import Provider

if TYPE_CHECKING:
    from pydantic_ai.models import Model


def openai_compatible_model(provider: Provider, model: str, key: str, client: httpx2.AsyncClient) -> Model:
    from openai import AsyncOpenAI
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    # The SDK wants a key; servers that need none do not look at it.
    sdk = AsyncOpenAI(api_key=key or "none", base_url=provider.base_url, http_client=client, max_retries=0)
    return OpenAIChatModel(model, provider=OpenAICompatibleProvider("openai_compatible", openai_client=sdk))
