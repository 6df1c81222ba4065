"""The watch over a version that has just taken over."""

from __future__ import annotations

from typing import Any

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.canary import Canary, Step
from santiago_platform.domain.counters import Samples
from santiago_platform.domain.deployment import Deployment
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.job import Job, When
from santiago_platform.domain.operation import OperationState
from santiago_platform.domain.phase import Phase
from santiago_platform.domain.ship_log import EntryKind
from santiago_platform.domain.strategy import Strategy
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service
from santiago_platform.operations.manage_operation import OperationCommand, manage_operation
from santiago_platform.operations.scale_resources import ScaleRequest, scale_resources
from santiago_platform.reconcilers import watch as watch_loop
from santiago_platform.reconcilers.rollout import RolloutReconciler
from santiago_platform.reconcilers.watch import WatchReconciler

ANN = Principal(name="ann", role=Role.DEVELOPER)
WHERE: dict[str, Any] = {"service": "web", "environment": "production"}


class Watched:
    def __init__(self) -> None:
        self.platform = FakePlatform()
        self.rollouts = RolloutReconciler(self.platform.ports)
        self.watches = WatchReconciler(self.platform.ports)
        self.failing: dict[str, float] = {}
        self.requests = 1000

    async def deploy(self, ref: str, **said: Any) -> Deployment:
        await deploy_service(self.platform.ports, ANN, DeployRequest(**WHERE, git_ref=ref, **said))
        await self.passes(20, watch=False)
        return await self.deployment()

    async def passes(self, count: int, *, watch: bool = True, seconds: float = 0.5) -> None:
        for _ in range(count):
            await self.rollouts.pass_over_all()
            if watch:
                await self.watches.pass_over()
            self.platform.clock.advance(seconds)
            self.platform.traffic.serve(self.requests, failing=self.failing)
            await self.platform.clock.sleep(0)

    async def deployment(self) -> Deployment:
        found = await self.platform.store.read(lambda v: v.deployment("web", "production"))
        assert found is not None
        return found

    def tries(self) -> int:
        entries = self.platform.ship_log.entries
        return sum(e.action == "watch.rollback" and e.kind is EntryKind.OPENED for e in entries)

    async def remember(self, version: str, errors: int = 1) -> None:
        """Stable's hour before: an error in some of its buckets."""
        counts = range(0, 240 * 30_000, 30_000)
        self.platform.metrics.samples["web", "production", version] = (
            Samples(
                instance="a",
                proxy="proxy-a",
                series="1",
                requests=tuple(counts),
                errors=tuple(60 * errors * i for i in range(240)),
            ),
        )


async def test_a_version_that_turns_out_worse_is_rolled_back_by_the_platform_itself() -> None:
    watched = Watched()
    old = await watched.deploy("v1")
    assert old.live is not None
    await watched.remember(old.live.name)
    new = await watched.deploy("v2")
    assert new.live is not None
    assert new.watch is not None
    await watched.passes(200)
    assert (await watched.deployment()).live == new.live, "as good as the version before"
    watched.failing = {new.live.name: 0.05}
    await watched.passes(600)
    after = await watched.deployment()
    assert after.live == old.live
    newest = (await watched.platform.store.read(lambda v: v.operations(limit=1)))[0]
    assert (newest.kind, newest.principal.name, newest.state) == (
        "rollback_service",
        "platform",
        OperationState.SUCCEEDED,
    )
    assert newest.reason.startswith("watched after it took over: canary ")
    entry = next(e for e in watched.platform.ship_log.entries if e.action == "watch.rollback")
    assert "errors against" in str(entry.body)


async def test_a_version_that_is_as_good_is_left_alone_and_the_watch_ends() -> None:
    watched = Watched()
    old = await watched.deploy("v1")
    assert old.live is not None
    await watched.remember(old.live.name)
    new = await watched.deploy("v2")
    await watched.passes(1400)
    after = await watched.deployment()
    assert (after.live, after.watch) == (new.live, None)


