"""Changes that wait for somebody: what a yes is bound to, who may say it, and what ends the waiting."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.adapters.stores.approvals import StoredApprovals
from santiago_platform.domain.change_request import ApprovalRule
from santiago_platform.domain.environment import Environment, ServiceSettings, Settings
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.gates.approval import ApprovalGate
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.ship_log import EntryKind
from santiago_platform.operations.change_request import end_expired
from santiago_platform.operations.configure_flag import FlagChange, configure_flag
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service
from santiago_platform.operations.manage_operation import OperationCommand, manage_operation
from santiago_platform.operations.operation_view import OperationView
from santiago_platform.operations.scale_resources import ScaleRequest, scale_resources
from santiago_platform.reconcilers.flag import FlagReconciler
from santiago_platform.reconcilers.rollout import RolloutReconciler

ANN = Principal(name="ann", role=Role.DEVELOPER)
BOB = Principal(name="bob", role=Role.PLATFORM)
EVE = Principal(name="eve", role=Role.OBSERVER)
OWNER = Principal(name="owner", role=Role.OWNER)
FOREIGN = Principal(name="bob", role=Role.PLATFORM, tenant="other")


def production(**fields: Any) -> Settings:
    return Settings(
        environments={
            "staging": Environment(),
            "production": Environment(approvals=ApprovalRule(required=True), **fields),
        }
    )


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform(workspace=FakeWorkspace(settings=production()))


async def settle(platform: FakePlatform) -> None:
    loop = RolloutReconciler(platform.ports)
    for _ in range(400):
        await loop.pass_over_all()
        await platform.clock.sleep(0.2)
        if not await platform.store.read(lambda v: v.active_rollouts()):
            return
    raise AssertionError("it hangs")


async def ask(platform: FakePlatform, ref: str = "v1", who: Principal = ANN, **fields: Any) -> OperationView:
    request = DeployRequest(service="web", environment="production", git_ref=ref, **fields)
    return await deploy_service(platform.ports, who, request)


async def word(platform: FakePlatform, who: Principal, action: str, operation: str, **fields: Any) -> OperationView:
    command = OperationCommand(action=action, operation=operation, **fields)  # type: ignore[arg-type]
    return (await manage_operation(platform.ports, who, command)).operations[0]


async def live(platform: FakePlatform) -> str | None:
    deployment = await platform.store.read(lambda v: v.deployment("web", "production"))
    return deployment.live.name if deployment and deployment.live else None


async def deploy(platform: FakePlatform, ref: str = "v1") -> OperationView:
    held = await ask(platform, ref)
    await word(platform, BOB, "approve", held.id)
    await settle(platform)
    return await word(platform, ANN, "status", held.id)


def hash_of(held: OperationView) -> str:
    assert held.plan is not None
    return held.plan.hash


async def test_a_change_waits_with_its_plan_and_nothing_begins(platform: FakePlatform) -> None:
    held = await ask(platform)
    assert (held.state, held.phase) == ("awaiting", "approval")
    assert "approval by role owner or platform" in held.reason
    assert held.plan is not None
    assert "web/production: the first version -> version" in held.plan.changes[0]
    assert await platform.store.read(lambda v: v.active_rollouts()) == []
    assert [e.action for e in await platform.ship_log.unfinished()] == ["deploy_service"]


async def test_an_approval_starts_exactly_what_was_planned(platform: FakePlatform) -> None:
    held = await ask(platform)
    started = await word(platform, BOB, "approve", held.id, plan=hash_of(held), reason="looks right")
    assert (started.id, started.state) == (held.id, "running")
    await settle(platform)
    ended = await word(platform, ANN, "status", held.id)
    assert ended.state == "succeeded"
    assert ended.by == "ann"
    assert await platform.ship_log.unfinished() == []


@pytest.mark.parametrize(
    ("who", "code"),
    [
        (ANN, ErrorCode.PERMISSION_DENIED),
        (Principal(name="ann", role=Role.PLATFORM), ErrorCode.PERMISSION_DENIED),
        (Principal(name="pam", role=Role.PM), ErrorCode.PERMISSION_DENIED),
        (EVE, ErrorCode.PERMISSION_DENIED),
        (FOREIGN, ErrorCode.NOT_FOUND),
    ],
    ids=["the requester", "the requester in another role", "a role that may not", "an observer", "another tenant"],
)
async def test_nobody_else_can_approve_it(platform: FakePlatform, who: Principal, code: ErrorCode) -> None:
    held = await ask(platform)
    with pytest.raises(PlatformError) as refused:
        await word(platform, who, "approve", held.id)
    assert refused.value.code is code
    assert (await word(platform, ANN, "status", held.id)).state == "awaiting"


async def test_a_yes_to_another_plan_counts_for_nothing(platform: FakePlatform) -> None:
    held, other = await ask(platform), await ask(platform, "v2")
    with pytest.raises(PlatformError) as refused:
        await word(platform, BOB, "approve", held.id, plan=hash_of(other))
    assert refused.value.code is ErrorCode.CONFLICT


async def test_what_has_become_live_meanwhile_makes_it_void(platform: FakePlatform) -> None:
    await deploy(platform, "v1")
    first, second = await ask(platform, "v2"), await ask(platform, "v3")
    await word(platform, BOB, "approve", second.id)
    await settle(platform)
    now = await live(platform)
    with pytest.raises(PlatformError, match="has changed") as refused:
        await word(platform, BOB, "approve", first.id)
    assert refused.value.code is ErrorCode.FAILED_PRECONDITION
    assert (await word(platform, ANN, "status", first.id)).state == "void"
    assert await live(platform) == now
    assert await platform.ship_log.unfinished() == []


async def test_settings_that_change_the_plan_make_it_void(platform: FakePlatform) -> None:
    held = await ask(platform)
    platform.workspace.current = production(defaults=ServiceSettings(replicas=5))
    with pytest.raises(PlatformError):
        await word(platform, BOB, "approve", held.id)
    assert (await word(platform, ANN, "status", held.id)).state == "void"


async def test_the_number_of_replicas_may_move_without_making_it_void(platform: FakePlatform) -> None:
    await deploy(platform, "v1")
    held = await ask(platform, "v2", replicas=2)
    deployment = await platform.store.read(lambda v: v.deployment("web", "production"))
    assert deployment is not None
    assert deployment.live is not None
    scaled = deployment.model_copy(update={"live": deployment.live.model_copy(update={"replicas": 3})})
    await platform.store.write(lambda tx: tx.save_deployment(scaled))
    assert (await word(platform, BOB, "approve", held.id)).state == "running"


async def test_of_two_who_approve_at_once_one_starts_it(platform: FakePlatform) -> None:
    held = await ask(platform)
    both = await asyncio.gather(
        *(word(platform, who, "approve", held.id) for who in (BOB, OWNER)), return_exceptions=True
    )
    assert sorted(type(answer).__name__ for answer in both) == ["OperationView", "PlatformError"]
    assert len(await platform.store.read(lambda v: v.active_rollouts())) == 1


async def test_nobody_answers_in_time(platform: FakePlatform) -> None:
    held = await ask(platform)
    platform.clock.advance(86401)
    with pytest.raises(PlatformError, match="expired"):
        await word(platform, BOB, "approve", held.id)
    assert await end_expired(platform.ports) == 1
    assert await end_expired(platform.ports) == 0
    ended = await word(platform, ANN, "status", held.id)
    assert (ended.state, "nobody answered" in ended.reason) == ("void", True)
    assert await platform.ship_log.unfinished() == []


@pytest.mark.parametrize(("who", "said"), [(BOB, "rejected by bob"), (ANN, "withdrawn by ann")])
async def test_a_no_ends_it(platform: FakePlatform, who: Principal, said: str) -> None:
    held = await ask(platform)
    ended = await word(platform, who, "reject", held.id, reason="not today")
    assert (ended.state, ended.reason) == ("rejected", f"{said}: not today")
    with pytest.raises(PlatformError, match="rejected"):
        await word(platform, BOB, "approve", held.id)
    assert await platform.ship_log.unfinished() == []


async def test_glass_is_broken_with_a_reason_and_everybody_is_told(platform: FakePlatform) -> None:
    held = await ask(platform, who=BOB)
    with pytest.raises(PlatformError, match="reason"):
        await word(platform, BOB, "approve", held.id, break_glass=True)
    started = await word(platform, BOB, "approve", held.id, break_glass=True, reason="checkout is down")
    assert started.state == "running"
    told = [e for e in platform.ship_log.entries if e.kind is EntryKind.NOTED and e.action == "approval.break_glass"]
    assert [(e.principal, e.body["reason"]) for e in told] == [("bob", "checkout is down")]
    for role in Role:
        mails = await platform.store.read(lambda v, role=role: v.mail("default", role, unread=True, limit=10))  # type: ignore[misc]
        assert any("bob has broken glass for the deployment of web" in mail.text for mail in mails), role


async def test_whoever_may_approve_finds_it_in_the_mailbox(platform: FakePlatform) -> None:
    held = await ask(platform)
    for role in (Role.OWNER, Role.PLATFORM, Role.QA):
        mails = await platform.store.read(lambda v, role=role: v.mail("default", role, unread=True, limit=10))  # type: ignore[misc]
        asked = [mail for mail in mails if mail.operation == held.id and "waits for an approval" in mail.text]
        assert len(asked) == (role is not Role.QA)


async def test_a_role_that_may_not_breaks_no_glass(platform: FakePlatform) -> None:
    held = await ask(platform)
    with pytest.raises(PlatformError) as refused:
        await word(platform, ANN, "approve", held.id, break_glass=True, reason="checkout is down")
    assert refused.value.code is ErrorCode.PERMISSION_DENIED


async def test_a_gate_that_wants_an_approval_holds_the_deploy_and_passes_with_it(platform: FakePlatform) -> None:
    platform.workspace.current = Settings(
        environments={"production": Environment(gates=(ApprovalGate(type="approval", role=Role.PM),))}
    )
    held = await ask(platform)
    assert (held.state, "role pm" in held.reason) == ("awaiting", True)
    with pytest.raises(PlatformError):
        await word(platform, BOB, "approve", held.id)
    pam = Principal(name="pam", role=Role.PM)
    started = await word(platform, pam, "approve", held.id)
    assert started.state == "running"
    assert any("approved by pam" in gate for gate in started.gates)
    approval = await StoredApprovals(platform.store).of(held.release or started.release, "production", "pm")
    assert approval is not None
    assert approval.by == "pam"


async def test_a_change_of_replicas_waits_too(platform: FakePlatform) -> None:
    await deploy(platform)
    request = ScaleRequest(service="web", environment="production", replicas=3)
    held = await scale_resources(platform.ports, ANN, request)
    assert held.plan is not None
    assert (held.state, "1 -> 3 replicas" in held.plan.changes) == ("awaiting", True)
    await word(platform, BOB, "approve", held.id)
    await settle(platform)
    assert (await word(platform, ANN, "status", held.id)).state == "succeeded"
    deployment = await platform.store.read(lambda v: v.deployment("web", "production"))
    assert deployment is not None
    assert deployment.live is not None
    assert deployment.live.replicas == 3


async def test_a_flag_waits_where_any_environment_asks_for_it(platform: FakePlatform) -> None:
    change = FlagChange(action="set", flag="new-checkout", definition={"defaultVariant": "on"})
    held = await configure_flag(platform.ports, ANN, change)
    assert held.state == "awaiting"
    assert (await platform.flags.read()).entry("new-checkout").flag is None
    await word(platform, BOB, "approve", held.id)
    await FlagReconciler(platform.ports).pass_over()
    assert (await platform.flags.read()).entry("new-checkout").flag is not None


async def test_an_edited_flag_makes_the_change_void(platform: FakePlatform) -> None:
    platform.workspace.current = Settings()
    await _set_flag(platform, "on")
    platform.workspace.current = production()
    held = await configure_flag(platform.ports, ANN, FlagChange(action="set", flag="new-checkout", percent=5))
    platform.workspace.current = Settings()
    await _set_flag(platform, "off")
    platform.workspace.current = production()
    with pytest.raises(PlatformError):
        await word(platform, BOB, "approve", held.id)
    assert (await word(platform, ANN, "status", held.id)).state == "void"


async def test_what_stops_the_harm_of_a_flag_waits_for_nobody(platform: FakePlatform) -> None:
    platform.workspace.current = Settings()
    await _set_flag(platform, "on")
    platform.workspace.current = production()
    await _change_flag(platform, FlagChange(action="kill", flag="new-checkout"))
    entry = (await platform.flags.read()).entry("new-checkout")
    assert entry.flag is not None
    assert entry.flag.state == "DISABLED"


async def _set_flag(platform: FakePlatform, variant: str) -> None:
    await _change_flag(platform, FlagChange(action="set", flag="new-checkout", definition={"defaultVariant": variant}))


async def _change_flag(platform: FakePlatform, change: FlagChange) -> None:
    asked = asyncio.create_task(configure_flag(platform.ports, ANN, change))
    await asyncio.sleep(0)
    for _ in range(20):
        await FlagReconciler(platform.ports).pass_over()
        await asyncio.sleep(0)
    platform.clock.advance(30)
    await asked


async def test_a_dry_run_shows_the_plan_and_asks_nobody(platform: FakePlatform) -> None:
    release = await platform.artifacts.build("web", await platform.artifacts.resolve("v1"))
    request = DeployRequest(service="web", environment="production", release=release.digest, dry_run=True)
    planned = await deploy_service(platform.ports, ANN, request)
    assert planned.state == "planned"
    assert planned.way_back == "none: nothing was live before"
    assert await platform.store.read(lambda v: v.change_requests()) == []
