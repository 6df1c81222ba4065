"""Words to a tool over MCP, and the client that is asked whether their plan is what was meant, in both eras."""

from __future__ import annotations

from collections.abc import AsyncIterator
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
from santiago_platform.entrypoints.invocation import ToolCalls
from santiago_platform.entrypoints.mcp_resources import read_resource
from santiago_platform.entrypoints.mcp_server import build_server
from santiago_platform.entrypoints.resource_updates import ResourceUpdates

ANN = Principal(name="ann", role=Role.DEVELOPER)
EVE = Principal(name="eve", role=Role.DEVELOPER)
BOTH_ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])
WORDS = {"request": "deploy web HEAD to staging"}


@pytest.fixture
def platform() -> FakePlatform:
    made = FakePlatform()
    made.advisors.all = [BuiltinPlanner()]
    return made


class Asked:
    """A client's form: answers as it is told, and keeps what it was shown."""

    def __init__(self, action: str, content: dict[str, Any] | None = None) -> None:
        self.shown: list[str] = []
        self._result = ElicitResult(action=action, content=content)  # type: ignore[arg-type]

    async def __call__(self, _context: Any, params: ElicitRequestParams) -> ElicitResult:
        self.shown.append(params.message)
        return self._result


@asynccontextmanager
async def client(platform: FakePlatform, mode: str, form: Asked | None, who: Principal = ANN) -> AsyncIterator[Client]:
    updates = ResourceUpdates(platform.ports, read_resource)
    server = build_server(ToolCalls(platform.ports), platform.ports, updates, lambda _: who)
    async with Client(server, mode=mode, elicitation_callback=form) as connected:  # type: ignore[arg-type]
        yield connected


async def call(connected: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    answer = await connected.call_tool(tool, arguments)
    assert not answer.is_error, answer.content
    assert answer.structured_content is not None
    return answer.structured_content


async def rollouts(platform: FakePlatform) -> list[str]:
    return [r.operation_id for r in await platform.store.read(lambda v: v.active_rollouts())]


@BOTH_ERAS
async def test_a_plan_that_is_confirmed_begins_and_is_one_operation_that_was_planned_once(
    platform: FakePlatform, mode: str
) -> None:
    form = Asked("accept", {"confirm": True})
    async with client(platform, mode, form) as connected:
        done = await call(connected, "deploy_service", **WORDS)
    assert done["state"] == "running"
    assert await rollouts(platform) == [done["id"]]
    assert len(form.shown) == 1
    assert "web/staging: the first version -> version" in form.shown[0]
    planned = [e for e in platform.ship_log.entries if e.outcome == "planned"]
    assert [e.operation for e in planned] == [done["id"]]
    assert len(await platform.store.read(lambda v: v.operations())) == 1


@BOTH_ERAS
@pytest.mark.parametrize(
    ("form", "state"),
    [
        (Asked("decline"), "rejected"),
        (Asked("accept", {"confirm": False}), "rejected"),
        (Asked("cancel"), "awaiting"),
        (None, "awaiting"),
    ],
    ids=["declined", "unticked", "closed", "a client without forms"],
)
async def test_what_is_not_confirmed_does_not_begin(
    platform: FakePlatform, mode: str, form: Asked | None, state: str
) -> None:
    async with client(platform, mode, form) as connected:
        done = await call(connected, "deploy_service", **WORDS)
    assert done["state"] == state
    assert await rollouts(platform) == []


@BOTH_ERAS
async def test_a_client_never_approves_what_somebody_else_has_to(platform: FakePlatform, mode: str) -> None:
    platform.workspace.current = Settings(environments={"staging": Environment(approvals=ApprovalRule(required=True))})
    async with client(platform, mode, Asked("accept", {"confirm": True})) as connected:
        done = await call(connected, "deploy_service", **WORDS)
        assert (done["state"], done["phase"]) == ("awaiting", "approval")
        typed = await call(connected, "deploy_service", service="web", environment="staging", git_ref="v2")
        assert (typed["state"], typed["phase"]) == ("awaiting", "approval")
    assert await rollouts(platform) == []


async def test_a_state_that_names_anothers_operation_gives_nothing(platform: FakePlatform) -> None:
    async with client(platform, "auto", None) as connected:
        held = await call(connected, "deploy_service", **WORDS)
    said = {"confirm": {"action": "accept", "content": {"confirm": True}}}
    async with client(platform, "auto", None, EVE) as connected:
        answer = await connected.session.call_tool(
            "deploy_service",
            dict(WORDS),
            input_responses={"confirm": ElicitResult.model_validate(said["confirm"])},
            request_state=f"{held['id']} {held['plan']['hash']}",
            allow_input_required=True,
        )
    assert answer.is_error  # type: ignore[union-attr]
    assert await rollouts(platform) == []


@BOTH_ERAS
async def test_a_flag_in_words_is_confirmed_too(platform: FakePlatform, mode: str) -> None:
    flag = Flag.model_validate({"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"})
    await platform.flags.put("new-checkout", FlagEntry(), FlagEntry(flag=flag))
    form = Asked("decline")
    async with client(platform, mode, form) as connected:
        done = await call(connected, "configure_flag", request="turn new-checkout off in staging")
    assert "flag new-checkout in staging" in form.shown[0]
    assert (done["state"], done["kind"]) == ("rejected", "configure_flag")