async def test_a_version_whose_instances_end_again_and_again_is_rolled_back_without_any_history() -> None:
    watched = Watched()
    old = await watched.deploy("v1")
    new = await watched.deploy("v2")
    await watched.passes(5)
    assert new.live is not None
    watched.platform.compute.restarts[new.live.name] = 3
    await watched.passes(20)
    assert (await watched.deployment()).live == old.live
    newest = (await watched.platform.store.read(lambda v: v.operations(limit=1)))[0]
    assert newest.reason.endswith("its instances ended by themselves 3 times: the last one exited with code 1")


async def test_a_restart_of_the_loop_keeps_the_verdict_so_far() -> None:
    watched = Watched()
    old = await watched.deploy("v1")
    assert old.live is not None
    await watched.remember(old.live.name)
    new = await watched.deploy("v2")
    assert new.live is not None
    watched.failing = {new.live.name: 0.004}
    await watched.passes(100)
    before = (await watched.deployment()).watch
    watched.watches = WatchReconciler(watched.platform.ports)
    await watched.passes(2)
    assert (await watched.deployment()).watch == before
    assert before is not None
    assert before.looks > 0


@pytest.mark.parametrize("strategy", [Strategy.ROLLING, Strategy.RECREATE])
async def test_a_strategy_that_keeps_nothing_warm_is_not_watched(strategy: Strategy) -> None:
    watched = Watched()
    await watched.deploy("v1")
    assert (await watched.deploy("v2", strategy=strategy)).watch is None


async def test_a_rollback_is_not_watched_and_ends_the_watch() -> None:
    watched = Watched()
    old = await watched.deploy("v1")
    await watched.deploy("v2")
    await manage_operation(watched.platform.ports, ANN, OperationCommand(action="rollback", **WHERE))
    await watched.passes(20, watch=False)
    after = await watched.deployment()
    assert (after.live, after.watch) == (old.live, None)


async def test_scaling_the_watched_version_keeps_the_watch() -> None:
    watched = Watched()
    await watched.deploy("v1")
    new = await watched.deploy("v2")
    await scale_resources(watched.platform.ports, ANN, ScaleRequest(**WHERE, replicas=3))
    await watched.passes(20, watch=False)
    after = await watched.deployment()
    assert after.live is not None
    assert (after.live.replicas, after.watch) == (3, new.watch)


async def test_what_somebody_else_rolled_back_meanwhile_is_left_alone() -> None:
    watched = Watched()
    old = await watched.deploy("v1")
    stale = await watched.deploy("v2")
    await manage_operation(watched.platform.ports, ANN, OperationCommand(action="rollback", **WHERE))
    await watched.passes(20, watch=False)
    with pytest.raises(PlatformError, match="is not live in web/production any more"):
        await watched.watches._roll_back(stale, None, "it looked bad")
    assert (await watched.deployment()).live == old.live


@pytest.mark.parametrize("known", ["nothing", "that it cannot be read", "three requests"])
async def test_a_version_that_fails_whole_is_rolled_back_where_nobody_used_the_service_before(known: str) -> None:
    watched = Watched()
    watched.requests = 0
    old = await watched.deploy("v1")
    assert old.live is not None
    watched.platform.metrics.down = known == "that it cannot be read"
    if known == "three requests":
        samples = Samples(instance="a", proxy="proxy-a", series="1", requests=(0, 1, 3), errors=(0, 0, 0))
        watched.platform.metrics.samples["web", "production", old.live.name] = (samples,)
    new = await watched.deploy("v2")
    assert new.live is not None
    watched.failing, watched.requests = {new.live.name: 1.0}, 3
    await watched.passes(300)
    after = await watched.deployment()
    assert after.live == old.live
    newest = (await watched.platform.store.read(lambda v: v.operations(limit=1)))[0]
    assert newest.reason.startswith("watched after it took over: 100.0% of its answers are errors")


