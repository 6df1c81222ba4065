"""News of resources over real sockets, in both eras."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from santiago_platform.domain.identity import Role

MAILBOX = "santiago://mailbox"


async def _send(served: Any, text: str) -> None:
    async with served.client() as owner:
        await owner.call_tool("message_role", {"action": "send", "role": "developer", "text": text})


async def _texts(client: Any) -> list[str]:
    found = await client.read_resource(MAILBOX)
    return [mail["text"] for mail in json.loads(found.contents[0].text)["mails"]]


@pytest.mark.parametrize("path", ["/mcp", "/mcp/json"])
async def test_a_listener_is_told_of_new_mail(served: Any, path: str) -> None:
    token = (await served.token(Role.DEVELOPER)).token
    async with (
        asyncio.timeout(20),
        served.client("auto", path, token) as client,
        client.listen(resource_subscriptions=[MAILBOX]) as told,
    ):
        await _send(served, "look")
        assert (await anext(aiter(told))).uri == MAILBOX
        assert await _texts(client) == ["look"]


@pytest.mark.filterwarnings("ignore:resources/subscribe is removed")
async def test_a_subscriber_of_the_older_era_is_told_of_new_mail(served: Any) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()

    async def handler(message: Any) -> None:
        if getattr(message, "method", "") == "notifications/resources/updated":
            told.put_nowait(str(message.params.uri))

    token = (await served.token(Role.DEVELOPER)).token
    async with asyncio.timeout(20), served.client("legacy", token=token, message_handler=handler) as client:
        await client.subscribe_resource(MAILBOX)
        await _send(served, "look")
        assert await told.get() == MAILBOX
        assert await _texts(client) == ["look"]
