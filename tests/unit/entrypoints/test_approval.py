"""A change over MCP that waits for somebody else: the URL that is shown or named, and no more, in both eras."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import Client
from mcp_types import ElicitRequestParams, ElicitResult

from santiago_platform.adapters.advisors.builtin import BuiltinPlanner
from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.change_request import ApprovalRule
from santiago_platform.domain.environment import Environment, Settings
from santiago_platform.domain.flag import Flag, FlagEntry
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.oauth import OAuth
from santiago_platform.entrypoints.invocation import ToolCalls
from santiago_platform.entrypoints.mcp_resources import read_resource
from santiago_platform.entrypoints.mcp_server import build_server
from santiago_platform.entrypoints.resource_updates import ResourceUpdates
from santiago_platform.operations.manage_operation import OperationCommand, manage_operation

ANN = Principal(name="ann", role=Role.DEVELOPER)
PAT = Principal(name="pat", role=Role.PLATFORM)
BOTH_ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])
DEPLOY = {"service": "web", "environment": "production", "git_ref": "HEAD"}
WAITS = Environment(approvals=ApprovalRule(required=True))
SETTINGS = Settings(environments={"production": WAITS, "staging": WAITS})


@pytest.fixture
def platform() -> FakePlatform:
    made = FakePlatform()
    made.workspace.current = SETTINGS
    made.advisors.all = [BuiltinPlanner()]
    return made


class Shown:
    """A client's window: answers as it is told, and keeps what it was asked to open. meanwhile: happens before that."""

    def __init__(self, action: str, meanwhile: Callable[[str], Any] | None = None) -> None:
        self.urls: list[str] = []
        self._action = action
        self._meanwhile = meanwhile

    async def __call__(self, _context: Any, params: ElicitRequestParams) -> ElicitResult:
        if params.mode == "form":
            return ElicitResult(action="accept", content={"confirm": True})
        self.urls.append(params.url)
        if self._meanwhile is not None:
            await self._meanwhile(params.url)
        return ElicitResult(action=self._action)  # type: ignore[arg-type]


@asynccontextmanager
async def client(platform: FakePlatform, mode: str, window: Shown | None) -> AsyncIterator[Client]:
    updates = ResourceUpdates(platform.ports, read_resource)
    server = build_server(ToolCalls(platform.ports), platform.ports, updates, lambda _: ANN)
    async with Client(server, mode=mode, elicitation_callback=window) as connected:  # type: ignore[arg-type]
        yield connected


async def call(connected: Client, tool: str, **arguments: Any) -> tuple[dict[str, Any], str]:
    answer = await connected.call_tool(tool, arguments)
    assert not answer.is_error, answer.content
    assert answer.structured_content is not None
    return answer.structured_content, answer.content[0].text  # type: ignore[union-attr]


async def rollouts(platform: FakePlatform) -> list[str]:
    return [r.operation_id for r in await platform.store.read(lambda v: v.active_rollouts())]


@BOTH_ERAS
@pytest.mark.parametrize("action", ["accept", "decline", "cancel"])
async def test_a_client_that_opens_urls_is_shown_the_page_and_approves_nothing(
    platform: FakePlatform, mode: str, action: str
) -> None:
    window = Shown(action)
    async with client(platform, mode, window) as connected:
        done, _ = await call(connected, "deploy_service", **DEPLOY)
    assert (done["state"], done["phase"]) == ("awaiting", "approval")
    assert window.urls == [f"http://127.0.0.1:8700/approve/{done['id']}?hash={done['plan']['hash']}"]
    assert await rollouts(platform) == []


@BOTH_ERAS
async def test_what_somebody_else_approved_meanwhile_is_running_when_the_client_answers(
    platform: FakePlatform, mode: str
) -> None:
    async def approve(url: str) -> None:
        operation, _, plan = url.rpartition("/")[2].partition("?hash=")
        command = OperationCommand(action="approve", operation=operation, plan=plan)
        await manage_operation(platform.ports, PAT, command)

    window = Shown("accept", approve)
    async with client(platform, mode, window) as connected:
        done, _ = await call(connected, "deploy_service", **DEPLOY)
    assert done["state"] == "running"
    assert await rollouts(platform) == [done["id"]]


@BOTH_ERAS
async def test_words_that_were_confirmed_and_wait_for_an_approval_are_shown_too(
    platform: FakePlatform, mode: str
) -> None:
    window = Shown("accept")
    async with client(platform, mode, window) as connected:
        done, _ = await call(connected, "deploy_service", request="deploy web HEAD to staging")
    assert (done["state"], done["phase"]) == ("awaiting", "approval")
    assert [done["id"] in url for url in window.urls] == [True]
    assert await rollouts(platform) == []


@BOTH_ERAS
async def test_a_client_that_opens_nothing_is_told_that_it_is_pending_and_where(
    platform: FakePlatform, mode: str
) -> None:
    async with client(platform, mode, None) as connected:
        done, text = await call(connected, "deploy_service", **DEPLOY)
        url = f"http://127.0.0.1:8700/approve/{done['id']}?hash={done['plan']['hash']}"
        assert "approval pending" in text
        assert url in text
        _, again = await call(connected, "manage_operation", action="status", operation=done["id"])
        assert url in again
    assert done["state"] == "awaiting"


@BOTH_ERAS
async def test_a_flag_that_waits_is_named_too(platform: FakePlatform, mode: str) -> None:
    flag = Flag.model_validate({"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"})
    await platform.flags.put("dark", FlagEntry(), FlagEntry(flag=flag))
    async with client(platform, mode, None) as connected:
        done, text = await call(
            connected, "configure_flag", action="set", flag="dark", environment="production", percent=10
        )
    [change] = done["changes"]
    assert change["state"] == "awaiting"
    assert f"/approve/{change['id']}?hash={done['plan']['hash']}" in text


async def test_an_answer_that_names_anothers_operation_shows_nothing_of_it(platform: FakePlatform) -> None:
    async with client(platform, "auto", None) as connected:
        answer = await connected.session.call_tool(
            "deploy_service",
            dict(DEPLOY),
            input_responses={"approve": ElicitResult(action="accept")},
            request_state="approve op-of-somebody",
            allow_input_required=True,
        )
    assert answer.is_error  # type: ignore[union-attr]
    assert await rollouts(platform) == []


async def test_behind_a_public_name_the_url_has_that_name(platform: FakePlatform) -> None:
    oauth = OAuth(issuer="https://id.example", resource="https://ship.example/mcp", jwks="keys.json")
    platform.workspace.current = SETTINGS.model_copy(update={"oauth": oauth})
    async with client(platform, "auto", None) as connected:
        _, text = await call(connected, "deploy_service", **DEPLOY)
    assert "https://ship.example/approve/" in text
