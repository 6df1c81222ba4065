from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..domain.gate import Incident


class Incidents(Protocol):
    """Knows what is going wrong."""

    async def open(self, service: str, environment: str) -> Sequence[Incident]:
        """Incidents that have not ended, oldest first. Raises UNSUPPORTED where none are kept."""
