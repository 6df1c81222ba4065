"""OpenAI, by chat completions or responses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2

from ...domain.advisor import Api, Provider

if TYPE_CHECKING:
    from pydantic_ai.models import Model

BASE_URL = "https://api.openai.com/v1"


def openai_model(provider: Provider, model: str, key: str, client: httpx2.AsyncClient) -> Model:
    from openai import AsyncOpenAI
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    sdk = AsyncOpenAI(api_key=key, base_url=provider.base_url or BASE_URL, http_client=client, max_retries=0)
    of = OpenAIProvider(openai_client=sdk)
    return (
        OpenAIResponsesModel(model, provider=of)
        if provider.api is Api.RESPONSES
        else OpenAIChatModel(model, provider=of)
    )
