"""Anthropic, by its messages API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2

from ...domain.advisor import Provider

if TYPE_CHECKING:
    from pydantic_ai.models import Model

BASE_URL = "https://api.anthropic.com"


def anthropic_model(provider: Provider, model: str, key: str, client: httpx2.AsyncClient) -> Model:
    from anthropic import AsyncAnthropic
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    sdk = AsyncAnthropic(api_key=key, base_url=provider.base_url or BASE_URL, http_client=client, max_retries=0)
    return AnthropicModel(model, provider=AnthropicProvider(anthropic_client=sdk))
