"""The door for A2A, by the SDK's own client, in the process, over the platform in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from a2a.client import ClientConfig, ClientFactory
from a2a.types import a2a_pb2 as a2a
from a2a.utils.errors import A2AError

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.entrypoints.http import build_app
from santiago_platform.operations.issue_token import TokenRequest, issue_token
from santiago_platform.operations.messages import MailboxQuery, MailboxView, read_mailbox

ROOT = Principal(name="root", role=Role.OWNER)
PIA = Principal(name="pia", role=Role.PLATFORM)


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform()


@asynccontextmanager
async def http(platform: FakePlatform, role: Role | None) -> AsyncIterator[httpx.AsyncClient]:
    async def nothing() -> Any:
        return []

    app = build_app(platform.ports, status=nothing, problems=nothing, hook_token="hook")
    headers = {}
    if role is not None:
        issued = await issue_token(platform.ports, ROOT, TokenRequest(name="archie", role=role))
        headers["authorization"] = f"Bearer {issued.token}"
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost", headers=headers
    ) as client:
        yield client


async def say(client: httpx.AsyncClient, text: str, **fields: Any) -> a2a.Message:
    factory = ClientFactory(ClientConfig(httpx_client=client, streaming=False))
    agent = await factory.create_from_url("http://localhost")
    part = fields.pop("part", None) or a2a.Part(text=text)
    known = {"message_id": f"m-{text}", "role": a2a.Role.ROLE_USER, "parts": [part]}
    message = a2a.Message(**{**known, **fields})
    answers = [event async for event in agent.send_message(a2a.SendMessageRequest(message=message))]
    assert len(answers) == 1
    return answers[0].message


async def mailbox(platform: FakePlatform) -> MailboxView:
    return await read_mailbox(platform.ports, PIA, MailboxQuery())


async def test_a_message_becomes_mail_to_the_platform_and_the_answer_names_it(platform: FakePlatform) -> None:
    async with http(platform, Role.ARCHITECT) as client:
        answered = await say(client, "web is slow", metadata={"severity": "warning"})
        again = await say(client, "web is slow", metadata={"severity": "warning"})
        reply = await say(client, "and slower", context_id=answered.context_id)
    newest, first = (await mailbox(platform)).mails
    assert (first.text, first.by, first.to, first.severity) == (
        "web is slow",
        "archie (architect)",
        "platform",
        "warning",
    )
    assert answered.metadata["mail"] == first.id == again.metadata["mail"]
    assert (again.metadata["repeat"], reply.metadata["repeat"]) == (True, False)
    assert (newest.text, newest.thread) == ("and slower", first.thread)


async def test_the_card_is_for_everybody_and_messages_are_not(platform: FakePlatform) -> None:
    async with http(platform, None) as client:
        found = (await client.get("/.well-known/agent-card.json")).json()
        assert found["supportedInterfaces"][0]["url"] == "http://localhost/a2a"
        assert found["securitySchemes"]["bearer"]["httpAuthSecurityScheme"]["scheme"] == "bearer"
        assert (await client.post("/a2a", json={})).status_code == 401


@pytest.mark.parametrize(
    ("role", "fields", "words"),
    [
        (Role.OBSERVER, {}, "may not message_role"),
        (Role.DEVELOPER, {"text": "x" * 3000}, "argument text is"),
        (Role.DEVELOPER, {"metadata": {"severity": "loud"}}, "argument severity is"),
        (Role.DEVELOPER, {"metadata": {"operation": "op-9"}}, "there is no operation op-9"),
        (Role.DEVELOPER, {"context_id": "ml-9"}, "there is no mail ml-9"),
        (Role.DEVELOPER, {"part": a2a.Part(url="http://evil")}, "send parts of text"),
    ],
)
async def test_what_may_not_be_sent_is_refused_in_words(
    platform: FakePlatform, role: Role, fields: dict[str, Any], words: str
) -> None:
    async with http(platform, role) as client:
        with pytest.raises(A2AError, match=words):
            await say(client, **{"text": "hello", **fields})
    assert (await mailbox(platform)).mails == ()


async def test_tasks_are_not_supported_and_other_methods_unknown(platform: FakePlatform) -> None:
    async with http(platform, Role.DEVELOPER) as client:
        for method, code in (("GetTask", -32004), ("Nothing", -32601)):
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"id": "t"}}
            answered = (await client.post("/a2a", json=body, headers={"A2A-Version": "1.0"})).json()
            assert answered["error"]["code"] == code
