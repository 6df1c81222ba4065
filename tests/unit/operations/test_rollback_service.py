"""Rollbacks over the in-memory platform: to any version that was live, as it was then, and out of what runs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.domain.canary import Canary, Step
from santiago_platform.domain.change_request import ApprovalRule
from santiago_platform.domain.deployment import Deployment
from santiago_platform.domain.environment import Environment, ReleaseRetention, ServiceSettings, Settings
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.gates.freeze import FreezeGate
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.phase import Phase
from santiago_platform.domain.strategy import Strategy
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service
from santiago_platform.operations.manage_operation import OperationCommand, manage_operation
from santiago_platform.operations.operation_view import OperationView
from santiago_platform.operations.read_versions import VersionsQuery, read_versions
from santiago_platform.operations.release_service import prune_releases
from santiago_platform.operations.scale_resources import ScaleRequest, scale_resources
from santiago_platform.ports.compute import InstanceState
from santiago_platform.ports.store import Transaction
from santiago_platform.reconcilers.rollout import RolloutReconciler

ANN = Principal(name="ann", role=Role.DEVELOPER)
WHERE: dict[str, Any] = {"service": "web", "environment": "production"}
FROZEN = FreezeGate.model_validate(
    {"type": "freeze", "start": "2000-01-01T00:00:00", "duration": "P1D", "rule": "FREQ=DAILY"}
)
HELD_BY_A_PERSON = Canary(steps=(Step(weight=10, approval=True),), bucket_seconds=1)


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform(workspace=FakeWorkspace())


def configure(platform: FakePlatform, *, gates: tuple[Any, ...] = (), **settings: Any) -> None:
    production = Environment(defaults=ServiceSettings(**settings), gates=gates)
    releases = platform.workspace.current.releases
    platform.workspace.current = Settings(environments={"production": production}, releases=releases)


async def settle(
    platform: FakePlatform,
    *,
    until: Phase | None = None,
    failing: dict[str, float] | None = None,
    restarting: bool = False,
) -> None:
    """until: the phase in which it is left alone. failing: the share of its answers that are errors, by version.
    restarting: each pass is that of a new loop."""
    loop = RolloutReconciler(platform.ports)
    for _ in range(400):
        loop = RolloutReconciler(platform.ports) if restarting else loop
        await loop.pass_over_all()
        platform.clock.advance(0.2)
        platform.traffic.serve(400, failing=failing)
        await platform.clock.sleep(0)
        active = await platform.store.read(lambda v: v.active_rollouts())
        unlogged = await platform.store.read(lambda v: v.operations(unlogged=True))
        if (not active and not unlogged) or (until and active and active[0].phase is until):
            return
    raise AssertionError("it hangs")


async def status(platform: FakePlatform, operation: str) -> OperationView:
    command = OperationCommand(action="status", operation=operation)
    return (await manage_operation(platform.ports, ANN, command)).operations[0]


async def begin(platform: FakePlatform, ref: str, **request: Any) -> OperationView:
    asked = {"service": "web", "environment": "production", **({} if "release" in request else {"git_ref": ref})}
    return await deploy_service(platform.ports, ANN, DeployRequest(**asked, **request))


async def deploy(platform: FakePlatform, ref: str, **request: Any) -> OperationView:
    started = await begin(platform, ref, **request)
    await settle(platform)
    ended = await status(platform, started.id)
    assert ended.state == "succeeded", ended
    return ended


async def scale(platform: FakePlatform, replicas: int) -> OperationView:
    asked = ScaleRequest(service="web", environment="production", replicas=replicas)
    started = await scale_resources(platform.ports, ANN, asked)
    await settle(platform)
    return await status(platform, started.id)


async def ask(platform: FakePlatform, **command: Any) -> OperationView:
    known = {"action": "rollback", "service": "web", "environment": "production"}
    asked = OperationCommand.model_validate(
        {**({} if "operation" in command else known), "action": "rollback", **command}
    )
    return (await manage_operation(platform.ports, ANN, asked)).operations[0]


async def tell(platform: FakePlatform, action: Any, **command: Any) -> OperationView:
    return (await manage_operation(platform.ports, ANN, OperationCommand(action=action, **command))).operations[0]


async def back(platform: FakePlatform, **command: Any) -> OperationView:
    told = await ask(platform, **command)
    await settle(platform)
    return await status(platform, told.id)


async def refused(platform: FakePlatform, **command: Any) -> PlatformError:
    with pytest.raises(PlatformError) as raised:
        await ask(platform, **command)
    assert raised.value.code is ErrorCode.FAILED_PRECONDITION
    return raised.value


async def deployment(platform: FakePlatform) -> Deployment:
    found = await platform.store.read(lambda v: v.deployment("web", "production"))
    assert found is not None
    return found


async def running(platform: FakePlatform) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in await platform.compute.list():
        counts[one.instance.template.version] = counts.get(one.instance.template.version, 0) + 1
    return counts


@pytest.mark.parametrize("by", ["version", "release", "beginning of its release"])
async def test_any_version_that_was_live_can_be_gone_back_to(platform: FakePlatform, by: str) -> None:
    first = await deploy(platform, "v1")
    for ref in ("v2", "v3", "v4"):
        await deploy(platform, ref)
    names = {"version": first.version, "release": first.release, "beginning of its release": first.release[7:19]}
    ended = await back(platform, to=names[by])
    assert (ended.state, ended.kind, ended.version) == ("succeeded", "rollback_service", first.version)
    assert platform.traffic.routes["web", "production"].weights == {first.version: 1}


async def test_it_goes_by_the_configuration_of_then_and_not_of_today(platform: FakePlatform) -> None:
    configure(platform, variables={"GREETING": "then"})
    first = await deploy(platform, "v1")
    configure(platform, variables={"GREETING": "today"})
    await deploy(platform, "v2")
    await deploy(platform, "v3")
    ended = await back(platform, to=first.release)
    live = (await deployment(platform)).live
    assert live is not None
    assert (ended.version, dict(live.template.variables)) == (first.version, {"GREETING": "then"})


async def test_a_change_of_configuration_is_a_release_that_goes_out_and_comes_back(platform: FakePlatform) -> None:
    configure(platform, variables={"GREETING": "good day"})
    first = await deploy(platform, "v1")
    configure(platform, variables={"GREETING": "good night"})
    second = await deploy(platform, "", release=first.release)
    assert second.release == first.release
    assert second.version != first.version
    assert second.previous_version == first.version
    assert (await back(platform)).version == first.version
    assert (await back(platform, to=first.release)).version == second.version, "the live one is not meant"


async def test_two_configurations_of_one_release_are_judged_as_a_canary(platform: FakePlatform) -> None:
    steps = Canary(steps=(Step(weight=10, analysis=True),), bucket_seconds=1)
    configure(platform, variables={"GREETING": "good day"}, strategy=Strategy.CANARY, canary=steps)
    first = await deploy(platform, "v1")
    configure(platform, variables={"GREETING": "good night"}, strategy=Strategy.CANARY, canary=steps)
    started = await begin(platform, "", release=first.release)
    await settle(platform, until=Phase.ANALYSING)
    weights = platform.traffic.routes["web", "production"].weights
    assert weights == {first.version: 90, started.version: 10}
    await settle(platform, failing={started.version: 0.5})
    ended = await status(platform, started.id)
    assert ended.state == "rolled_back"
    assert "canary" in ended.reason
    live = (await deployment(platform)).live
    assert live is not None
    assert dict(live.template.variables) == {"GREETING": "good day"}


async def test_a_version_that_held_goes_by_blue_green_and_not_its_release_with_other_variables(
    platform: FakePlatform,
) -> None:
    quick = {"strategy": Strategy.CANARY, "canary": Canary(steps=(Step(weight=10, pause_seconds=1),))}
    configure(platform, **quick, variables={"GREETING": "good day"})
    first = await deploy(platform, "v1")
    await deploy(platform, "v2")
    configure(platform, **quick, variables={"GREETING": "good night"}, gates=(FROZEN,))
    planned = await begin(platform, "", release=first.release, dry_run=True)
    assert [line.split(":")[0] for line in planned.gates] == ["fail freeze"]
    with pytest.raises(PlatformError, match="1 gate does not pass: fail freeze"):
        await begin(platform, "", release=first.release)
    configure(platform, **quick, variables={"GREETING": "good day"}, gates=(FROZEN,))
    fast = await begin(platform, "", release=first.release)
    assert [line.split(":")[0] for line in fast.gates] == ["pass fast_track"]
    rollout = await platform.store.read(lambda v: v.rollout_of(fast.id))
    assert rollout is not None
    assert rollout.strategy is Strategy.BLUE_GREEN


async def test_what_is_unknown_or_live_or_pruned_is_refused_with_what_there_is(platform: FakePlatform) -> None:
    first, second, third = [await deploy(platform, ref) for ref in ("v1", "v2", "v3")]
    unknown = await refused(platform, to="0123456789ab")
    assert "cannot go back to 0123456789ab" in unknown.message
    assert unknown.hint.startswith(f"there is: {second.version} (release {second.release[7:19]}, live until 2026-")
    assert f"{first.version} (release {first.release[7:19]}" in unknown.hint
    assert f"{third.version} is what is live" in (await refused(platform, to=third.version)).message
    platform.clock.advance(timedelta(days=40).total_seconds())
    retention = ReleaseRetention(keep=1, keep_days=0)
    platform.workspace.current = platform.workspace.current.model_copy(update={"releases": retention})
    assert [r.digest for r in await prune_releases(platform.ports)] == [first.release]
    pruned = await refused(platform, to=first.version)
    assert "its release is not kept any more" in pruned.message
    assert first.version not in pruned.hint
    assert (await back(platform, to=second.version)).state == "succeeded"


async def test_the_versions_that_can_be_gone_back_to_are_listed_with_their_times(platform: FakePlatform) -> None:
    query = VersionsQuery(service="web", environment="production")
    with pytest.raises(PlatformError, match="was never deployed to production"):
        await read_versions(platform.ports, ANN, query)
    first, second, third = [await deploy(platform, ref) for ref in ("v1", "v2", "v3")]
    await back(platform)
    found = (await read_versions(platform.ports, ANN, query)).versions
    assert [(v.version, v.standing, v.taken_back) for v in found] == [
        (second.version, "live", False),
        (third.version, "warm", True),
        (first.version, "kept", False),
    ]
    assert [v.until is None for v in found] == [True, False, False]
    assert found[2].release == first.release


async def test_the_first_version_has_nothing_to_go_back_to(platform: FakePlatform) -> None:
    await deploy(platform, "v1")
    assert "no version to go back to" in (await refused(platform)).message
    assert "there is no version to go back to" in (await refused(platform, to="0123456789ab")).hint


async def test_what_is_started_first_gets_as_many_instances_as_are_live(platform: FakePlatform) -> None:
    first = await deploy(platform, "v1", replicas=2)
    await deploy(platform, "v2", replicas=2)
    await deploy(platform, "v3", replicas=4)
    await back(platform, to=first.version)
    assert (await running(platform))[first.version] == 4


async def test_a_warm_version_takes_over_with_what_it_has(platform: FakePlatform) -> None:
    first = await deploy(platform, "v1", replicas=2)
    await deploy(platform, "v2", replicas=4)
    before = await running(platform)
    await back(platform)
    assert await running(platform) == before
    assert before[first.version] == 2


async def canary_under_way(platform: FakePlatform) -> tuple[OperationView, OperationView, OperationView]:
    """v1, then v2 live, and v3 as a canary that waits for a person, with every gate closed."""
    first, second = await deploy(platform, "v1"), await deploy(platform, "v2")
    configure(platform, strategy=Strategy.CANARY, canary=HELD_BY_A_PERSON)
    canary = await begin(platform, "v3")
    await settle(platform, until=Phase.ANALYSING)
    configure(platform, strategy=Strategy.CANARY, canary=HELD_BY_A_PERSON, gates=(FROZEN,))
    return first, second, canary


@pytest.mark.parametrize("by_name", [False, True])
async def test_a_rollback_out_of_a_canary_takes_it_back(platform: FakePlatform, by_name: bool) -> None:
    _, second, canary = await canary_under_way(platform)
    told = await ask(platform, **({"to": second.version} if by_name else {}))
    assert told.id == canary.id
    await settle(platform)
    assert (await status(platform, canary.id)).state == "rolled_back"
    assert platform.traffic.routes["web", "production"].weights == {second.version: 1}
    assert (await ask(platform)).kind == "rollback_service", "the next one goes to the version before"


async def test_a_rollback_out_of_a_canary_to_an_older_version_goes_on_to_it(platform: FakePlatform) -> None:
    first, second, canary = await canary_under_way(platform)
    told = await ask(platform, to=first.version, reason="since then it burns")
    assert (told.state, told.phase) == ("running", "pending")
    assert told.reason == f"waits until operation {canary.id} is taken back"
    again = await ask(platform, to=first.release)
    assert again.id == told.id, "two who ask for the same thing get the same operation"
    await settle(platform, restarting=True)
    assert (await status(platform, canary.id)).state == "rolled_back"
    ended = await status(platform, told.id)
    assert (ended.state, ended.version, ended.previous_version) == ("succeeded", first.version, second.version)
    assert ended.reason == "since then it burns"
    assert await platform.ship_log.unfinished() == []
    assert platform.webhook.asked == []


async def test_an_operation_is_taken_back_while_another_rolls_out_over_it(platform: FakePlatform) -> None:
    first, second, canary = await canary_under_way(platform)
    ended = await back(platform, operation=second.id)
    assert (ended.state, ended.version) == ("succeeded", first.version)
    assert (await status(platform, canary.id)).state == "rolled_back"


async def test_a_rollback_to_yet_another_version_turns_round_the_one_under_way(platform: FakePlatform) -> None:
    versions = [await deploy(platform, ref) for ref in ("v1", "v2", "v3")]
    under_way = await ask(platform, to=versions[1].version)
    assert (await ask(platform, to=versions[1].version)).id == under_way.id
    ended = await back(platform, to=versions[0].version)
    assert (ended.state, ended.version) == ("succeeded", versions[0].version)
    assert (await status(platform, under_way.id)).state == "rolled_back"


async def test_a_rollback_of_what_is_going_back_already_is_that_one(platform: FakePlatform) -> None:
    _, second, canary = await canary_under_way(platform)
    platform.traffic.acknowledging = False
    await ask(platform)
    await settle(platform, until=Phase.REVERTING)
    assert (await ask(platform, to=second.version)).id == canary.id
    platform.traffic.acknowledging = True
    await settle(platform)
    assert (await status(platform, canary.id)).state == "rolled_back"


async def test_a_change_of_the_number_alone_is_taken_back_by_its_operation(platform: FakePlatform) -> None:
    await deploy(platform, "v1", replicas=2)
    second = await deploy(platform, "v2", replicas=2)
    scaled = await scale(platform, 5)
    ended = await back(platform, operation=scaled.id)
    assert (ended.state, ended.version) == ("succeeded", second.version)
    assert (await running(platform))[second.version] == 2
    assert "2 replicas are live, not the 5" in (await refused(platform, operation=scaled.id)).message
    more = await deploy(platform, "v2", replicas=3)
    await back(platform, operation=more.id)
    assert (await running(platform))[second.version] == 2


async def test_scaling_does_not_change_how_a_version_is_replaced(platform: FakePlatform) -> None:
    await deploy(platform, "v1")
    await deploy(platform, "v2", strategy=Strategy.RECREATE)
    await scale(platform, 3)
    assert (await deployment(platform)).strategy is Strategy.RECREATE


async def test_the_plan_and_the_operation_say_the_way_back(platform: FakePlatform) -> None:
    planned = await begin(platform, "v1", dry_run=True)
    assert planned.way_back == "none: nothing was live before"
    first = await deploy(platform, "v1", replicas=2)
    assert first.way_back == "none: nothing was live before"
    planned = await begin(platform, "v2", dry_run=True)
    assert planned.way_back == (
        f"to version {first.version}, which runs until the end and is kept warm for 600 s; "
        "it is rehearsed, and proven, before any traffic moves"
    )
    second = await deploy(platform, "v2")
    warm_until = (await deployment(platform)).warm_until
    assert second.way_back.startswith(
        f"to version {first.version}, kept warm until {warm_until:%Y-%m-%d %H:%M:%S}Z, and"
    )
    assert "rehearsed at 2026-" in second.way_back
    assert second.way_back.endswith("when 2 of 2 of its instances were healthy")
    assert (await back(platform)).way_back.endswith("not rehearsed: it is a way back itself")
    assert (await status(platform, second.id)).way_back == "", "it is not what is live any more"


async def test_to_is_for_a_rollback_alone(platform: FakePlatform) -> None:
    abort = OperationCommand(action="abort", service="web", environment="production", to="0123456789ab")
    with pytest.raises(PlatformError, match="abort takes no `to`"):
        await manage_operation(platform.ports, ANN, abort)


@pytest.mark.parametrize("hold", [True, False])
async def test_out_of_a_rollout_that_has_moved_nothing_the_ill_live_version_is_not_waited_for(
    platform: FakePlatform, hold: bool
) -> None:
    first, second = await deploy(platform, "v1"), await deploy(platform, "v2")
    third = await platform.artifacts.build("web", await platform.artifacts.resolve("v3"))
    if not hold:
        platform.compute.broken[third.digest] = (InstanceState.STARTING, "it takes its time")
    await begin(platform, "v3", hold=hold)
    await settle(platform, until=Phase.HOLDING if hold else Phase.STARTING)
    platform.compute.broken[second.release] = (InstanceState.UNREADY, "GET /healthz answered 503")
    asked_at = platform.clock.monotonic()
    ended = await back(platform, to=first.version)
    assert (ended.state, ended.version) == ("succeeded", first.version)
    assert platform.clock.monotonic() - asked_at < 3


async def test_a_rollout_of_a_worker_that_has_replaced_nothing_is_taken_back_though_the_live_one_is_ill(
    platform: FakePlatform,
) -> None:
    platform.workspace.ports = ()
    live = await deploy(platform, "v1")
    held = await begin(platform, "v2", hold=True)
    await settle(platform, until=Phase.HOLDING)
    platform.compute.broken[live.release] = (InstanceState.UNREADY, "it is stuck")
    asked_at = platform.clock.monotonic()
    await back(platform)
    assert (await status(platform, held.id)).state == "rolled_back"
    assert platform.clock.monotonic() - asked_at < 3


@pytest.mark.parametrize("seconds", [3600, -3600])
async def test_what_begins_after_a_jump_of_the_clock_and_before_the_next_pass_has_the_time_that_is_due_to_it(
    platform: FakePlatform, seconds: float
) -> None:
    loop = RolloutReconciler(platform.ports)
    first = await deploy(platform, "v1")
    await deploy(platform, "v2")
    await loop.pass_over_all()
    platform.clock.advance(1200)  # the first one is cold
    await loop.pass_over_all()
    platform.clock.jump(seconds)
    told = await ask(platform)
    began = await platform.store.read(lambda v: v.rollout_of(told.id))
    assert began is not None
    platform.compute.broken[first.release] = (InstanceState.STARTING, "it takes its time")
    for passed in range(3):
        await loop.pass_over_all()
        after = await platform.store.read(lambda v: v.rollout_of(told.id))
        assert after is not None
        assert (after.phase, after.deadline) == (Phase.STARTING, began.deadline)
        if passed == 1:  # a jump in its own time moves it
            platform.clock.jump(60)
            began = began.model_copy(update={"phase_since": began.phase_since + timedelta(minutes=1)})


async def test_who_ask_for_the_same_version_get_the_same_operation_though_it_was_given_more_instances(
    platform: FakePlatform,
) -> None:
    first = await deploy(platform, "v1", replicas=2)
    for ref in ("v2", "v3"):
        await deploy(platform, ref, replicas=4)
    told = await ask(platform, to=first.version)
    again = await ask(platform, to=first.version)
    assert again.id == told.id
    await settle(platform)
    assert (await status(platform, told.id)).state == "succeeded"


@pytest.mark.parametrize("by_name", [False, True])
async def test_a_rollback_that_was_aborted_can_be_asked_for_again_before_it_has_ended(
    platform: FakePlatform, by_name: bool
) -> None:
    first, _ = await deploy(platform, "v1"), await deploy(platform, "v2")
    aborted = await ask(platform)
    await tell(platform, "abort", operation=aborted.id)
    told = await ask(platform, **({"to": first.version} if by_name else {}))
    assert (told.id == aborted.id, told.phase) == (False, "pending")
    assert (await ask(platform)).id == told.id
    await settle(platform)
    assert (await status(platform, aborted.id)).state == "rolled_back"
    ended = await status(platform, told.id)
    assert (ended.state, ended.version) == ("succeeded", first.version)


async def test_a_rollback_while_the_live_version_is_scaled_leaves_that_version(platform: FakePlatform) -> None:
    first, _ = await deploy(platform, "v1"), await deploy(platform, "v2")
    scaling = await scale_resources(platform.ports, ANN, ScaleRequest(**WHERE, replicas=4))
    ended = await back(platform)
    assert (ended.id == scaling.id, ended.state, ended.version) == (False, "succeeded", first.version)
    assert (await status(platform, scaling.id)).state == "rolled_back"


async def test_a_scaling_under_way_is_taken_back_by_its_own_operation(platform: FakePlatform) -> None:
    _, second = await deploy(platform, "v1"), await deploy(platform, "v2")
    scaling = await scale_resources(platform.ports, ANN, ScaleRequest(**WHERE, replicas=4))
    assert (await back(platform, operation=scaling.id)).state == "rolled_back"
    live = (await deployment(platform)).live
    assert live is not None
    assert (live.name, live.replicas) == (second.version, 1)


async def test_a_number_of_replicas_is_not_taken_back_at_the_cost_of_the_rollout_under_way(
    platform: FakePlatform,
) -> None:
    await deploy(platform, "v1", replicas=2)
    scaled = await scale(platform, 4)
    held = await begin(platform, "v2", replicas=4, hold=True)
    await settle(platform, until=Phase.HOLDING)
    with pytest.raises(PlatformError, match="changed the number of replicas alone") as raised:
        await ask(platform, operation=scaled.id)
    assert raised.value.code is ErrorCode.CONFLICT
    assert (await status(platform, held.id)).phase == "holding"


async def three_and_a_held_one(platform: FakePlatform) -> tuple[list[OperationView], OperationView]:
    live = [await deploy(platform, ref) for ref in ("v1", "v2", "v3")]
    held = await begin(platform, "v4", hold=True)
    await settle(platform, until=Phase.HOLDING)
    return live, held


async def test_a_rollback_that_waits_begins_however_many_changes_wait_for_an_approval(platform: FakePlatform) -> None:
    (first, *_), _ = await three_and_a_held_one(platform)
    told = await ask(platform, to=first.version)
    production = platform.workspace.current.environments["production"]
    asked_for = production.model_copy(update={"approvals": ApprovalRule(required=True)})
    platform.workspace.current = Settings(environments={"production": asked_for})
    for number in range(60):
        platform.clock.advance(0.001)
        who = ANN.model_copy(update={"name": f"ann-{number}"})
        waits = await scale_resources(platform.ports, who, ScaleRequest(**WHERE, replicas=2))
        assert waits.state == "awaiting"
    await settle(platform)
    assert (await status(platform, told.id)).state == "succeeded"


async def test_a_rollback_that_still_waits_when_nothing_is_under_way_begins(platform: FakePlatform) -> None:
    (first, *_), held = await three_and_a_held_one(platform)
    told = await ask(platform, to=first.version)

    def end(tx: Transaction) -> None:
        rollout = tx.rollout_of(held.id)
        assert rollout is not None
        tx.save_rollout(rollout.model_copy(update={"phase": Phase.ROLLED_BACK, "epoch": rollout.epoch + 1}))

    await platform.store.write(end)
    await RolloutReconciler(platform.ports).pass_over_all()
    await settle(platform)
    assert (await status(platform, told.id)).state == "succeeded"


@pytest.mark.parametrize("named", [False, True])
async def test_a_rollback_that_waits_is_aborted(platform: FakePlatform, named: bool) -> None:
    (first, _, third), held = await three_and_a_held_one(platform)
    platform.traffic.acknowledging = False
    told = await ask(platform, to=first.version)
    assert "action abort ends it" in told.next
    await settle(platform, until=Phase.REVERTING)
    aborted = await tell(platform, "abort", reason="it was v3", **({"operation": told.id} if named else WHERE))
    assert (aborted.id, aborted.state) == (told.id, "rolled_back")
    assert aborted.reason == "aborted by ann: it was v3"
    platform.traffic.acknowledging = True
    await settle(platform)
    assert (await status(platform, held.id)).state == "rolled_back"
    assert platform.traffic.routes["web", "production"].weights == {third.version: 1}
    assert await platform.ship_log.unfinished() == []


async def test_of_rollbacks_that_wait_the_last_one_counts(platform: FakePlatform) -> None:
    (first, second, _), _ = await three_and_a_held_one(platform)
    one, other = await ask(platform, to=first.version), await ask(platform, to=second.version)
    ended = await status(platform, one.id)
    assert (ended.state, ended.reason) == ("rolled_back", f"operation {other.id} goes elsewhere")
    await settle(platform)
    assert (await status(platform, other.id)).state == "succeeded"
    assert first.version not in await running(platform)
    assert await platform.ship_log.unfinished() == []


async def test_a_rollback_to_what_is_live_ends_the_one_that_waits(platform: FakePlatform) -> None:
    (first, _, third), held = await three_and_a_held_one(platform)
    one = await ask(platform, to=first.version)
    assert (await ask(platform, to=third.version)).id == held.id
    await settle(platform)
    assert (await status(platform, one.id)).state == "rolled_back"
    assert platform.traffic.routes["web", "production"].weights == {third.version: 1}


async def test_a_held_rollout_that_was_scaled_is_still_waited_for_by_nobody(platform: FakePlatform) -> None:
    await deploy(platform, "v1")
    held = await begin(platform, "v2", hold=True)
    await settle(platform, until=Phase.HOLDING)
    await scale_resources(platform.ports, ANN, ScaleRequest(**WHERE, replicas=3))
    loop = RolloutReconciler(platform.ports)
    for _ in range(5):
        await loop.pass_over_all()
        platform.clock.advance(0.2)
    asked_at = platform.clock.monotonic()
    assert (await tell(platform, "wait", operation=held.id)).phase == "holding"
    assert platform.clock.monotonic() == asked_at


async def test_who_may_not_deploy_does_not_bring_back_what_was_taken_back(platform: FakePlatform) -> None:
    await deploy(platform, "v1")
    bad = (await deploy(platform, "v2")).version
    assert (await back(platform)).version != bad
    quinn = Principal(name="quinn", role=Role.QA)
    command = OperationCommand(action="rollback", **WHERE)
    with pytest.raises(PlatformError) as refused:
        await manage_operation(platform.ports, quinn, command)
    assert refused.value.code is ErrorCode.PERMISSION_DENIED
    assert (await back(platform)).version == bad, "who may deploy it may go there"
