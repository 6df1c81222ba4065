"""Resources and prompts over MCP, by the SDK's own client, in both eras, over the platform in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import Client, MCPError

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.budget import Charge
from santiago_platform.domain.environment import Settings
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.mailbox import TEXT_CHARACTERS
from santiago_platform.domain.proposal import Task
from santiago_platform.domain.ship_log import Draft, EntryKind
from santiago_platform.entrypoints.invocation import ToolCalls
from santiago_platform.entrypoints.mcp_resources import RESOURCE_BYTES, read_resource
from santiago_platform.entrypoints.mcp_server import build_server
from santiago_platform.entrypoints.resource_updates import WATCHES_OF_ONE, ResourceUpdates
from santiago_platform.operations.messages import MailFields, send_mail
from santiago_platform.testing.rows import START, mail, operation
from santiago_platform.tools.resources import RESOURCES, registry

ANN = Principal(name="ann", role=Role.DEVELOPER)
QUINN = Principal(name="quinn", role=Role.QA)
EVE = Principal(name="eve", role=Role.DEVELOPER, tenant="other")
BOTH_ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])
MAILBOX = "santiago://mailbox"


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform()


@asynccontextmanager
async def client(
    platform: FakePlatform, mode: str = "auto", who: Principal = ANN, **options: Any
) -> AsyncIterator[Any]:
    updates = ResourceUpdates(platform.ports, read_resource)
    server = build_server(ToolCalls(platform.ports), platform.ports, updates, lambda _: who)
    async with Client(server, mode=mode, **options) as connected:
        yield connected, updates


async def send(platform: FakePlatform, text: str, to: Role | None = Role.DEVELOPER, who: Principal = QUINN) -> str:
    return (await send_mail(platform.ports, who, MailFields(text=text), to)).id


async def read(connected: Any, uri: str) -> Any:
    found = await connected.read_resource(uri)
    return json.loads(found.contents[0].text)


@BOTH_ERAS
async def test_resources_templates_and_prompts_are_listed_and_read(platform: FakePlatform, mode: str) -> None:
    await platform.store.write(lambda tx: tx.save_operation(operation(1)))
    await send(platform, "look")
    async with client(platform, mode) as (connected, _):
        whole = [resource.uri for resource in (await connected.list_resources()).resources]
        templates = [t.uri_template for t in (await connected.list_resource_templates()).resource_templates]
        assert {*whole, *templates} == set(RESOURCES)
        assert (await read(connected, MAILBOX))["mails"][0]["text"] == "look"
        assert (await read(connected, "santiago://operations/op-1"))["kind"] == "deploy_service"
        assert await read(connected, "santiago://schemas/santiago") == {"type": "object"}
        assert (await read(connected, "santiago://log/1"))["action"] == "message_role.send"
        assert (await read(connected, "santiago://reports/budget"))["spent_usd"] == "0"
        assert (await read(connected, "santiago://reports/dora"))["days"] == 30
        [prompt] = (await connected.list_prompts()).prompts
        words = (await connected.get_prompt(prompt.name)).messages[0].content.text
        assert "platform engineer" in words
        with pytest.raises(MCPError, match="no prompt"):
            await connected.get_prompt("nothing")


@BOTH_ERAS
@pytest.mark.parametrize(
    "uri",
    [
        "santiago://nothing",
        "santiago://operations/op-9",
        "santiago://operations/../mailbox",
        "santiago://schemas/..%2F..%2Fetc%2Fpasswd",
        "santiago://log/0",
        "santiago://log/-1",
        "santiago://log/٣",
        "santiago://log/999999999999999999999",
        "santiago://mailbox/nonsense",
        "file:///etc/passwd",
    ],
)
async def test_what_there_is_not_is_refused_in_words(platform: FakePlatform, mode: str, uri: str) -> None:
    async with client(platform, mode) as (connected, _):
        with pytest.raises(MCPError) as refused:
            await connected.read_resource(uri)
    assert refused.value.error.code == -32602
    assert refused.value.error.data["code"] in ("not_found", "invalid_argument")


async def test_pages_of_a_large_mailbox_are_bounded_and_lead_to_the_next(platform: FakePlatform) -> None:
    def fill(tx: Any) -> None:
        for number in range(25):
            tx.add_mail(mail(number, mailbox=Role.DEVELOPER, text="x" * TEXT_CHARACTERS))

    await platform.store.write(fill)
    seen, uri = [], MAILBOX
    async with client(platform) as (connected, _):
        while uri:
            page = await read(connected, uri)
            assert len(json.dumps(page)) < RESOURCE_BYTES / 4
            seen += [found["id"] for found in page["mails"]]
            uri = f"{MAILBOX}/{page['cursor'].replace(':', '%3A')}" if page.get("cursor") else ""
    assert seen == [f"ml-{number}" for number in reversed(range(25))]


async def test_a_tenant_reads_nothing_of_another(platform: FakePlatform) -> None:
    platform.workspace.current = Settings.model_validate({"tenants": {"other": {}}})
    await platform.store.write(lambda tx: tx.save_operation(operation(1)))
    await platform.store.write(lambda tx: tx.save_charge(charge()))
    await send(platform, "ours", to=None)
    async with client(platform, who=EVE) as (connected, _):
        assert (await read(connected, MAILBOX))["mails"] == []
        report = await read(connected, "santiago://reports/budget")
        assert (report["spent_usd"], report["last"], "left_usd" in report) == ("0", [], False)
        for uri in ("santiago://operations/op-1", "santiago://log/1"):
            with pytest.raises(MCPError, match="there is no"):
                await connected.read_resource(uri)
    async with client(platform, who=Principal(name="root", role=Role.OWNER)) as (connected, _):
        report = await read(connected, "santiago://reports/budget")
        assert (report["spent_usd"], report["left_usd"], report["by_role"]) == ("1.5", "28.5", {"developer": "1.5"})
        assert report["last"][0]["model"] == "large"


def charge() -> Charge:
    return Charge.model_validate(
        {
            "id": "ch-1",
            "at": START,
            "day": START.date(),
            "task": next(iter(Task)),
            "principal": "ann",
            "role": "developer",
            "tenant": "default",
            "advisor": "fake",
            "model": "large",
            "reserved_usd": "1.5",
            "amount_usd": "1.5",
        }
    )


async def test_what_is_for_the_log_alone_is_not_shown(platform: FakePlatform) -> None:
    body = {"message": "failed", "internal": "stack and all"}
    draft = Draft(kind=EntryKind.NOTED, action="x", principal="ann", role="developer", tenant="default", body=body)
    await platform.ship_log.append(draft)
    async with client(platform) as (connected, _):
        assert (await read(connected, "santiago://log/1"))["body"] == {"message": "failed"}


async def test_a_listener_is_told_when_its_own_mailbox_changes_and_not_when_anothers_does(
    platform: FakePlatform,
) -> None:
    async with (
        client(platform) as (connected, updates),
        asyncio.timeout(10),
        connected.listen(resource_subscriptions=[MAILBOX, "santiago://log/7"]) as told,
    ):
        assert told.honored.resource_subscriptions == [MAILBOX], "what cannot be read is not listened to"
        await send(platform, "for the testers", to=Role.QA)
        await updates.pass_over()
        await send(platform, "for you")
        await updates.pass_over()
        event = await anext(aiter(told))
        assert event.uri == MAILBOX
        assert [m["text"] for m in (await read(connected, MAILBOX))["mails"]] == ["for you"]
    assert updates.count == 0


@pytest.mark.filterwarnings("ignore:resources/:mcp.MCPDeprecationWarning")
async def test_a_subscriber_of_the_older_era_is_told_until_it_unsubscribes(platform: FakePlatform) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()

    async def handler(message: Any) -> None:
        if getattr(message, "method", "") == "notifications/resources/updated":
            told.put_nowait(str(message.params.uri))

    async with client(platform, "legacy", message_handler=handler) as (connected, updates), asyncio.timeout(10):
        await connected.subscribe_resource(MAILBOX)
        await connected.subscribe_resource(MAILBOX)
        with pytest.raises(MCPError, match="there is no operation"):
            await connected.subscribe_resource("santiago://operations/op-1")
        await send(platform, "one")
        await updates.pass_over()
        assert await told.get() == MAILBOX
        await connected.unsubscribe_resource(MAILBOX)
        assert updates.count == 0
        await connected.subscribe_resource(MAILBOX)
        assert updates.count == 1
    assert updates.count == 0, "it ends with the connection"
    assert told.empty()


async def test_so_much_is_listened_to_and_no_more(platform: FakePlatform) -> None:
    updates = ResourceUpdates(platform.ports, read_resource)

    async def tell(_: str) -> None:
        raise AssertionError

    sessions = [ANN.model_copy(update={"session": f"se-{n}"}) for n in range(WATCHES_OF_ONE)]
    ends = [updates.watch(session, MAILBOX, "", tell) for session in sessions]
    with pytest.raises(Exception, match="listens to 200 resources"):
        updates.watch(ANN, MAILBOX, "", tell)
    updates.watch(QUINN, MAILBOX, "", tell)
    ends[0]()
    updates.watch(ANN, MAILBOX, "", tell)


def test_two_resources_of_one_uri_are_refused() -> None:
    resource = RESOURCES[MAILBOX]
    with pytest.raises(ValueError, match="two resources are santiago://mailbox"):
        registry([resource, resource])
