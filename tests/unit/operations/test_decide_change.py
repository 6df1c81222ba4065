"""Changes that wait for somebody: what a yes is bound to, who may say it, and what ends the waiting."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.adapters.stores.approvals import StoredApprovals
from santiago_platform.domain.change_request import ApprovalRule
from santiago_platform.domain.environment import Environment, Quotas, ServiceSettings, Settings, Tenant
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.gates.approval import ApprovalGate
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.ship_log import EntryKind
from santiago_platform.operations import decide_change
from santiago_platform.operations.change import change, note_lost
from santiago_platform.operations.change_request import OWN_AT_ONCE, end, end_forsaken
from santiago_platform.operations.configure_flag import FlagChange, configure_flag
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service
from santiago_platform.operations.manage_operation import OperationCommand, manage_operation
from santiago_platform.operations.messages import MailboxQuery, read_mailbox
from santiago_platform.operations.operation_view import OperationView
from santiago_platform.operations.release_service import releases_in_use
from santiago_platform.operations.scale_resources import ScaleRequest, scale_resources
from santiago_platform.reconcilers.flag import FlagReconciler
from santiago_platform.reconcilers.rollout import RolloutReconciler
from santiago_platform.testing.rows import incident

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


async def test_a_no_that_comes_after_the_yes_is_told_so_and_logged_as_such(
    platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = await ask(platform)

    async def too_late(*given: Any, **changes: Any) -> bool:
        monkeypatch.undo()
        await word(platform, OWNER, "approve", held.id)
        return await end(*given, **changes)

    monkeypatch.setattr(decide_change, "end", too_late)
    with pytest.raises(PlatformError, match="was approved by"):
        await word(platform, BOB, "reject", held.id)
    outcomes = [e.outcome for e in platform.ship_log.entries if e.action == "manage_operation.reject" and e.of]
    assert outcomes == ["refused"]
    assert len(await platform.store.read(lambda v: v.active_rollouts())) == 1


async def test_nobody_answers_in_time(platform: FakePlatform) -> None:
    held = await ask(platform)
    platform.clock.advance(86401)
    with pytest.raises(PlatformError, match="expired"):
        await word(platform, BOB, "approve", held.id)
    assert await end_forsaken(platform.ports) == 1
    assert await end_forsaken(platform.ports) == 0
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


async def test_the_owner_finds_what_waits_of_another_tenant_in_its_own_mailbox(platform: FakePlatform) -> None:
    platform.workspace.current = production().model_copy(update={"tenants": {"other": Tenant(services=("web",))}})
    held = await ask(platform, who=ANN.model_copy(update={"tenant": "other"}))
    assert held.state == "awaiting"
    [mail] = (await read_mailbox(platform.ports, OWNER, MailboxQuery())).mails
    assert (mail.operation, "waits for an approval" in mail.text) == (held.id, True)


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


def gated(*roles: Role, **fields: Any) -> Settings:
    gates = tuple(ApprovalGate(type="approval", role=role, name=f"yes-of-{role}") for role in roles)  # type: ignore[arg-type]
    return Settings(environments={"staging": Environment(), "production": Environment(gates=gates, **fields)})


PAM = Principal(name="pam", role=Role.PM)
QUINN = Principal(name="quinn", role=Role.QA)


async def test_each_gate_takes_a_yes_of_its_own(platform: FakePlatform) -> None:
    platform.workspace.current = gated(Role.PM, Role.QA)
    held = await ask(platform)
    half = await word(platform, QUINN, "approve", held.id)
    assert (half.state, half.reason) == ("awaiting", "waits for approval by role pm (gate yes-of-pm)")
    assert (await word(platform, PAM, "approve", held.id)).state == "running"


async def test_a_gate_does_not_lift_what_the_environment_asks_for(platform: FakePlatform) -> None:
    platform.workspace.current = gated(Role.QA, approvals=ApprovalRule(required=True, by=(Role.OWNER,)))
    held = await ask(platform)
    assert (await word(platform, QUINN, "approve", held.id)).state == "awaiting"
    assert (await word(platform, OWNER, "approve", held.id)).state == "running"


async def test_what_is_asked_for_since_it_was_planned_is_waited_for_too(platform: FakePlatform) -> None:
    held = await ask(platform)
    platform.workspace.current = gated(Role.PM, approvals=ApprovalRule(required=True))
    later = await word(platform, BOB, "approve", held.id)
    assert (later.state, later.reason) == ("awaiting", "waits for approval by role pm (gate yes-of-pm)")
    assert (await word(platform, PAM, "approve", held.id)).state == "running"


async def test_broken_glass_is_for_its_own_change_alone(platform: FakePlatform) -> None:
    platform.workspace.current = gated(Role.PM)
    held = await ask(platform, who=BOB)
    started = await word(platform, BOB, "approve", held.id, break_glass=True, reason="checkout is down")
    assert started.state == "running"
    assert await StoredApprovals(platform.store).of(started.release, "production", "pm") is None


async def test_the_plan_says_which_incident_it_is_said_to_fix_and_its_hash_covers_that(platform: FakePlatform) -> None:
    made = incident(id="in-1", opened_at=platform.clock.now())
    await platform.store.write(lambda tx: tx.save_incident(made))
    plain, fix = await ask(platform), await ask(platform, fixes="in-1")
    assert hash_of(plain) != hash_of(fix)
    assert fix.plan is not None
    assert any("the fix of in-1" in line for line in fix.plan.changes)


async def test_an_operation_is_approved_by_its_id(platform: FakePlatform) -> None:
    await ask(platform)
    command = OperationCommand(action="approve", service="web", environment="production")
    with pytest.raises(PlatformError, match="by its id"):
        await manage_operation(platform.ports, BOB, command)


async def test_the_same_change_waits_once_and_nobody_fills_the_house_with_requests(platform: FakePlatform) -> None:
    held = await ask(platform)
    with pytest.raises(PlatformError, match=f"waits already, as operation {held.id}") as refused:
        await ask(platform)
    assert refused.value.code is ErrorCode.CONFLICT
    for number in range(OWN_AT_ONCE - 1):
        await ask(platform, f"v-{number}")
    with pytest.raises(PlatformError) as refused:
        await ask(platform, "one-too-many")
    assert refused.value.code is ErrorCode.RESOURCE_EXHAUSTED


async def test_what_waits_does_not_run(platform: FakePlatform) -> None:
    quotas = Tenant(services=("web",), quotas=Quotas(operations=1))
    platform.workspace.current = production().model_copy(update={"tenants": {"bank": quotas}})
    ann, bob = (who.model_copy(update={"tenant": "bank"}) for who in (ANN, BOB))
    held = await ask(platform, who=ann)
    await ask(platform, "v2", who=ann)
    assert await platform.store.read(lambda v: v.operations(running=True)) == []
    assert (await word(platform, bob, "approve", held.id)).state == "running"


async def test_a_release_that_waits_is_not_pruned(platform: FakePlatform) -> None:
    held = await ask(platform)
    assert held.plan is not None
    (request,) = await platform.store.read(lambda v: v.change_requests(open=True))
    assert await platform.store.read(releases_in_use) == {request.release}


async def test_a_change_that_was_rejected_is_not_lost_at_the_next_start(platform: FakePlatform) -> None:
    held = await ask(platform)
    await word(platform, BOB, "reject", held.id)
    assert await note_lost(platform.ports, OWNER) == []


async def test_a_call_that_is_broken_off_completes_its_entry(platform: FakePlatform) -> None:
    async def never() -> None:
        async with change(platform.ports, ANN, "deploy_service", "web/production", {}):
            await asyncio.Event().wait()

    call = asyncio.create_task(never())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert platform.ship_log.entries[-1].outcome == "cancelled"
    assert await platform.ship_log.unfinished() == []


async def test_an_environment_that_there_is_not_is_named_as_such(platform: FakePlatform) -> None:
    with pytest.raises(PlatformError) as refused:
        await scale_resources(platform.ports, ANN, ScaleRequest(service="web", environment="nope", replicas=2))
    assert refused.value.code is ErrorCode.NOT_FOUND
