"""Canaries over the in-memory platform: steps, verdicts, what ends them, and what a restart must not forget."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.domain.canary import Canary, Otherwise, Query, Step, Synthetic, Visitors
from santiago_platform.domain.deployment import Version
from santiago_platform.domain.environment import Environment, ServiceSettings, Settings
from santiago_platform.domain.gates.freeze import FreezeGate
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.operation import OperationState
from santiago_platform.domain.phase import Phase
from santiago_platform.domain.rollout import REHEARSAL_HEADER, Rollout, Seen, VersionSeen
from santiago_platform.domain.rollout_decision import decide
from santiago_platform.domain.strategy import Strategy
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service
from santiago_platform.operations.manage_operation import OperationCommand, manage_operation
from santiago_platform.operations.operation_view import OperationView
from santiago_platform.operations.scale_resources import ScaleRequest, scale_resources
from santiago_platform.ports.compute import InstanceState
from santiago_platform.reconcilers.rollout import RolloutReconciler

ANN = Principal(name="ann", role=Role.DEVELOPER)
WHERE: dict[str, Any] = {"service": "web", "environment": "production"}
FREEZE = FreezeGate(type="freeze", start="2000-01-01T00:00:00", duration="P1D", rule="FREQ=DAILY")
TWO_STEPS = (Step(weight=10, pause_seconds=2), Step(weight=50, analysis=True))


def platform_with(**said: Any) -> FakePlatform:
    canary = Canary(**{"steps": TWO_STEPS, "bucket_seconds": 1, **said})
    settings = Settings(environments={"production": Environment(defaults=ServiceSettings(canary=canary))})
    return FakePlatform(workspace=FakeWorkspace(settings=settings))


class Run:
    """A canary of v2 beside v1, whose loop is passed over by hand. failing: the share of errors, by version name."""

    def __init__(self, platform: FakePlatform) -> None:
        self.platform = platform
        self.requests = 100
        self.failing: dict[str, float] = {}
        self.loop = RolloutReconciler(platform.ports)
        self.operation = ""

    async def begin(self, **said: Any) -> Rollout:
        first = DeployRequest(**WHERE, git_ref="v1", replicas=4)
        await deploy_service(self.platform.ports, ANN, first)
        await self.passes(20)
        request = DeployRequest(**WHERE, git_ref="v2", replicas=4, strategy=Strategy.CANARY, **said)
        self.operation = (await deploy_service(self.platform.ports, ANN, request)).id
        return await self.until(Phase.STARTING, Phase.SHIFTING, Phase.ANALYSING)

    async def passes(self, count: int) -> None:
        for _ in range(count):
            await self.loop.pass_over_all()
            self.platform.clock.advance(0.25)
            self.platform.traffic.serve(self.requests, failing=self.failing)
            await self.platform.clock.sleep(0)

    async def rollout(self) -> Rollout:
        found = await self.platform.store.read(lambda v: v.rollout_of(self.operation))
        assert found is not None
        return found

    async def until(self, *phases: Phase, passes: int = 400) -> Rollout:
        for _ in range(passes):
            rollout = await self.rollout()
            if rollout.phase in phases:
                return rollout
            await self.passes(1)
        raise AssertionError(f"it is {rollout.phase}: {rollout.reason}")

    async def ended(self, passes: int = 400) -> Rollout:
        return await self.until(Phase.SUCCEEDED, Phase.ROLLED_BACK, Phase.FAILED, passes=passes)

    async def tell(self, action: Any, **said: Any) -> OperationView:
        command = OperationCommand(action=action, operation=self.operation, **said)
        return (await manage_operation(self.platform.ports, ANN, command)).operations[0]

    @property
    def weights(self) -> dict[str, int]:
        return self.platform.traffic.routes["web", "production"].weights


def name(version: Version | None) -> str:
    assert version is not None
    return version.name


async def test_a_good_canary_takes_over_step_by_step() -> None:
    run = Run(platform_with())
    await run.begin()
    ended = await run.ended()
    assert (ended.phase, ended.reason) == (Phase.SUCCEEDED, "")
    shares = [route.weights.get(name(ended.new), 0) for route in run.platform.traffic.history]
    assert [share for i, share in enumerate(shares) if share not in shares[:i]] == [0, 10, 50, 1]
    assert run.weights == {name(ended.new): 1}


async def test_the_canary_has_its_share_of_the_replicas_and_the_old_version_all_of_its_own() -> None:
    run = Run(platform_with())
    rollout = await run.begin()
    rollout = await run.until(Phase.ANALYSING)
    await run.passes(1)
    statuses = await run.platform.compute.list("web", "production")
    counts = [sum(s.instance.template.version == name(v) for s in statuses) for v in (rollout.old, rollout.new)]
    assert counts == [4, 1]


async def test_a_bad_canary_is_taken_back_with_the_figures_in_words() -> None:
    run = Run(platform_with())
    rollout = await run.begin()
    run.failing = {name(rollout.new): 0.3}
    ended = await run.ended()
    assert ended.phase is Phase.ROLLED_BACK
    assert ended.reason.startswith("canary 30.0% errors against 0.0%")
    assert run.weights == {name(ended.old): 1}
    answer = await run.tell("status")
    assert answer.state == OperationState.ROLLED_BACK


async def test_without_traffic_it_is_held_and_says_what_is_missing() -> None:
    run = Run(platform_with(max_wait_seconds=20))
    await run.begin()
    run.requests = 0
    await run.passes(200)
    rollout = await run.rollout()
    assert (rollout.phase, rollout.shifted) == (Phase.ANALYSING, 50)
    assert (
        rollout.reason
        == "held, step 2 of 2, 50%: waits for no requests to judge errors by; no requests to judge "
        + ("given up by their clients by")
    )
    await run.tell("promote")
    assert (await run.ended()).phase is Phase.SUCCEEDED


async def test_what_is_not_decided_in_time_is_taken_back_where_that_is_asked_for() -> None:
    run = Run(platform_with(max_wait_seconds=5, otherwise=Otherwise.ABORT))
    await run.begin()
    run.requests = 0
    ended = await run.ended()
    assert ended.phase is Phase.ROLLED_BACK
    assert ended.reason.startswith("not decided within 5 s: no requests to judge errors by")


async def test_a_step_with_an_approval_waits_for_a_promotion_of_its_own() -> None:
    run = Run(platform_with(steps=(Step(weight=10, approval=True), Step(weight=50, approval=True))))
    await run.begin()
    await run.passes(60)
    assert (await run.rollout()).shifted == 10
    await run.tell("promote")
    await run.passes(60)
    rollout = await run.rollout()
    assert (rollout.phase, rollout.shifted) == (Phase.ANALYSING, 50)
    assert rollout.reason == "step 2 of 2, 50%: waits for somebody to promote it"
    await run.tell("promote")
    assert (await run.ended()).phase is Phase.SUCCEEDED


async def test_a_step_waits_for_as_many_requests_as_it_asks_for() -> None:
    run = Run(platform_with(steps=(Step(weight=10, requests=300), Step(weight=50))))
    await run.begin()
    run.requests = 0
    await run.until(Phase.ANALYSING)
    await run.passes(40)
    rollout = await run.rollout()
    assert rollout.reason == "step 1 of 2, 10%: waits for 300 more requests of the canary"
    run.requests = 100
    assert (await run.ended()).phase is Phase.SUCCEEDED


@pytest.mark.parametrize("passes", [0, 3, 12, 40])
async def test_it_can_be_aborted_at_any_step(passes: int) -> None:
    run = Run(platform_with(steps=(Step(weight=10, pause_seconds=4), Step(weight=50, pause_seconds=600))))
    await run.begin()
    await run.passes(passes)
    await run.tell("abort", reason="a hunch")
    ended = await run.ended()
    assert (ended.phase, ended.reason) == (Phase.ROLLED_BACK, "aborted by ann: a hunch")
    assert run.weights == {name(ended.old): 1}


async def test_a_restart_of_the_loop_forgets_nothing_that_speaks_against_the_canary() -> None:
    run = Run(platform_with(steps=(Step(weight=10, pause_seconds=600),)))
    rollout = await run.begin()
    rollout = await run.until(Phase.ANALYSING)
    run.failing = {name(rollout.new): 0.1}
    await run.passes(12)
    before = (await run.rollout()).analysis
    assert before is not None
    assert before.judge.counted[0].abort.log_e > 0
    run.loop = RolloutReconciler(run.platform.ports)
    await run.passes(2)
    after = (await run.rollout()).analysis
    assert after == before, "and the first reading after it is only the beginning of a bucket"
    assert (await run.ended()).phase is Phase.ROLLED_BACK


async def test_a_canary_whose_instances_end_by_themselves_is_taken_back() -> None:
    run = Run(platform_with(steps=(Step(weight=10, pause_seconds=600),)))
    await run.begin()
    rollout = await run.until(Phase.ANALYSING)
    run.platform.traffic.unhealthy = {name(rollout.new)}
    ended = await run.ended()
    assert ended.phase is Phase.ROLLED_BACK
    assert "of 1 instances are ready" in ended.reason


async def test_a_canary_that_nobody_can_reach_is_taken_back_though_its_own_probe_passes() -> None:
    run = Run(platform_with(steps=(Step(weight=10, pause_seconds=600),)))
    await run.begin()
    rollout = await run.until(Phase.ANALYSING)
    run.platform.traffic.unhealthy = {name(rollout.new)}
    ended = await run.ended(passes=20)
    assert ended.reason == "0 of 1 instances are ready (the ingress finds them ill)"


async def flap(run: Run, unhealthy: set[str], times: int) -> None:
    """Two seconds ill, and then well for as long."""
    for _ in range(times):
        for ill in (unhealthy, set[str]()):
            run.platform.traffic.unhealthy = ill
            await run.passes(8)


async def test_a_canary_that_becomes_ill_and_well_again_and_again_is_taken_back() -> None:
    run = Run(platform_with(steps=(Step(weight=10, pause_seconds=600),)))
    await run.begin()
    rollout = await run.until(Phase.ANALYSING)
    await flap(run, {name(rollout.new)}, 2)
    assert (await run.rollout()).phase is Phase.ANALYSING
    await flap(run, {name(rollout.new)}, 1)
    ended = await run.ended()
    assert ended.phase is Phase.ROLLED_BACK
    assert ended.reason == "its instances stopped being ready 3 times in 5 minutes (the ingress finds them ill)"


async def test_what_became_ill_long_ago_does_not_count_as_flapping() -> None:
    run = Run(platform_with(steps=(Step(weight=10, pause_seconds=900),)))
    await run.begin()
    rollout = await run.until(Phase.ANALYSING)
    for _ in range(4):
        await flap(run, {name(rollout.new)}, 1)
        await run.passes(4 * 160)
    assert (await run.rollout()).phase is Phase.ANALYSING


async def test_a_jump_of_the_clock_makes_no_lapse_older() -> None:
    run = Run(platform_with(steps=(Step(weight=10, pause_seconds=600),)))
    await run.begin()
    rollout = await run.until(Phase.ANALYSING)
    await flap(run, {name(rollout.new)}, 2)
    run.platform.clock.jump(86_400)
    await flap(run, {name(rollout.new)}, 1)
    assert "stopped being ready 3 times" in (await run.ended()).reason


async def test_one_ill_instance_beside_another_is_no_lapse() -> None:
    run = Run(platform_with(steps=(Step(weight=10, pause_seconds=600, replicas=2),)))
    await run.begin()
    rollout = await run.until(Phase.ANALYSING)
    well = VersionSeen(ready=2, healthy=2)
    for healthy in (1, 2, 1, 2, 1, 2, 1):
        new = VersionSeen(ready=2, healthy=healthy)
        rollout = decide(rollout, Seen(old=well, new=new), (), rollout.phase_since)
    assert (rollout.phase, rollout.lapses) == (Phase.ANALYSING, ())


async def test_proxies_that_find_nobody_healthy_say_nothing_of_the_canary() -> None:
    run = Run(platform_with(steps=(Step(weight=10, pause_seconds=600),)))
    await run.begin()
    rollout = await run.until(Phase.ANALYSING)
    await flap(run, {name(rollout.new), name(rollout.old)}, 5)
    assert (await run.rollout()).phase is Phase.ANALYSING


@pytest.mark.parametrize(("restarts", "failing"), [(1, 0.5), (3, 0.0)])
async def test_the_reason_names_how_its_instances_ended(restarts: int, failing: float) -> None:
    run = Run(platform_with(steps=(Step(weight=10, pause_seconds=600),)))
    await run.begin()
    rollout = await run.until(Phase.ANALYSING)
    run.failing = {name(rollout.new): failing}
    run.platform.compute.last_end = "ran out of memory (limit 128Mi)"
    run.platform.compute.restarts = {name(rollout.new): restarts}
    ended = await run.ended()
    count = "once" if restarts == 1 else "3 times"
    assert ended.reason.endswith(f"ended by themselves {count}: the last one ran out of memory (limit 128Mi)")
    assert ("errors against" in ended.reason) == (failing > 0)


async def test_a_proxy_that_begins_anew_is_no_reason_to_take_a_canary_back() -> None:
    run = Run(platform_with(steps=(Step(weight=10, pause_seconds=20),)))
    await run.begin()
    rollout = await run.until(Phase.ANALYSING)
    run.platform.traffic.unhealthy = {name(rollout.new)}
    await run.passes(6)
    run.platform.traffic.unhealthy = set()
    run.platform.traffic.restart("proxy-a")
    assert (await run.ended()).phase is Phase.SUCCEEDED


async def test_visitors_get_the_canary_at_any_weight_and_nobody_does_afterwards() -> None:
    visitors = (Visitors(header={"X-Canary": "always"}),)
    run = Run(platform_with(steps=(Step(weight=0, pause_seconds=2), Step(weight=10)), visitors=visitors, sticky=True))
    await run.begin()
    await run.until(Phase.ANALYSING)
    await run.passes(1)
    route = run.platform.traffic.routes["web", "production"]
    assert (route.matches[0].header, route.sticky) == (("x-canary", "always"), True)
    await run.ended()
    await run.passes(2)
    assert run.platform.traffic.routes["web", "production"].matches == ()


async def test_copies_of_requests_go_to_a_canary_without_weight() -> None:
    run = Run(platform_with(steps=(Step(weight=0, pause_seconds=2), Step(weight=10)), mirror_percent=30))
    await run.begin()
    rollout = await run.until(Phase.ANALYSING)
    await run.passes(1)
    mirror = run.platform.traffic.routes["web", "production"].mirror
    assert mirror is not None
    assert (mirror.version, mirror.percent) == (name(rollout.new), 30)


@pytest.mark.parametrize("strategy", [Strategy.CANARY, Strategy.BLUE_GREEN, Strategy.ROLLING])
async def test_the_way_back_is_rehearsed_before_traffic_moves(strategy: Strategy) -> None:
    run = Run(platform_with())
    await deploy_service(run.platform.ports, ANN, DeployRequest(**WHERE, git_ref="v1", replicas=2))
    await run.passes(20)
    begun = len(run.platform.traffic.history)
    request = DeployRequest(**WHERE, git_ref="v2", replicas=2, strategy=strategy)
    run.operation = (await deploy_service(run.platform.ports, ANN, request)).id
    ended = await run.ended()
    history = run.platform.traffic.history[begun:]
    there = [i for i, route in enumerate(history) if route.matches]
    assert history[there[0]].matches[0].header == (REHEARSAL_HEADER, ended.id)
    back = next(i for i, route in enumerate(history) if i > there[-1])
    moved = next(i for i, route in enumerate(history) if route.weights.get(name(ended.new)))
    assert history[back].weights == {name(ended.old): 1}
    assert back < moved


async def test_where_the_way_back_cannot_be_proven_no_traffic_moves() -> None:
    run = Run(platform_with())
    await deploy_service(run.platform.ports, ANN, DeployRequest(**WHERE, git_ref="v1"))
    await run.passes(20)
    old = run.weights
    request = DeployRequest(**WHERE, git_ref="v2", strategy=Strategy.CANARY)
    run.operation = (await deploy_service(run.platform.ports, ANN, request)).id
    run.platform.traffic.sabotaged = True
    ended = await run.ended()
    assert ended.phase is Phase.FAILED
    assert ended.reason.startswith("the way back could not be rehearsed: DRIFT")
    assert run.weights == old


async def test_a_metric_of_the_users_own_decides_too() -> None:
    query = Query(name="queue length", query='queue{version="$version"}')
    run = Run(platform_with(metrics=(query,), steps=(Step(weight=10, pause_seconds=600),)))
    rollout = await run.begin()
    await run.until(Phase.ANALYSING)
    values = {rollout.new: 12.0, rollout.old: 10.0}
    run.platform.metrics.values = {f'queue{{version="{name(version)}"}}': n for version, n in values.items()}
    ended = await run.ended(passes=1200)
    assert ended.phase is Phase.ROLLED_BACK
    assert ended.reason.startswith("canary queue length 12 against 10")


async def test_a_first_deploy_by_canary_has_nothing_to_compare_with_and_goes_at_once() -> None:
    run = Run(platform_with())
    request = DeployRequest(**WHERE, git_ref="v1", strategy=Strategy.CANARY)
    run.operation = (await deploy_service(run.platform.ports, ANN, request)).id
    assert (await run.ended()).phase is Phase.SUCCEEDED


async def test_a_release_that_held_there_before_is_back_at_once() -> None:
    run = Run(platform_with())
    await deploy_service(run.platform.ports, ANN, DeployRequest(**WHERE, git_ref="v1", strategy=Strategy.BLUE_GREEN))
    await run.passes(20)
    settings = run.platform.workspace.current.environments["production"].defaults
    usual = settings.model_copy(update={"strategy": Strategy.CANARY})
    run.platform.workspace.current = Settings(environments={"production": Environment(defaults=usual)})
    run.operation = (await deploy_service(run.platform.ports, ANN, DeployRequest(**WHERE, git_ref="v2"))).id
    assert (await run.ended()).strategy is Strategy.CANARY
    first = (await run.platform.artifacts.build("web", await run.platform.artifacts.resolve("v1"))).digest
    again = DeployRequest(**WHERE, release=first)
    run.operation = (await deploy_service(run.platform.ports, ANN, again)).id
    assert (await run.ended()).strategy is Strategy.BLUE_GREEN


@pytest.mark.parametrize("seconds", [86_400, -3600])
async def test_a_jump_of_the_clock_neither_ends_a_step_nor_holds_it_up(seconds: float) -> None:
    run = Run(platform_with(steps=(Step(weight=50, pause_seconds=6, analysis=True),), max_wait_seconds=60))
    await run.begin()
    before = await run.until(Phase.ANALYSING)
    await run.passes(8)
    run.platform.clock.jump(seconds)
    await run.passes(1)
    after = await run.rollout()
    assert after.phase is Phase.ANALYSING
    assert (after.phase_since - before.phase_since).total_seconds() == pytest.approx(seconds, abs=1)
    assert (await run.ended()).phase is Phase.SUCCEEDED


async def test_a_freeze_that_begins_meanwhile_holds_the_next_step_until_it_ends_or_somebody_promotes() -> None:
    run = Run(platform_with(steps=(Step(weight=10, pause_seconds=2), Step(weight=50, pause_seconds=2))))
    await run.begin()
    await run.until(Phase.ANALYSING)
    free = run.platform.workspace.current
    frozen = free.environments["production"].model_copy(update={"gates": (FREEZE,)})
    run.platform.workspace.current = free.model_copy(update={"environments": {"production": frozen}})
    await run.passes(60)
    rollout = await run.rollout()
    assert (rollout.phase, rollout.shifted) == (Phase.ANALYSING, 10)
    assert "1 gate does not pass: fail freeze" in rollout.reason
    run.platform.workspace.current = free
    assert (await run.ended()).phase is Phase.SUCCEEDED


@pytest.mark.parametrize("good", [True, False])
async def test_where_too_few_ask_the_platform_asks_both_versions_itself(good: bool) -> None:
    said = Synthetic(paths=("/", "/cart"), per_second=100)
    steps = (Step(weight=10), Step(weight=50, requests=100))
    run = Run(platform_with(steps=steps, max_wait_seconds=20, otherwise=Otherwise.SYNTHETIC, synthetic=said))
    rollout = await run.begin()
    run.requests = 0
    if not good:
        run.platform.visitor.failing = {name(rollout.new)}
    ended = await run.ended()
    assert ended.phase is (Phase.SUCCEEDED if good else Phase.ROLLED_BACK)
    asked = run.platform.visitor.asked
    assert {version for version, _ in asked} == {name(rollout.new), name(rollout.old)}
    assert {path for _, path in asked} == {"/", "/cart"}
    count = len(asked)
    await run.passes(20)
    assert len(run.platform.visitor.asked) == count, "it ends with the rollout"


async def test_what_was_counted_at_a_step_still_counts_when_the_platform_asks_too() -> None:
    steps = (Step(weight=10, pause_seconds=2, requests=10_000_000),)
    run = Run(platform_with(steps=steps, max_wait_seconds=20, otherwise=Otherwise.SYNTHETIC))
    await run.begin()
    for _ in range(200):
        await run.passes(1)
        if (before := await run.rollout()).synthetic:
            break
    assert before.analysis is not None
    held = await run.until(Phase.ANALYSING)
    await run.passes(20)
    held = await run.rollout()
    assert held.proof is not None
    assert held.analysis is not None
    counts = [a.judge.counted[0].at_weight.canary_requests for a in (before.analysis, held.analysis)]
    assert 0 < counts[0] <= counts[1]
    assert "of its pause" not in held.reason
    await run.passes(100)
    assert (await run.rollout()).needs_somebody


async def test_a_promotion_out_of_hold_is_not_taken_for_one_of_the_first_step() -> None:
    run = Run(platform_with(steps=(Step(weight=10, pause_seconds=600),)))
    await run.begin(hold=True)
    await run.until(Phase.HOLDING)
    await run.tell("promote")
    await run.until(Phase.ANALYSING)
    await run.passes(20)
    rollout = await run.rollout()
    assert (rollout.phase, rollout.shifted) == (Phase.ANALYSING, 10)


async def test_a_promotion_between_two_steps_is_refused_and_skips_none() -> None:
    run = Run(platform_with(steps=(Step(weight=10, approval=True), Step(weight=50, approval=True))))
    await run.begin()
    await run.until(Phase.ANALYSING)
    await run.passes(2)
    late = await run.rollout()
    await run.tell("promote")
    message = (await run.platform.store.read(lambda v: list(v.messages(late.id))))[0]
    await run.platform.store.write(lambda tx: tx.add_message(late.id, message.model_copy(update={"id": "again"})))
    await run.passes(40)
    assert (await run.rollout()).shifted == 50, "the second click was about the first step, too"


async def test_scaling_a_canary_gives_the_new_instances_their_time() -> None:
    run = Run(platform_with(steps=(Step(weight=50, pause_seconds=5),)))
    await run.begin()
    await run.until(Phase.ANALYSING)
    await scale_resources(run.platform.ports, ANN, ScaleRequest(**WHERE, replicas=8))
    ended = await run.ended()
    assert (ended.phase, ended.new and ended.new.replicas) == (Phase.SUCCEEDED, 8)


async def test_a_live_version_that_is_broken_does_not_keep_its_fix_away() -> None:
    run = Run(platform_with())
    await deploy_service(run.platform.ports, ANN, DeployRequest(**WHERE, git_ref="v1"))
    await run.passes(20)
    live = await run.platform.store.read(lambda v: v.deployment("web", "production"))
    assert live is not None
    assert live.live is not None
    run.platform.compute.broken[live.live.template.release] = (InstanceState.UNREADY, "it answers 500")
    run.platform.traffic.unhealthy = {live.live.name}
    fix = DeployRequest(**WHERE, git_ref="v2", strategy=Strategy.BLUE_GREEN)
    run.operation = (await deploy_service(run.platform.ports, ANN, fix)).id
    assert (await run.ended()).phase is Phase.SUCCEEDED


async def test_a_worker_without_ports_has_no_traffic_to_judge_and_goes_at_once() -> None:
    run = Run(platform_with())
    run.platform.workspace.ports = ()
    for ref in ("v1", "v2"):
        request = DeployRequest(**WHERE, git_ref=ref, strategy=Strategy.CANARY)
        run.operation = (await deploy_service(run.platform.ports, ANN, request)).id
        assert (await run.ended()).phase is Phase.SUCCEEDED


async def journal(run: Run) -> int:
    rollout = await run.rollout()
    return len(await run.platform.store.read(lambda v: v.journal(rollout.id)))


async def test_looks_that_change_no_verdict_are_stored_every_few_seconds() -> None:
    run = Run(platform_with(steps=(Step(weight=10, pause_seconds=600),)))
    await run.begin()
    await run.until(Phase.ANALYSING)
    await run.passes(12)
    before = await journal(run)
    await run.passes(4 * 60)
    assert 60 / 5 - 2 <= await journal(run) - before <= 60 / 5 + 1, "a line every five seconds"


async def test_a_crash_loses_at_most_the_looks_of_a_few_seconds_and_counts_no_request_twice() -> None:
    run = Run(platform_with(steps=(Step(weight=50, pause_seconds=600),)))
    rollout = await run.begin()
    await run.until(Phase.ANALYSING)
    counted, served = 0, 0
    for lives in range(1, 6):
        await run.passes(4 * 8 + lives)
        served += (4 * 8 + lives) * run.requests // 2
        analysis = (await run.rollout()).analysis
        assert analysis is not None
        seen = analysis.judge.counted[0].whole.canary_requests
        assert counted <= seen <= served, "none twice"
        assert served - seen <= lives * (5 + 2) * 4 * run.requests // 2, (
            "five seconds and the bucket under way, each time"
        )
        counted = seen
        run.loop = RolloutReconciler(run.platform.ports)
    run.failing = {name(rollout.new): 0.3}
    assert (await run.ended()).phase is Phase.ROLLED_BACK


async def test_what_a_step_waits_for_is_said_anew_when_its_pause_is_over_though_nobody_asks() -> None:
    run = Run(platform_with(steps=(Step(weight=10, pause_seconds=5, requests=300),)))
    await run.begin()
    run.requests = 0
    await run.until(Phase.ANALYSING)
    await run.passes(2)
    assert "of its pause; 300 more requests" in (await run.rollout()).reason
    await run.passes(30)
    assert (await run.rollout()).reason == "step 1 of 1, 10%: waits for 300 more requests of the canary"


async def test_looks_are_kept_when_a_rollout_is_scaled_or_the_clock_jumps_or_somebody_aborts_it() -> None:
    for event in ("scale", "jump", "abort"):
        run = Run(platform_with(steps=(Step(weight=50, pause_seconds=600),)))
        await run.begin()
        await run.until(Phase.ANALYSING)
        await run.passes(4 * 4)
        stored = (await run.rollout()).analysis
        assert stored is not None
        if event == "scale":
            await scale_resources(run.platform.ports, ANN, ScaleRequest(**WHERE, replicas=8))
        elif event == "jump":
            run.platform.clock.jump(3600)
        else:
            await run.tell("abort")
        await run.passes(1)
        after = (await run.rollout()).analysis
        assert after is not None
        assert after.judge.counted[0].whole.canary_requests > stored.judge.counted[0].whole.canary_requests, event


async def test_when_the_loop_ends_the_platform_asks_nobody_any_more() -> None:
    said = Synthetic(per_second=100)
    run = Run(platform_with(steps=(Step(weight=10, requests=10**6),), otherwise=Otherwise.SYNTHETIC, synthetic=said))
    await run.begin()
    run.requests = 0
    rollout = await run.until(Phase.ANALYSING)
    asking = rollout.model_copy(update={"synthetic": True, "epoch": rollout.epoch + 1})
    await run.platform.store.write(lambda tx: tx.save_rollout(asking))
    running = asyncio.create_task(run.loop.run())
    async with asyncio.timeout(10):
        while not run.platform.visitor.asked:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    count = len(run.platform.visitor.asked)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(run.platform.visitor.asked) == count


async def test_a_jump_of_the_clock_leaves_the_version_before_warm_for_as_long_as_it_would_have_been() -> None:
    run = Run(platform_with())
    await run.begin()
    ended = await run.ended()
    await run.passes(2)
    run.platform.clock.jump(86_400)
    await run.passes(8)
    after = await run.platform.store.read(lambda v: v.deployment("web", "production"))
    assert after is not None
    assert after.warm(run.platform.clock.now()) == ended.old
    assert name(ended.old) in {s.instance.template.version for s in await run.platform.compute.list()}
    run.platform.clock.advance(600)
    await run.passes(8)
    assert {s.instance.template.version for s in await run.platform.compute.list()} == {name(ended.new)}


@pytest.mark.parametrize("event", ["abort", "restarts", "in time"])
async def test_a_history_that_is_slow_to_read_keeps_nobody_from_taking_a_canary_back(event: str) -> None:
    run = Run(platform_with(steps=(Step(weight=10),)))
    read, asked = asyncio.Event(), 0

    async def slow(*_: Any, **__: Any) -> tuple[()]:
        nonlocal asked
        asked += 1
        await read.wait()
        return ()

    run.platform.metrics.history = slow  # type: ignore[method-assign]
    await run.begin()
    rollout = await run.until(Phase.ANALYSING)
    await run.passes(4)
    rollout = await run.rollout()
    assert (asked, rollout.phase, rollout.analysis) == (1, Phase.ANALYSING, None)
    assert "waits for the history of the version before" in rollout.reason
    if event == "abort":
        await run.tell("abort")
    elif event == "restarts":
        run.platform.compute.restarts[name(rollout.new)] = 3
    else:
        read.set()
    ended = await run.ended(passes=20)
    assert ended.phase is (Phase.SUCCEEDED if event == "in time" else Phase.ROLLED_BACK)
    await run.loop._canary.end()


async def test_the_history_of_stable_is_read_before_traffic_moves() -> None:
    run = Run(platform_with())
    shares: list[int] = []
    read = run.platform.metrics.history

    async def history(*where: Any, **span: Any) -> Any:
        shares.append(len(run.weights))
        return await read(*where, **span)

    run.platform.metrics.history = history  # type: ignore[method-assign]
    await run.begin()
    assert (await run.ended()).analysis is not None
    assert shares == [1], "as many versions have traffic"


@pytest.mark.parametrize(("target", "margin"), [(None, 0.005), (0.999, 0.0005), (0.9, 0.05)])
async def test_the_judge_accepts_half_of_what_the_tightest_objective_leaves(
    target: float | None, margin: float
) -> None:
    run = Run(platform_with(steps=TWO_STEPS))
    if target is not None:
        run.platform.error_budget.targets["web"] = target
    await run.begin()
    await run.until(Phase.ANALYSING)
    await run.passes(4)
    analysis = (await run.rollout()).analysis
    assert analysis is not None
    margins = {c.name: c.promotion.margin_ratio for c in analysis.judge.counted}
    assert margins["errors"] == pytest.approx(margin)


async def test_a_promotion_is_kept_where_the_canary_is_scaled_in_the_same_pass() -> None:
    run = Run(platform_with(steps=(Step(weight=10, approval=True), Step(weight=50, approval=True))))
    await run.begin()
    await run.until(Phase.ANALYSING)
    await run.passes(4)
    await run.tell("promote")
    await scale_resources(run.platform.ports, ANN, ScaleRequest(**WHERE, replicas=8))
    await run.passes(40)
    rollout = await run.rollout()
    assert (rollout.phase, rollout.step, rollout.replicas) == (Phase.ANALYSING, 1, 8), "the next step has its own"


@pytest.mark.parametrize("well_again", [False, True])
async def test_a_canary_that_is_all_that_answers_has_its_full_number_before_it_gets_all_traffic(
    well_again: bool,
) -> None:
    run = Run(platform_with(steps=(Step(weight=10, approval=True),)))
    await run.begin()
    rollout = await run.until(Phase.ANALYSING)
    assert rollout.old is not None
    release = rollout.old.template.release
    run.platform.compute.broken[release] = (InstanceState.UNREADY, "GET /healthz answered 503")
    await run.passes(2)
    await run.tell("abort")
    await run.passes(4)
    statuses = await run.platform.compute.list("web", "production")
    assert sum(s.instance.template.version == name(rollout.new) for s in statuses) == 4
    assert len(run.weights) == 2
    if well_again:
        del run.platform.compute.broken[release]
    ended = await run.ended()
    assert run.weights == {name(rollout.old if well_again else rollout.new): 1}
    assert (ended.phase, ended.stranded) == ((Phase.ROLLED_BACK, False) if well_again else (Phase.FAILED, True))
    assert ended.reason.endswith("so all traffic goes to the version that answers") is not well_again
