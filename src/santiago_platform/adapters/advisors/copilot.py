"""GitHub Copilot, by its chat completions. Its token is a Copilot token, not one of GitHub's API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2

from ...domain.advisor import Provider

if TYPE_CHECKING:
    from pydantic_ai.models import Model

BASE_URL = "https://api.githubcopilot.com"


def copilot_model(provider: Provider, model: str, key: str, client: httpx2.AsyncClient) -> Model:
    from pydantic_ai.models.github_copilot import GitHubCopilotModel
    from pydantic_ai.providers.github_copilot import GitHubCopilotProvider

    # By its own constructor, since that adds the headers which Copilot's clients send.
    of = GitHubCopilotProvider(api_key=key, base_url=provider.base_url or BASE_URL, http_client=client)
    of.client.max_retries = 0
    return GitHubCopilotModel(model, provider=of)
