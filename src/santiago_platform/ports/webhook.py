from __future__ import annotations

from typing import Any, Protocol

from ..domain.gate import Reply


class Webhook(Protocol):
    """Asks another system, over HTTP."""

    async def ask(self, url: str, body: dict[str, Any], *, timeout_seconds: float, token_file: str | None) -> Reply:
        """POSTs `body` as JSON; the answer is 2xx with `{"pass": true or false, "reason": "..."}`.

        token_file: of the bearer token to send, as the workspace names it. May block for `timeout_seconds`, in all.
        Redirects are not followed. Raises UNAVAILABLE for whatever is not such an answer in time, FAILED_PRECONDITION
        where the token cannot be read.
        """
