from __future__ import annotations

from typing import Protocol

from ..domain.gate import Approval


class Approvals(Protocol):
    """Knows what people have approved."""

    async def of(self, release: str, environment: str, role: str) -> Approval | None:
        """Of exactly this release for this environment, by somebody with `role`; None where nobody has approved."""
