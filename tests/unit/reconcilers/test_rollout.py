"""The loop over the in-memory platform: phases, faults and lies. Each step of it is walked in test_steps.py."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.domain.canary import Canary, Step
from santiago_platform.domain.environment import Environment, ServiceSettings, Settings
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.operation import OperationState
from santiago_platform.domain.proof import Verdict
from santiago_platform.domain.ship_log import EntryKind
from santiago_platform.domain.strategy import Strategy
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service
from santiago_platform.operations.manage_operation import OperationCommand, manage_operation
from santiago_platform.operations.operation_view import OperationView
from santiago_platform.operations.scale_resources import ScaleRequest, scale_resources
from santiago_platform.ports.compute import InstanceState
from santiago_platform.reconcilers.rollout import RolloutReconciler

ANN = Principal(name="ann", role=Role.DEVELOPER)


async def settle(platform: FakePlatform, operation_id: str = "", passes: int = 400) -> OperationView | None:
    """Runs the loop, moving time between passes, until nothing is running."""
    loop = RolloutReconciler(platform.ports)
    for _ in range(passes):
        await loop.pass_over_all()
        platform.clock.advance(0.2)
        platform.traffic.serve(400)
        running = await platform.store.read(lambda v: v.operations(running=True))
        unlogged = await platform.store.read(lambda v: v.operations(unlogged=True))
        if not running and not unlogged:
            break
        await platform.clock.sleep(0)
    else:
        raise AssertionError("it hangs")
    if not operation_id:
        return None
    answer = await manage_operation(platform.ports, ANN, OperationCommand(action="status", operation=operation_id))
    return answer.operations[0]


async def deploy(platform: FakePlatform, ref: str = "v1", **request: Any) -> OperationView:
    asked = DeployRequest(service="web", environment="production", git_ref=ref, **request)
    started = await deploy_service(platform.ports, ANN, asked)
    ended = await settle(platform, started.id)
    assert ended is not None
    return ended


async def digest(platform: FakePlatform, ref: str) -> str:
    return (await platform.artifacts.build("web", await platform.artifacts.resolve(ref))).digest


# A canary that is through within seconds.
SHORT = Canary(steps=(Step(weight=10, pause_seconds=1), Step(weight=50, analysis=True)), bucket_seconds=1)


def fake_platform() -> FakePlatform:
    environments = {name: Environment(defaults=ServiceSettings(canary=SHORT)) for name in ("production", "staging")}
    return FakePlatform(workspace=FakeWorkspace(settings=Settings(environments=environments)))


async def live(platform: FakePlatform) -> str:
    deployment = await platform.store.read(lambda v: v.deployment("web", "production"))
    return deployment.live.name if deployment and deployment.live else ""


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_two_versions_one_after_the_other_end_proven_with_the_second_live(strategy: Strategy) -> None:
    platform = fake_platform()
    first = await deploy(platform, "v1", strategy=strategy, replicas=2)
    second = await deploy(platform, "v2", strategy=strategy, replicas=3)
    assert (first.state, second.state) == (OperationState.SUCCEEDED, OperationState.SUCCEEDED)
    assert second.proof is not None
    assert second.proof.verdict is Verdict.MATCH
    assert second.previous_version == first.version
    assert await live(platform) == second.version
    assert platform.traffic.routes["web", "production"].weights == {second.version: 1}


async def test_a_release_that_dies_moves_no_traffic_and_its_instances_go() -> None:
    platform = FakePlatform()
    first = await deploy(platform)
    platform.compute.broken[await digest(platform, "v2")] = (InstanceState.FAILED, "exited with code 3 (5 times)")
    failed = await deploy(platform, "v2")
    assert failed.state == OperationState.FAILED
    assert "exited with code 3" in failed.reason
    assert all(set(r.weights) <= {first.version} for r in platform.traffic.history[2:])
    for _ in range(20):
        await RolloutReconciler(platform.ports).pass_over_all()
        platform.clock.advance(31)
    versions = {s.instance.template.version for s in await platform.compute.list()}
    assert versions == {first.version}


async def test_a_release_that_never_becomes_ready_fails_with_the_reason_after_its_time() -> None:
    platform = FakePlatform()
    await deploy(platform)
    reason = "listens on 9000, not on PORT=21004"
    platform.compute.broken[await digest(platform, "v2")] = (InstanceState.STARTING, reason)
    failed = await deploy(platform, "v2")
    assert failed.state == OperationState.FAILED
    assert reason in failed.reason


async def test_a_build_that_fails_fails_the_operation_with_its_words() -> None:
    platform = FakePlatform()
    commit = await platform.artifacts.resolve("bad")
    platform.artifacts.failing[commit] = PlatformError(ErrorCode.FAILED_PRECONDITION, "the build failed: no such file")
    failed = await deploy(platform, "bad")
    assert (failed.state, failed.reason) == (OperationState.FAILED, "the build failed: no such file")


async def test_traffic_that_says_done_and_does_nothing_is_drift_and_goes_back() -> None:
    platform = FakePlatform()
    await deploy(platform)
    platform.traffic.sabotaged = True
    lied = await deploy(platform, "v2")
    assert lied.state in (OperationState.ROLLED_BACK, OperationState.FAILED)
    assert lied.proof is not None
    assert lied.proof.verdict is Verdict.DRIFT


async def test_probes_that_see_nothing_end_unverified_and_never_succeeded() -> None:
    platform = FakePlatform()
    platform.probe.blind = True
    blind = await deploy(platform)
    assert blind.state == OperationState.UNVERIFIED
    assert blind.proof is not None
    assert blind.proof.verdict is Verdict.UNVERIFIABLE


async def test_proxies_that_do_not_acknowledge_lead_back_to_the_old_version() -> None:
    platform = FakePlatform()
    first = await deploy(platform)
    started = await deploy_service(
        platform.ports, ANN, DeployRequest(service="web", environment="production", git_ref="v2")
    )
    platform.traffic.acknowledging = False
    ended = await settle(platform, started.id)
    assert ended is not None
    assert ended.state == OperationState.FAILED
    assert await live(platform) == first.version
    platform.traffic.acknowledging = True
    await RolloutReconciler(platform.ports).pass_over_all()
    assert platform.traffic.routes["web", "production"].weights == {first.version: 1}


async def test_an_instance_with_requests_in_flight_is_not_stopped_before_the_drain_limit() -> None:
    platform = FakePlatform()
    first = await deploy(platform, "v1", strategy=Strategy.ROLLING)
    platform.traffic.active = {f"web__production__{first.version}__0": 1}
    await deploy(platform, "v2", strategy=Strategy.ROLLING)
    loop = RolloutReconciler(platform.ports)
    await loop.pass_over_all()
    platform.clock.advance(20)
    await loop.pass_over_all()
    assert platform.compute.stopped == []
    platform.clock.advance(11)
    await loop.pass_over_all()
    assert platform.compute.stopped == [f"web__production__{first.version}__0"]


async def test_rollback_is_one_weight_change_while_the_old_version_is_warm() -> None:
    platform = FakePlatform()
    first = await deploy(platform)
    await deploy(platform, "v2")
    running = {s.instance.id for s in await platform.compute.list()}
    told = await manage_operation(
        platform.ports, ANN, OperationCommand(action="rollback", service="web", environment="production")
    )
    ended = await settle(platform, told.operations[0].id)
    assert ended is not None
    assert (ended.kind, ended.state, ended.version) == ("rollback_service", OperationState.SUCCEEDED, first.version)
    assert {s.instance.id for s in await platform.compute.list()} == running, "nothing was started or stopped"


async def test_rollback_works_after_the_window_too() -> None:
    platform = FakePlatform()
    first = await deploy(platform)
    await deploy(platform, "v2")
    platform.clock.advance(3600)
    for _ in range(10):
        await RolloutReconciler(platform.ports).pass_over_all()
        platform.clock.advance(31)
    told = await manage_operation(
        platform.ports, ANN, OperationCommand(action="rollback", service="web", environment="production")
    )
    ended = await settle(platform, told.operations[0].id)
    assert ended is not None
    assert ended.version == first.version
    assert await live(platform) == first.version


async def test_a_held_deploy_waits_for_promote_and_can_be_aborted() -> None:
    platform = FakePlatform()
    first = await deploy(platform)
    asked = DeployRequest(service="web", environment="production", git_ref="v2", hold=True)
    held = await deploy_service(platform.ports, ANN, asked)
    loop = RolloutReconciler(platform.ports)
    for _ in range(20):
        await loop.pass_over_all()
        platform.clock.advance(0.2)
        await platform.clock.sleep(0)
    status = await manage_operation(platform.ports, ANN, OperationCommand(action="status", operation=held.id))
    assert status.operations[0].phase == "holding"
    assert "promote" in status.operations[0].next
    await manage_operation(platform.ports, ANN, OperationCommand(action="abort", operation=held.id, reason="no"))
    ended = await settle(platform, held.id)
    assert ended is not None
    assert (ended.state, ended.reason) == (OperationState.ROLLED_BACK, "aborted by ann: no")
    assert await live(platform) == first.version


async def test_two_rollouts_of_one_service_at_once_are_refused_and_the_refusal_is_logged() -> None:
    platform = FakePlatform()
    request = DeployRequest(service="web", environment="production", git_ref="v1")
    await deploy_service(platform.ports, ANN, request)
    with pytest.raises(PlatformError) as caught:
        await deploy_service(platform.ports, ANN, request)
    assert caught.value.code is ErrorCode.CONFLICT
    completed = [e for e in platform.ship_log.entries if e.kind is EntryKind.COMPLETED]
    assert [e.outcome for e in completed] == ["refused"]


async def test_a_worker_without_ports_is_deployed_and_proven_by_its_processes() -> None:
    platform = FakePlatform()
    platform.workspace.ports = ()
    ended = await deploy(platform)
    assert ended.state == OperationState.SUCCEEDED
    assert platform.traffic.routes == {}


async def rollback(platform: FakePlatform) -> OperationView:
    command = OperationCommand(action="rollback", service="web", environment="production")
    return (await manage_operation(platform.ports, ANN, command)).operations[0]


async def test_two_who_ask_for_a_rollback_get_the_same_one() -> None:
    platform = FakePlatform()
    first = await deploy(platform)
    await deploy(platform, "v2")
    asked = [await rollback(platform), await rollback(platform)]
    assert asked[0].id == asked[1].id
    ended = await settle(platform, asked[0].id)
    assert ended is not None
    assert (ended.state, await live(platform)) == (OperationState.SUCCEEDED, first.version)
    assert await platform.ship_log.unfinished() == []


async def test_an_abort_that_comes_at_the_last_moment_is_not_answered_yes_and_passed_over() -> None:
    platform = FakePlatform()
    first = await deploy(platform)
    asked = DeployRequest(service="web", environment="production", git_ref="v2")
    started = await deploy_service(platform.ports, ANN, asked)
    write, told = platform.store.write, []

    async def abort_first(unit: Any) -> Any:
        """Somebody is always a moment faster than the step that ends the rollout."""
        rollout = await platform.store.read(lambda v: v.active_rollout("web", "production"))
        if rollout is not None and rollout.phase == "proving" and not told:
            told.append(rollout.id)
            await manage_operation(platform.ports, ANN, OperationCommand(action="abort", operation=started.id))
        return await write(unit)

    platform.store.write = abort_first  # type: ignore[method-assign]
    ended = await settle(platform, started.id)
    assert told
    assert ended is not None
    assert (ended.state, await live(platform)) == (OperationState.ROLLED_BACK, first.version)


async def test_an_abort_of_what_has_ended_is_refused() -> None:
    platform = FakePlatform()
    ended = await deploy(platform)
    with pytest.raises(PlatformError) as caught:
        await manage_operation(platform.ports, ANN, OperationCommand(action="abort", operation=ended.id))
    assert caught.value.code is ErrorCode.FAILED_PRECONDITION


async def test_a_rollback_takes_the_strategy_of_the_version_that_it_undoes() -> None:
    platform = FakePlatform()
    await deploy(platform)
    await deploy(platform, "v2", strategy=Strategy.RECREATE)
    operation = await rollback(platform)
    rollout = await platform.store.read(lambda v: v.rollout_of(operation.id))
    assert rollout is not None
    assert rollout.strategy is Strategy.RECREATE


async def test_a_live_instance_that_was_given_up_on_is_tried_again_while_another_version_is_held() -> None:
    platform = FakePlatform()
    first = await deploy(platform)
    held = DeployRequest(service="web", environment="production", git_ref="v2", hold=True)
    await deploy_service(platform.ports, ANN, held)
    platform.compute.broken[await digest(platform, "v1")] = (InstanceState.FAILED, "was ended by SIGKILL")
    loop = RolloutReconciler(platform.ports)
    for _ in range(40):
        await loop.pass_over_all()
        platform.clock.advance(1)
        await platform.clock.sleep(0)
    assert f"web__production__{first.version}__0" in platform.compute.stopped


async def test_a_service_that_is_slow_to_look_at_holds_up_no_other() -> None:
    platform = FakePlatform()
    platform.workspace.names += ["slow"]
    asked = DeployRequest(service="slow", environment="production", git_ref="v1")
    started = await deploy_service(platform.ports, ANN, asked)
    await settle(platform, started.id)
    looked, listing = asyncio.Event(), platform.compute.list

    async def slow(service: str | None = None, environment: str | None = None) -> Any:
        if service == "slow":
            looked.set()
            await asyncio.Event().wait()
        return await listing(service, environment)

    platform.compute.list = slow  # type: ignore[method-assign]
    running = asyncio.create_task(RolloutReconciler(platform.ports).run())
    await looked.wait()
    quick = await deploy_service(
        platform.ports, ANN, DeployRequest(service="web", environment="production", git_ref="v1")
    )
    async with asyncio.timeout(10):
        while (await platform.store.read(lambda v: v.operation(quick.id))).state == "running":  # type: ignore[union-attr]
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def counted(platform: FakePlatform) -> int:
    return len(await platform.compute.list())


@pytest.mark.parametrize("replicas", [1, 5])
async def test_a_service_is_scaled_up_and_down_and_the_number_is_proven(replicas: int) -> None:
    platform = FakePlatform()
    first = await deploy(platform, replicas=3)
    asked = ScaleRequest(service="web", environment="production", replicas=replicas)
    started = await scale_resources(platform.ports, ANN, asked)
    ended = await settle(platform, started.id)
    assert ended is not None
    assert (ended.kind, ended.state, ended.version) == ("scale_resources", OperationState.SUCCEEDED, first.version)
    assert ended.proof is not None
    assert any(f"= {replicas} " in line for line in ended.proof.evidence)
    for _ in range(10):
        await RolloutReconciler(platform.ports).pass_over_all()
        platform.clock.advance(31)
    assert await counted(platform) == replicas


async def test_a_rollout_under_way_takes_the_number_over_and_the_answer_is_its_operation() -> None:
    platform = FakePlatform()
    await deploy(platform, replicas=2)
    deployed = await deploy_service(
        platform.ports, ANN, DeployRequest(service="web", environment="production", git_ref="v2", replicas=2)
    )
    asked = ScaleRequest(service="web", environment="production", replicas=4)
    scaled = await scale_resources(platform.ports, ANN, asked)
    assert scaled.id == deployed.id
    ended = await settle(platform, deployed.id)
    assert ended is not None
    assert ended.state == OperationState.SUCCEEDED
    live_version = await platform.store.read(lambda v: v.deployment("web", "production"))
    assert live_version is not None
    assert live_version.live is not None
    assert live_version.live.replicas == 4
    assert await platform.ship_log.unfinished() == []


async def test_what_is_not_live_cannot_be_scaled() -> None:
    with pytest.raises(PlatformError) as caught:
        await scale_resources(
            FakePlatform().ports, ANN, ScaleRequest(service="web", environment="production", replicas=2)
        )
    assert caught.value.code is ErrorCode.FAILED_PRECONDITION


async def test_settings_that_somebody_broke_do_not_stop_a_rollback() -> None:
    platform = FakePlatform()
    first = await deploy(platform)
    await deploy(platform, "v2")
    platform.workspace.invalid = True
    operation = await rollback(platform)
    ended = await settle(platform, operation.id)
    assert ended is not None
    assert (ended.state, await live(platform)) == (OperationState.SUCCEEDED, first.version)
