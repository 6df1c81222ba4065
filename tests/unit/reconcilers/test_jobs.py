"""Jobs of rollouts over the in-memory platform: order, failures, aborts, and a crash at every single call."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.job import Job, RunState, When
from santiago_platform.domain.operation import OperationState
from santiago_platform.domain.signal import LogLine
from santiago_platform.operations.change import close_interrupted
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service
from santiago_platform.operations.jobs import RunJobRequest, run_job
from santiago_platform.operations.manage_operation import OperationCommand, manage_operation
from santiago_platform.operations.operation_view import OperationView
from santiago_platform.operations.scale_resources import ScaleRequest, scale_resources
from santiago_platform.ports import Ports
from santiago_platform.reconcilers.rollout import RolloutReconciler
from santiago_platform.reconcilers.schedule import ScheduleReconciler
from santiago_platform.testing.crashing import Killed, Reaper

ANN = Principal(name="ann", role=Role.DEVELOPER)
MIGRATE = Job(name="migrate", when=When.PRE_DEPLOY, command=("./migrate",))
INDEX = Job(name="index", when=When.PRE_DEPLOY, command=("./index",))
CHECK = Job(name="check", when=When.POST_DEPLOY, command=("./check",))
WHERE = {"service": "web", "environment": "production"}


@pytest.fixture
def platform() -> FakePlatform:
    made = FakePlatform()
    made.artifacts.jobs = (CHECK, MIGRATE, INDEX)
    return made


async def passes(platform: FakePlatform, count: int = 40, ports: Ports | None = None, *, settle: bool = False) -> None:
    """settle: until nothing is running any more."""
    loop, schedule = RolloutReconciler(ports or platform.ports), ScheduleReconciler(ports or platform.ports)
    for _ in range(count):
        await loop.pass_over_all()
        await schedule.pass_over()
        platform.clock.advance(0.2)
        await platform.clock.sleep(0)
        if settle and not await platform.store.read(
            lambda v: [*v.operations(running=True), *v.operations(unlogged=True)]
        ):
            return
    assert not settle, "it hangs"


async def start(platform: FakePlatform, ref: str = "v1", **request: Any) -> OperationView:
    return await deploy_service(platform.ports, ANN, DeployRequest(**WHERE, git_ref=ref, **request))


async def status(platform: FakePlatform, operation: str) -> OperationView:
    command = OperationCommand(action="status", operation=operation)
    return (await manage_operation(platform.ports, ANN, command)).operations[0]


async def deploy(platform: FakePlatform, ref: str = "v1", **request: Any) -> OperationView:
    started = await start(platform, ref, **request)
    await passes(platform, 60, settle=True)
    return await status(platform, started.id)


def names(ids: list[str]) -> list[str]:
    return [run_id.split("__")[2].split(".")[0] for run_id in ids]


async def test_jobs_run_once_a_rollout_in_their_order_and_are_forgotten_when_their_end_is_stored(
    platform: FakePlatform,
) -> None:
    ended = await deploy(platform)
    assert ended.state == OperationState.SUCCEEDED
    assert names(platform.jobs.started) == ["migrate", "index", "check"]
    assert await platform.jobs.list() == []
    runs = await platform.store.read(lambda v: v.job_runs())
    assert {run.state for run in runs} == {RunState.SUCCEEDED}
    assert {(step.phase) for step in await journal(platform, ended.id)} >= {"preparing", "finishing"}


async def journal(platform: FakePlatform, operation: str) -> Any:
    return await platform.store.read(lambda v: v.journal(v.rollout_of(operation).id))  # type: ignore[union-attr]


async def test_neither_a_deploy_of_what_is_live_nor_a_rollback_nor_scaling_runs_a_job(platform: FakePlatform) -> None:
    await deploy(platform, "v1")
    await deploy(platform, "v2")
    platform.jobs.started.clear()
    assert (await deploy(platform, "v2")).state == OperationState.SUCCEEDED
    await scale_resources(platform.ports, ANN, ScaleRequest(**WHERE, replicas=3))
    await passes(platform)
    await manage_operation(platform.ports, ANN, OperationCommand(action="rollback", **WHERE))
    await passes(platform)
    assert platform.jobs.started == []


async def test_a_promotion_runs_the_jobs_in_the_environment_that_it_goes_to(platform: FakePlatform) -> None:
    await deploy(platform)
    platform.jobs.started.clear()
    asked = DeployRequest(service="web", environment="staging", from_environment="production")
    await deploy_service(platform.ports, ANN, asked)
    await passes(platform)
    assert [run_id.split("__")[1] for run_id in platform.jobs.started] == ["staging"] * 3


async def test_a_pre_deploy_job_that_fails_moves_no_traffic_starts_nothing_and_tells_its_last_lines(
    platform: FakePlatform,
) -> None:
    platform.artifacts.jobs = ()
    first = await deploy(platform)
    platform.artifacts.jobs = (MIGRATE, INDEX)
    platform.jobs.failing["migrate"] = "exited with code 3"
    started = await start(platform, "v2")
    routes = len(platform.traffic.history)
    await passes(platform, 2)
    for run_id in platform.jobs.started:
        line = {"at": 1.0, "instance": run_id, "version": "x", "job": "migrate", "level": "", "text": "no such table"}
        platform.logs.lines.append(LogLine(**WHERE, **line))
    await passes(platform)
    failed = await status(platform, started.id)
    assert (failed.state, failed.reason) == (OperationState.FAILED, "the job migrate exited with code 3")
    assert names(platform.jobs.started) == ["migrate"], "what comes after it is not begun"
    assert all(set(r.weights) == {first.version} for r in platform.traffic.history[routes:])
    assert {s.instance.template.version for s in await platform.compute.list()} == {first.version}


async def test_a_post_deploy_job_that_fails_takes_the_rollout_back(platform: FakePlatform) -> None:
    platform.artifacts.jobs = ()
    first = await deploy(platform)
    platform.artifacts.jobs = (CHECK,)
    platform.jobs.failing["check"] = "exited with code 1"
    back = await deploy(platform, "v2")
    assert (back.state, back.reason) == (OperationState.ROLLED_BACK, "the job check exited with code 1")
    assert platform.traffic.routes["web", "production"].weights == {first.version: 1}


async def test_an_abort_stops_the_job_and_the_rollout_ends_when_nothing_of_it_runs(platform: FakePlatform) -> None:
    platform.jobs.hanging.add("migrate")
    started = await start(platform)
    await passes(platform, 5)
    assert (await status(platform, started.id)).phase == "preparing"
    await manage_operation(platform.ports, ANN, OperationCommand(action="abort", operation=started.id))
    await passes(platform)
    assert (await status(platform, started.id)).state == OperationState.ROLLED_BACK
    assert names(platform.jobs.stopped) == ["migrate"]
    (run,) = await platform.store.read(lambda v: v.job_runs())
    assert run.state is RunState.STOPPED


@pytest.mark.parametrize("code", [ErrorCode.FAILED_PRECONDITION, ErrorCode.UNAVAILABLE])
async def test_a_job_that_cannot_be_started_fails_at_once_where_that_is_certain(
    platform: FakePlatform, code: ErrorCode
) -> None:
    platform.jobs.refused["migrate"] = PlatformError(code, "a volume has no place", "make one")
    started = await start(platform)
    await passes(platform)
    ended = await status(platform, started.id)
    if code is ErrorCode.UNAVAILABLE:
        assert ended.phase == "preparing"
    else:
        assert ended.reason == "the job migrate cannot be started: a volume has no place; make one"


async def test_a_rollout_waits_for_the_same_job_that_was_begun_by_hand(platform: FakePlatform) -> None:
    await deploy(platform)
    platform.jobs.hanging.add("migrate")
    await run_job(platform.ports, ANN, RunJobRequest(**WHERE, job="migrate"))
    started = await start(platform, "v2")
    await passes(platform, 10)
    assert names(platform.jobs.started) == ["migrate", "index", "check", "migrate"]
    platform.jobs.hanging.clear()
    await passes(platform, settle=True)
    assert (await status(platform, started.id)).state == OperationState.SUCCEEDED
    assert names(platform.jobs.started)[4:] == ["migrate", "index", "check"]


async def test_a_job_that_never_ends_is_late_and_stopped(platform: FakePlatform) -> None:
    platform.jobs.hanging.add("migrate")
    started = await start(platform)
    await passes(platform, 5)
    platform.clock.advance(3600)
    await passes(platform)
    ended = await status(platform, started.id)
    assert (ended.state, ended.reason) == (OperationState.FAILED, "its jobs did not end in time")
    assert await platform.jobs.list() == []


@pytest.mark.parametrize("failing", ["", "migrate", "check"])
async def test_a_crash_at_any_call_runs_no_job_twice_and_the_rollout_ends_as_if_nothing_had_happened(
    failing: str,
) -> None:
    for fatal in count():
        platform = FakePlatform()
        first = await deploy(platform)
        platform.artifacts.jobs = (MIGRATE, CHECK)
        if failing:
            platform.jobs.failing[failing] = "exited with code 1"
        ports, killed = Reaper(fatal).ports(platform.ports), False
        try:
            await deploy_service(ports, ANN, DeployRequest(**WHERE, git_ref="v2"))
            await passes(platform, 60, ports, settle=True)
        except Killed:
            killed = True
        await close_interrupted(platform.ports)
        await passes(platform, 60, settle=True)
        newest = (await platform.store.read(lambda v: v.operations(limit=1)))[0]
        if newest.id != first.id:
            ends = {"": OperationState.SUCCEEDED, "migrate": OperationState.FAILED, "check": OperationState.ROLLED_BACK}
            assert newest.state is ends[failing]
            assert names(platform.jobs.started) == (["migrate"] if failing == "migrate" else ["migrate", "check"])
        assert await platform.jobs.list() == []
        assert not await platform.store.read(lambda v: v.job_runs(unfinished=True))
        assert await platform.ship_log.unfinished() == []
        if not killed:
            assert fatal > 20, "the walk did reach the rollout"
            return
