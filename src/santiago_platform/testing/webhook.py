"""What everything that asks webhooks keeps to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ..domain.errors import ErrorCode, PlatformError
from ..domain.gate import Reply
from ..ports.webhook import Webhook


class WebhookContract:
    """Subclasses give the fixtures `webhook`, `url`, whose answer is what the fixture `says` is told, `asked`, the
    bodies that came there, and `deaf_url`, where nobody answers."""

    @pytest.mark.parametrize("passed", [True, False])
    async def test_the_answer_is_what_the_other_side_says(
        self,
        webhook: Webhook,
        url: str,
        says: Callable[[bool, str], None],
        asked: list[dict[str, Any]],
        passed: bool,
    ) -> None:
        says(passed, "because")
        body = {"service": "web", "release": "sha256:00"}
        assert await webhook.ask(url, body, timeout_seconds=10, token_file=None) == Reply(
            passed=passed, reason="because"
        )
        assert asked == [body]

    async def test_no_answer_is_unavailable(self, webhook: Webhook, deaf_url: str) -> None:
        with pytest.raises(PlatformError) as raised:
            await webhook.ask(deaf_url, {}, timeout_seconds=0.2, token_file=None)
        assert raised.value.code is ErrorCode.UNAVAILABLE
        assert deaf_url in raised.value.message
