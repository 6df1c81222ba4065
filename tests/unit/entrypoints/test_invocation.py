"""Calls of tools by many at once: what is shared, with whom, and what never is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.domain.deployment import Deployment
from santiago_platform.domain.environment import Environment, Settings, Tenant
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.entrypoints.invocation import ToolCalls
from santiago_platform.tools import TOOLS

ANN = Principal(name="ann", role=Role.DEVELOPER, tenant="shop")
DAN = Principal(name="dan", role=Role.DEVELOPER, tenant="shop")
BOB = Principal(name="bob", role=Role.DEVELOPER, tenant="bank")
EVE = Principal(name="eve", role=Role.DEVELOPER, tenant="nowhere")
OBSERVER = Principal(name="oscar", role=Role.OBSERVER, tenant="shop")
OWNER = Principal(name="root", role=Role.OWNER)
TILL = {"service": "till", "environment": "production"}


class CountingStore:
    """Counts the looks into the store of a platform, which each evaluation of a read takes at least one of."""

    def __init__(self, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looks = 0
        read = platform.store.read

        async def counted(view: Callable[[Any], Any]) -> Any:
            self.looks += 1
            return await read(view)

        monkeypatch.setattr(platform.store, "read", counted)


@pytest.fixture
def platform() -> FakePlatform:
    tenants = {"shop": Tenant(services=("till",)), "bank": Tenant(services=("vault",))}
    settings = Settings(environments={"production": Environment()}, tenants=tenants)
    return FakePlatform(workspace=FakeWorkspace(("web", "till", "vault"), settings))


@pytest.fixture
def calls(platform: FakePlatform) -> ToolCalls:
    return ToolCalls(platform.ports)


async def answers(calls: ToolCalls, *asked: tuple[Principal, str, dict[str, Any]]) -> list[Any]:
    """Of calls that come together; an error is its code."""
    found = await asyncio.gather(
        *(calls.answer(who, tool, arguments) for who, tool, arguments in asked), return_exceptions=True
    )
    return [one.code if isinstance(one, PlatformError) else one.structured for one in found]  # type: ignore[union-attr]


async def test_calls_of_one_principal_share_one_evaluation_whatever_their_session(
    calls: ToolCalls, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CountingStore(platform, monkeypatch)
    (one,) = await answers(calls, (ANN, "read_architecture", {}))
    alone, store.looks = store.looks, 0
    many = await answers(
        calls,
        *[
            (who, "read_architecture", {})
            for who in (ANN, ANN.model_copy(update={"session": "se-2"}))
            for _ in range(50)
        ],
    )
    assert many == [one] * 100
    assert store.looks == alone
    # A policy may go by a name.
    assert await answers(calls, *[(who, "read_architecture", {}) for who in (ANN, DAN)]) == [one] * 2
    assert store.looks == 3 * alone


async def test_each_is_judged_and_shown_what_is_its_own_whoever_asks_beside_it(calls: ToolCalls) -> None:
    together = [(who, "read_architecture", {}) for who in (ANN, BOB, EVE, OWNER, ANN, EVE)]
    shop, bank, nowhere, owner, shop_again, nowhere_again = await answers(calls, *together)
    assert (shop["undeployed"], bank["undeployed"]) == (["till"], ["vault"])
    assert nowhere == nowhere_again == ErrorCode.NOT_FOUND
    assert owner["undeployed"] == ["till", "vault", "web"]
    assert shop_again == shop


async def test_who_may_not_change_is_refused_beside_one_who_may(calls: ToolCalls) -> None:
    plan = {**TILL, "git_ref": "v1", "dry_run": True}
    planned, refused = await answers(calls, (ANN, "deploy_service", plan), (OBSERVER, "deploy_service", plan))
    assert planned["state"] == "planned"
    assert refused == ErrorCode.PERMISSION_DENIED


async def test_a_plan_names_who_asked_for_it(calls: ToolCalls) -> None:
    plan = {**TILL, "git_ref": "v1", "dry_run": True}
    planned = await answers(calls, (ANN, "deploy_service", plan), (DAN, "deploy_service", plan))
    assert [one["by"] for one in planned] == ["ann", "dan"]


async def test_equal_changes_are_never_one(calls: ToolCalls, platform: FakePlatform) -> None:
    deploy = (ANN, "deploy_service", {**TILL, "git_ref": "v1"})
    first, second = await answers(calls, deploy, deploy)
    assert first["state"] == "running"
    assert second == ErrorCode.CONFLICT
    assert len({entry.operation for entry in platform.ship_log.entries}) == 2


async def test_a_read_shows_every_write_that_was_done_before_it_was_asked(
    calls: ToolCalls, platform: FakePlatform
) -> None:
    written = 0

    async def write() -> None:
        nonlocal written
        for generation in range(1, 200):
            row = Deployment(service="till", environment="production", tenant="shop", generation=generation)
            await platform.store.write(lambda tx, row=row: tx.save_deployment(row))  # type: ignore[misc]
            written = generation
            await asyncio.sleep(0)

    async def read() -> None:
        while written < 199:
            before = written
            seen = (await calls.answer(ANN, "read_architecture", {})).structured["services"]
            assert (seen[0]["generation"] if seen else 0) >= before

    await asyncio.gather(write(), *(read() for _ in range(20)))


async def test_a_fault_that_several_are_told_of_has_one_id_and_is_gone_with_its_cause(
    calls: ToolCalls, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(view: Callable[[Any], Any]) -> Any:
        raise RuntimeError("secret words")

    with monkeypatch.context() as patched:
        patched.setattr(platform.store, "read", broken)
        asked = [calls.answer(ANN, "read_architecture", {}) for _ in range(5)]
        told = await asyncio.gather(*asked, return_exceptions=True)
    (words,) = {str(error) for error in told}
    assert "secret" not in words
    assert sum("internal error" in record.message for record in caplog.records) == 1
    assert (await answers(calls, (ANN, "read_architecture", {})))[0]["undeployed"] == ["till"]


async def test_who_gives_up_leaves_the_others_their_answer(calls: ToolCalls) -> None:
    impatient = asyncio.create_task(calls.answer(ANN, "read_architecture", {}))
    patient = asyncio.create_task(calls.answer(ANN, "read_architecture", {}))
    await asyncio.sleep(0)
    impatient.cancel()
    assert (await patient).structured["undeployed"] == ["till"]
    assert impatient.cancelled()
    outcomes = json.dumps(calls.metrics.text().decode())
    assert 'outcome=\\"cancelled\\",tool=\\"read_architecture\\"} 1.0' in outcomes


READING: list[tuple[str, dict[str, Any]]] = [
    *((tool.name, {}) for tool in TOOLS.values() if tool.read_only),
    *(("manage_operation", {"action": action}) for action in ("status", "history")),
    ("deploy_service", {"dry_run": True}),
]
CHANGING: list[tuple[str, dict[str, Any]]] = [
    *((tool.name, {}) for tool in TOOLS.values() if not tool.read_only),
    *(("manage_operation", {"action": action}) for action in ("wait", "promote", "abort", "rollback")),
]


@pytest.mark.parametrize(("name", "given"), READING)
def test_every_call_that_only_reads_can_be_shared_with_its_equals_alone(name: str, given: dict[str, Any]) -> None:
    tool = TOOLS[name]
    one, other = tool.parse({**tool.example, **given}), tool.parse({**tool.example, **given})
    assert hash((name, one, tool.audience(one, ANN))) == hash((name, other, tool.audience(other, ANN)))
    for stranger in (BOB, OBSERVER, OWNER):
        assert tool.audience(one, ANN) != tool.audience(one, stranger)


@pytest.mark.parametrize(("name", "given"), CHANGING)
def test_no_call_that_changes_or_waits_is_shared(name: str, given: dict[str, Any]) -> None:
    tool = TOOLS[name]
    assert tool.audience(tool.parse({**tool.example, **given}), OWNER) is None