@pytest.mark.parametrize("seconds", [86_400, -3600])
async def test_a_jump_of_the_clock_neither_ends_a_watch_nor_keeps_it(seconds: float) -> None:
    watched = Watched()
    old = await watched.deploy("v1")
    assert old.live is not None
    await watched.remember(old.live.name)
    new = await watched.deploy("v2")
    assert new.live is not None
    watched.failing = {new.live.name: 0.01}
    await watched.passes(40)
    before = (await watched.deployment()).watch
    assert before is not None
    watched.platform.clock.jump(seconds)
    await watched.passes(2)
    after = await watched.deployment()
    assert after.watch is not None
    assert (after.watch.until - before.until).total_seconds() == pytest.approx(seconds, abs=1)
    assert after.watch.judge.counted[0].abort.log_e >= before.judge.counted[0].abort.log_e
    watched.failing = {}
    left = (after.watch.until - watched.platform.clock.now()).total_seconds()
    assert 500 < left < 600
    await watched.passes(int(left * 2) - 4)
    assert (await watched.deployment()).watch is not None
    await watched.passes(8)
    assert (await watched.deployment()).watch is None


async def test_a_jump_of_the_clock_during_a_rollout_shifts_the_watch_that_goes_on_after_it() -> None:
    watched = Watched()
    await watched.deploy("v1")
    new = await watched.deploy("v2")
    assert new.watch is not None
    await watched.passes(2)
    await scale_resources(watched.platform.ports, ANN, ScaleRequest(**WHERE, replicas=3))
    watched.platform.clock.jump(86_400)
    await watched.passes(40)
    after = await watched.deployment()
    assert after.watch is not None
    assert (after.watch.until - new.watch.until).total_seconds() == pytest.approx(86_400, abs=1)


CHECK = Job(name="check", when=When.POST_DEPLOY, command=("./check",), timeout_seconds=3600)


@pytest.mark.parametrize("strategy", [Strategy.BLUE_GREEN, Strategy.ROLLING])
async def test_a_version_that_turns_out_worse_while_its_post_deploy_jobs_run_is_taken_back(strategy: Strategy) -> None:
    watched = Watched()
    old = await watched.deploy("v1")
    assert old.live is not None
    await watched.remember(old.live.name)
    watched.platform.artifacts.jobs = (CHECK,)
    watched.platform.jobs.hanging = {"check"}
    during = await watched.deploy("v2", strategy=strategy)
    rollout = await watched.platform.store.read(lambda v: v.active_rollout("web", "production"))
    assert rollout is not None
    assert (rollout.phase, during.live) == (Phase.FINISHING, old.live)
    assert rollout.new is not None
    watched.failing = {rollout.new.name: 0.2}
    await watched.passes(400)
    operation = await watched.platform.store.read(lambda v: v.operation(rollout.operation_id))
    assert operation is not None
    assert operation.state is OperationState.ROLLED_BACK
    assert operation.reason.startswith("watched after it took over: canary ")
    assert watched.platform.traffic.routes["web", "production"].weights == {old.live.name: 1}


async def test_what_was_seen_while_post_deploy_jobs_ran_is_not_forgotten_after_them() -> None:
    watched = Watched()
    old = await watched.deploy("v1")
    assert old.live is not None
    await watched.remember(old.live.name)
    watched.platform.artifacts.jobs = (CHECK,)
    watched.platform.jobs.hanging = {"check"}
    await watched.deploy("v2")
    await watched.passes(200)
    rollout = await watched.platform.store.read(lambda v: v.active_rollout("web", "production"))
    assert rollout is not None
    assert rollout.watch is not None
    assert rollout.watch.looks > 0
    watched.platform.jobs.hanging = set()
    await watched.passes(4)
    after = (await watched.deployment()).watch
    assert after is not None
    assert (after.began_at, after.looks >= rollout.watch.looks) == (rollout.watch.began_at, True)


