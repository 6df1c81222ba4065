"""Walks over every tool: what an agent is shown, what it may do, and what stays of it in the ship's log."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.ship_log import EntryKind
from santiago_platform.domain.slo import Events, Slo
from santiago_platform.entrypoints.mcp_server import list_tools
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service
from santiago_platform.reconcilers.rollout import RolloutReconciler
from santiago_platform.tools import TOOLS, registry
from santiago_platform.tools.tool import Tool, render

SURFACE = Path(__file__).with_name("surface.json")
OWNER = Principal(name="root", role=Role.OWNER)
STRANGER = Principal(name="mallory", role=Role.OBSERVER, tenant="elsewhere")
OBSERVER = Principal(name="oscar", role=Role.OBSERVER)
EVERY = pytest.mark.parametrize("tool", TOOLS.values(), ids=list(TOOLS))
CHANGING = [tool for tool in TOOLS.values() if not tool.read_only]


def _listed() -> dict[str, Any]:
    return list_tools().model_dump(by_alias=True, mode="json", exclude_none=True)


async def _live(platform: FakePlatform, *refs: str) -> None:
    """Deploys `web`, which has an SLO, to production, one ref after the other."""
    loop = RolloutReconciler(platform.ports)
    events = Events(total="requests_total", bad='requests_total{code="500"}')
    slo = Slo(service="web", environment="production", name="availability", indicator=events, target=0.99)
    platform.workspace.objectives["web"] = (slo,)
    for ref in refs:
        await deploy_service(platform.ports, OWNER, DeployRequest(service="web", environment="production", git_ref=ref))
        for _ in range(400):
            await loop.pass_over_all()
            await platform.clock.sleep(0.2)
            if not await platform.store.read(lambda v: v.operations(running=True)):
                break
        else:
            raise AssertionError("it hangs")


def test_the_surface_is_as_it_was_reviewed() -> None:
    shown = json.dumps(_listed(), indent=1, ensure_ascii=False) + "\n"
    if os.environ.get("UPDATE_SURFACE"):
        SURFACE.write_text(shown)
    assert SURFACE.read_text() == shown, "review the change, then write it with UPDATE_SURFACE=1"


def test_the_list_of_tools_is_small_on_the_wire() -> None:
    size = len(json.dumps(_listed(), separators=(",", ":"), ensure_ascii=False).encode())
    assert size <= 12_000
    assert size / len(TOOLS) <= 1_200, "twelve tools would not fit into 12,000 bytes and leave room"


def test_two_tools_of_one_name_are_refused() -> None:
    tool = TOOLS["read_logs"]
    with pytest.raises(ValueError, match="two tools are named read_logs"):
        registry([tool, tool])


@EVERY
def test_every_tool_has_words_schemas_annotations_and_an_example_that_is_valid(tool: Tool) -> None:
    shown = next(t for t in _listed()["tools"] if t["name"] == tool.name)
    assert len(shown["description"]) > 40
    assert shown["title"]
    assert shown["annotations"]
    for schema in (shown["inputSchema"], shown["outputSchema"]):
        Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object"
    assert shown["inputSchema"]["additionalProperties"] is False
    assert shown["inputSchema"]["examples"] == [tool.example]
    Draft202012Validator(tool.input_schema).validate(tool.example)
    assert tool.parse(tool.example) is not None


@EVERY
async def test_every_tool_answers_its_example_as_its_output_schema_says(tool: Tool) -> None:
    platform = FakePlatform()
    await _live(platform, "v1", "v2")
    answer = await tool.call(platform.ports, OWNER, tool.parse({**tool.example, "wait": None}), None)
    rendered = json.loads(render(answer))
    Draft202012Validator(tool.output_schema).validate(rendered)
    teller = TOOLS[tool.answers_as or tool.name]
    told = set(teller.output_schema["properties"])
    assert set(rendered) <= told or told == set(teller.answer_names)


@EVERY
async def test_every_tool_refuses_a_principal_that_may_not(tool: Tool) -> None:
    platform = FakePlatform()
    await _live(platform, "v1", "v2")
    with pytest.raises(PlatformError) as raised:
        await tool.call(platform.ports, STRANGER, tool.parse(tool.example), None)
    assert raised.value.code in (ErrorCode.PERMISSION_DENIED, ErrorCode.NOT_FOUND)


@pytest.mark.parametrize("tool", CHANGING, ids=[tool.name for tool in CHANGING])
async def test_every_changing_tool_leaves_its_entry_also_when_it_is_denied(tool: Tool) -> None:
    platform = FakePlatform()
    await _live(platform, "v1", "v2")
    before = len(platform.ship_log.entries)
    with pytest.raises(PlatformError) as raised:
        await tool.call(platform.ports, OBSERVER, tool.parse(tool.example), None)
    assert raised.value.code is ErrorCode.PERMISSION_DENIED
    opened, completed = platform.ship_log.entries[before:]
    assert (opened.kind, completed.kind) == (EntryKind.OPENED, EntryKind.COMPLETED)
    assert opened.action.startswith(tool.name)
    assert (opened.principal, completed.outcome) == ("oscar", "denied")


async def test_reading_leaves_no_entry() -> None:
    platform = FakePlatform()
    for tool in TOOLS.values():
        if tool.read_only:
            await tool.call(platform.ports, OWNER, tool.parse({}) if tool.name != "query_metrics" else _up(), None)
    assert platform.ship_log.entries == []


def _up() -> Any:
    return TOOLS["query_metrics"].parse({"expression": "up"})


async def test_a_dry_run_does_not_wait_for_what_will_not_happen() -> None:
    platform = FakePlatform()
    tool = TOOLS["deploy_service"]
    answer = await tool.call(platform.ports, OWNER, tool.parse({**tool.example, "dry_run": True}), None)
    assert json.loads(render(answer))["state"] == "planned"
    assert platform.ship_log.entries == []
