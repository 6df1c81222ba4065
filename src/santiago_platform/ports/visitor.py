from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Visitor(Protocol):
    """Asks services as their users do: through the ingress. May take up to 10 s."""

    async def ask(self, service: str, environment: str, path: str, headers: Mapping[str, str]) -> int | None:
        """GET of a path. Returns the status of the answer; None where none came. Never raises."""