async def test_without_any_history_restarts_are_watched_all_the_same() -> None:
    watched = Watched()
    old = await watched.deploy("v1")
    new = await watched.deploy("v2")
    assert new.live is not None
    watched.platform.metrics.down = True
    await watched.passes(3)
    watched.platform.compute.restarts[new.live.name] = 3
    await watched.passes(20)
    assert (await watched.deployment()).live == old.live


async def test_a_version_that_turns_out_worse_is_taken_back_though_another_one_is_held_beside_it() -> None:
    watched = Watched()
    old = await watched.deploy("v1")
    assert old.live is not None
    await watched.remember(old.live.name)
    bad = await watched.deploy("v2")
    assert bad.live is not None
    await watched.deploy("v3", hold=True)
    held = (await watched.platform.store.read(lambda v: v.operations(limit=1)))[0]
    watched.failing = {bad.live.name: 0.5}
    await watched.passes(200)
    after = await watched.deployment()
    assert (after.live, after.watch) == (old.live, None)
    newest, aborted = await watched.platform.store.read(lambda v: v.operations(limit=2))
    assert (newest.kind, newest.principal.name) == ("rollback_service", "platform")
    assert newest.reason.startswith("watched after it took over: ")
    assert (aborted.id, aborted.state) == (held.id, OperationState.ROLLED_BACK)
    assert aborted.reason.startswith("aborted by platform: watched after it took over: ")
    assert watched.tries() == 1


async def test_the_time_that_a_canary_had_traffic_is_not_taken_from_the_watch() -> None:
    watched = Watched()
    await watched.deploy("v1")
    new = await watched.deploy("v2")
    assert new.watch is not None
    steps = (Step(weight=10, pause_seconds=3600),)
    settings = watched.platform.workspace.current
    production = settings.environments["production"]
    defaults = production.defaults.model_copy(update={"canary": Canary(steps=steps)})
    environments = {"production": production.model_copy(update={"defaults": defaults})}
    watched.platform.workspace.current = settings.model_copy(update={"environments": environments})
    await watched.deploy("v3", strategy=Strategy.CANARY)
    await watched.passes(1400)
    await manage_operation(watched.platform.ports, ANN, OperationCommand(action="abort", **WHERE))
    await watched.passes(20)
    after = await watched.deployment()
    assert after.live == new.live
    assert after.watch is not None
    assert 690 < (after.watch.until - new.watch.until).total_seconds() < 720


async def test_a_rollback_that_is_refused_is_not_asked_for_each_second(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()
    await watched.deploy("v1")
    new = await watched.deploy("v2")
    assert new.live is not None

    async def refused(*_: Any, **__: Any) -> None:
        raise PlatformError(ErrorCode.RESOURCE_EXHAUSTED, "the disk is nearly full", "make room")

    monkeypatch.setattr(watch_loop, "start_rollback", refused)
    await watched.passes(3)
    watched.platform.compute.restarts[new.live.name] = 3
    await watched.passes(100, seconds=1.0)
    assert watched.tries() == 5, "at once, and after 5, 15, 35 and 75 s"


async def test_where_somebody_goes_back_to_already_is_not_decided_anew_by_the_watch() -> None:
    watched = Watched()
    first = await watched.deploy("v1")
    await watched.deploy("v2")
    bad = await watched.deploy("v3")
    assert first.live is not None
    assert bad.live is not None
    await watched.passes(2)
    await watched.deploy("v4", hold=True)
    command = OperationCommand(action="rollback", to=first.live.name, **WHERE)
    await manage_operation(watched.platform.ports, ANN, command)
    watched.platform.compute.restarts[bad.live.name] = 3
    await watched.watches.pass_over()
    assert watched.tries() == 0
    await watched.passes(40)
    assert (await watched.deployment()).live == first.live
