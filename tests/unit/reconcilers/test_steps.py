"""Each phase of each strategy, in memory: it succeeds, is repeated, fails and goes back, is killed and resumed.

The walk goes over the enums: a phase, a strategy or a condition of a canary's step that has no row here fails it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.domain.canary import Canary, Step
from santiago_platform.domain.environment import Environment, ServiceSettings, Settings
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.job import Job, When
from santiago_platform.domain.phase import DEADLINES, Phase
from santiago_platform.domain.proof import Verdict
from santiago_platform.domain.rollout import Rollout
from santiago_platform.domain.ship_log import EntryKind
from santiago_platform.domain.strategy import Strategy
from santiago_platform.operations.change import close_interrupted
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service
from santiago_platform.operations.manage_operation import OperationCommand, manage_operation
from santiago_platform.ports import Ports
from santiago_platform.ports.compute import InstanceState
from santiago_platform.reconcilers.rollout import RolloutReconciler
from santiago_platform.testing.crashing import Killed, Reaper, around, twice

ANN = Principal(name="ann", role=Role.DEVELOPER)
WHERE: dict[str, Any] = {"service": "web", "environment": "production"}
KEY = ("web", "production")
JOBS = tuple(Job(name=str(when), when=when, command=("run",)) for when in (When.PRE_DEPLOY, When.POST_DEPLOY))
STEPS = (
    Step(weight=0, pause_seconds=1),
    Step(weight=10, requests=20, replicas=1),
    Step(weight=25, approval=True),
    Step(weight=50, analysis=True),
)
# Phases that a strategy has nothing to do in.
NEVER = {
    Strategy.BLUE_GREEN: {Phase.STOPPING, Phase.ANALYSING},
    Strategy.ROLLING: {Phase.STOPPING, Phase.ANALYSING},
    Strategy.RECREATE: {Phase.REHEARSING, Phase.ANALYSING},
    Strategy.CANARY: {Phase.STOPPING},
}


class Walk:
    """A deploy of v2 over v1 with everything that a rollout may have: a build, jobs, a hold, a canary's steps."""

    def __init__(self, strategy: Strategy, trouble: Trouble | None = None) -> None:
        defaults = ServiceSettings(canary=Canary(steps=STEPS, bucket_seconds=1))
        settings = Settings(environments={"production": Environment(defaults=defaults)})
        self.platform = FakePlatform(workspace=FakeWorkspace(settings=settings))
        self.strategy, self.trouble = strategy, trouble
        self.reaper: Reaper | None = None
        self.failing: dict[str, float] = {}
        self.old, self.operation = "", ""
        self.made = self.mended = False

    async def begin(self) -> None:
        await deploy_service(self.platform.ports, ANN, DeployRequest(**WHERE, git_ref="v1", replicas=2))
        await self.passes(RolloutReconciler(self.platform.ports))
        deployment = await self.platform.store.read(lambda v: v.deployment(*KEY))
        assert deployment is not None
        assert deployment.live is not None
        self.old = deployment.live.name
        self.platform.artifacts.jobs = JOBS

    async def ask(self, ports: Ports) -> None:
        asked = DeployRequest(**WHERE, git_ref="v2", replicas=2, strategy=self.strategy, hold=True)
        await deploy_service(ports, ANN, asked)
        await self.look()

    async def passes(self, *loops: RolloutReconciler) -> None:
        """Until nothing is running."""
        for _ in range(150):
            await asyncio.gather(*(loop.pass_over_all() for loop in loops))
            await self.look()
            self.platform.clock.advance(0.25)
            self.platform.traffic.serve(8000, failing=self.failing)
            await self.platform.clock.sleep(0)
            running = await self.platform.store.read(
                lambda v: [*v.operations(running=True), *v.operations(unlogged=True)]
            )
            if not running:
                return
        raise AssertionError("it hangs")

    async def look(self) -> None:
        """What happens around the loop: trouble as soon as its phase is stored, and somebody who promotes."""
        rollout = await self.platform.store.read(lambda v: v.active_rollout(*KEY))
        if rollout is None or not self.old:
            return
        trouble = self.trouble
        if trouble and rollout.phase is trouble.phase and not self.made:
            self.made = True
            await trouble.make(self, rollout)
            if self.reaper is not None:
                self.reaper.armed = True
        elif trouble and self.made and not self.mended and trouble.mended_in(rollout.phase):
            self.mended = True
            await trouble.mend(self, rollout)
        waits = rollout.phase is Phase.HOLDING or (rollout.phase is Phase.ANALYSING and rollout.needs_somebody)
        if waits and (trouble is None or trouble.phase is not Phase.HOLDING):
            command = OperationCommand(action="promote", operation=rollout.operation_id)
            await manage_operation(self.platform.ports, ANN, command)

    def loop(self, ports: Ports | None = None) -> RolloutReconciler:
        """One that is looked at after each of its writes."""
        given = ports or self.platform.ports

        async def looked_at(port: str, call: Any, *args: Any, **kwargs: Any) -> Any:
            value = await call(*args, **kwargs)
            if port == "store":
                await self.look()
            return value

        return RolloutReconciler(around(given, looked_at))

    async def rollout(self) -> Rollout | None:
        newest = (await self.platform.store.read(lambda v: v.operations(limit=1)))[0]
        return await self.platform.store.read(lambda v: v.rollout_of(newest.id))

    async def phases(self) -> set[Phase]:
        rollout = await self.rollout()
        assert rollout is not None
        return {step.phase for step in await self.platform.store.read(lambda v: v.journal(rollout.id))}

    async def end(self) -> dict[str, Any]:
        """All that is left to see once what leaves has left; without the figures in words."""
        rollout = await self.rollout()
        assert rollout is not None
        deployment = await self.platform.store.read(lambda v: v.deployment(*KEY))
        assert deployment is not None
        entries = self.platform.ship_log.entries
        completed = [e.of for e in entries if e.kind is EntryKind.COMPLETED]
        assert len(completed) == len(set(completed)), "each entry is completed once"
        assert await self.platform.ship_log.unfinished() == []
        assert not await self.platform.store.read(lambda v: v.job_runs(unfinished=True))
        loop = RolloutReconciler(self.platform.ports)
        for _ in range(4):  # what leaves is drained
            await loop.pass_over_all()
            self.platform.clock.advance(0.5)
        started = [run.split("__")[2].split(".")[0] for run in self.platform.jobs.started]
        assert len(started) == len(set(started)), "no job runs twice"
        return {
            "phase": rollout.phase,
            "reason": re.sub(r"[\d.,]+", "#", rollout.reason),
            "proof": rollout.proof and rollout.proof.verdict,
            "live": deployment.live and deployment.live.name,
            "weights": self.platform.traffic.routes[KEY].weights,
            "matches": self.platform.traffic.routes[KEY].matches,
            "instances": sorted(s.instance.id for s in await self.platform.compute.list()),
            "jobs": started,
        }


async def nothing(walk: Walk, rollout: Rollout) -> None:
    """It mends itself."""


@dataclass(frozen=True)
class Trouble:
    """What goes wrong in a phase, and is mended on the way back. says: why, in the reason."""

    phase: Phase
    name: str
    make: Callable[[Walk, Rollout], Awaitable[None]]
    mend: Callable[[Walk, Rollout], Awaitable[None]] = nothing
    says: str = ""

    def mended_in(self, phase: Phase) -> bool:
        return phase.going_back and not self.phase.going_back


async def abort(walk: Walk, rollout: Rollout) -> None:
    command = OperationCommand(action="abort", operation=rollout.operation_id)
    await manage_operation(walk.platform.ports, ANN, command)


async def not_built(walk: Walk, rollout: Rollout) -> None:
    commit = await walk.platform.artifacts.resolve("v2")
    walk.platform.artifacts.failing[commit] = PlatformError(ErrorCode.FAILED_PRECONDITION, "the build failed")


def job_fails(when: When) -> Callable[[Walk, Rollout], Awaitable[None]]:
    async def make(walk: Walk, rollout: Rollout) -> None:
        walk.platform.jobs.failing[str(when)] = "exited with code 1"

    return make


def passes_by(phase: Phase) -> Callable[[Walk, Rollout], Awaitable[None]]:
    async def make(walk: Walk, rollout: Rollout) -> None:
        walk.platform.clock.advance((rollout.deadline - rollout.phase_since).total_seconds() + 1)

    return make


async def old_does_not_stop(walk: Walk, rollout: Rollout) -> None:
    async def stop(instance_id: str) -> None:
        """In vain."""

    walk.platform.compute.stop = stop  # type: ignore[method-assign]
    await passes_by(Phase.STOPPING)(walk, rollout)


async def it_stops(walk: Walk, rollout: Rollout) -> None:
    del walk.platform.compute.stop


async def dies(walk: Walk, rollout: Rollout) -> None:
    assert rollout.new is not None
    walk.platform.compute.broken[rollout.new.template.release] = (InstanceState.FAILED, "exited with code 1")


async def not_acknowledged(walk: Walk, rollout: Rollout) -> None:
    walk.platform.traffic.acknowledging = False
    await passes_by(rollout.phase)(walk, rollout)


async def acknowledged(walk: Walk, rollout: Rollout) -> None:
    walk.platform.traffic.acknowledging = True


async def route_is_changed(walk: Walk, rollout: Rollout) -> None:
    """By another hand, while the proxies go on to say what they were told."""
    traffic = walk.platform.traffic
    traffic.routes[KEY] = next(r for r in traffic.history[::-1] if r.weights != traffic.routes[KEY].weights)
    traffic.sabotaged = True
    await passes_by(rollout.phase)(walk, rollout)


async def route_is_mended(walk: Walk, rollout: Rollout) -> None:
    walk.platform.traffic.sabotaged = False


async def blind(walk: Walk, rollout: Rollout) -> None:
    walk.platform.probe.blind = True
    await passes_by(rollout.phase)(walk, rollout)


async def seeing(walk: Walk, rollout: Rollout) -> None:
    walk.platform.probe.blind = False


async def answers_errors(walk: Walk, rollout: Rollout) -> None:
    assert rollout.new is not None
    walk.failing = {rollout.new.name: 0.5}


async def unready(walk: Walk, rollout: Rollout) -> None:
    assert rollout.new is not None
    walk.platform.traffic.unhealthy = {rollout.new.name}


IN_A_PHASE = (
    Trouble(Phase.RELEASING, "the build fails", not_built, says="the build failed"),
    Trouble(Phase.PREPARING, "a job fails", job_fails(When.PRE_DEPLOY), says="the job pre-deploy exited"),
    Trouble(Phase.STOPPING, "the old version does not stop", old_does_not_stop, it_stops, says="did not stop in time"),
    Trouble(Phase.STARTING, "the new version dies", dies, says="exited with code"),
    Trouble(Phase.HOLDING, "nobody promotes it", passes_by(Phase.HOLDING), says="nobody promoted it in time"),
    Trouble(Phase.REHEARSING, "nobody can look", blind, seeing, says="the way back could not be rehearsed"),
    Trouble(Phase.SHIFTING, "no proxy acknowledges", not_acknowledged, acknowledged, says="did not take the new"),
    Trouble(Phase.ANALYSING, "it answers errors", answers_errors, says="errors against"),
    Trouble(Phase.ANALYSING, "it is not ready", unready, says="instances are ready"),
    Trouble(
        Phase.PROVING,
        "somebody changes the route",
        route_is_changed,
        route_is_mended,
        says="the effect is not as claimed",
    ),
    Trouble(Phase.FINISHING, "a job fails", job_fails(When.POST_DEPLOY), says="the job post-deploy exited"),
)
ABORTS = tuple(
    Trouble(phase, "somebody aborts it", abort, says="aborted by ann")
    for phase in Phase
    if not phase.finished and not phase.going_back
)


def troubled(strategy: Strategy) -> list[Trouble]:
    return [t for t in (*IN_A_PHASE, *ABORTS) if t.phase not in NEVER[strategy]]


CASES = [pytest.param(s, t, id=f"{s} {t.phase}: {t.name}") for s in Strategy for t in troubled(s)]


async def whole(strategy: Strategy) -> Walk:
    walk = Walk(strategy)
    await walk.begin()
    await walk.ask(walk.platform.ports)
    await walk.passes(walk.loop())
    return walk


@pytest.mark.parametrize("strategy", Strategy)
async def test_each_step_succeeds(strategy: Strategy) -> None:
    walk = await whole(strategy)
    end = await walk.end()
    back = {Phase.RESTORING, Phase.REVERTING, Phase.ROLLED_BACK, Phase.FAILED}
    assert await walk.phases() == set(Phase) - back - NEVER[strategy]
    assert (end["phase"], end["proof"], end["jobs"]) == (Phase.SUCCEEDED, Verdict.MATCH, ["pre-deploy", "post-deploy"])
    assert end["live"] != walk.old
    assert end["weights"] == {end["live"]: 1}
    if strategy is Strategy.CANARY:
        shares = [route.weights.get(end["live"], 0) for route in walk.platform.traffic.history[2:]]
        assert [s for i, s in enumerate(shares) if s not in shares[:i]] == [0, *(s.weight for s in STEPS[1:]), 1]


def test_each_phase_and_each_condition_of_a_step_is_walked() -> None:
    unfinished = {phase for phase in Phase if not phase.finished}
    assert {t.phase for t in IN_A_PHASE} == {phase for phase in unfinished if not phase.going_back}
    assert set(NEVER) == set(Strategy)
    assert unfinished - DEADLINES.keys() == {Phase.STARTING, Phase.RESTORING}, "which take theirs from the rollout"
    defaults = Step(weight=0)
    for field in Step.model_fields:
        assert any(getattr(step, field) != getattr(defaults, field) for step in STEPS), field


@pytest.mark.parametrize("strategy", Strategy)
async def test_each_step_repeated_changes_nothing_twice(strategy: Strategy) -> None:
    walk = Walk(strategy)
    await walk.begin()
    await walk.ask(walk.platform.ports)
    await walk.passes(walk.loop(around(walk.platform.ports, twice)))
    assert await walk.end() == await (await whole(strategy)).end()


@pytest.mark.parametrize("strategy", Strategy)
async def test_two_loops_beside_each_other_do_no_step_twice(strategy: Strategy) -> None:
    walk = Walk(strategy)
    await walk.begin()
    await walk.ask(walk.platform.ports)
    await walk.passes(walk.loop(), RolloutReconciler(walk.platform.ports))
    assert await walk.end() == await (await whole(strategy)).end()


async def gone_back(strategy: Strategy, trouble: Trouble, fatal: int | None = None) -> tuple[Walk, bool]:
    """fatal: the effect after the trouble at which the loop is killed; another one goes on. Whether it was reached."""
    walk = Walk(strategy, trouble)
    await walk.begin()
    walk.reaper = Reaper(-1 if fatal is None else fatal, armed=False)
    await walk.ask(walk.platform.ports)
    try:
        await walk.passes(walk.loop(walk.reaper.ports(walk.platform.ports)))
    except Killed:
        walk.reaper = None
        await walk.passes(walk.loop())
        return walk, True
    return walk, False


@pytest.mark.parametrize(("strategy", "trouble"), CASES)
async def test_each_step_that_fails_goes_back_and_is_resumed_wherever_it_is_killed(
    strategy: Strategy, trouble: Trouble
) -> None:
    walk, _ = await gone_back(strategy, trouble)
    calm = await walk.end()
    assert walk.made
    assert calm["phase"] in (Phase.ROLLED_BACK, Phase.FAILED)
    assert trouble.says in calm["reason"]
    assert (calm["live"], calm["weights"], calm["matches"]) == (walk.old, {walk.old: 1}, ())
    assert calm["instances"] == [f"web__production__{walk.old}__{i}" for i in range(2)]
    assert calm["proof"] is not None
    for fatal in count():
        walk, killed = await gone_back(strategy, trouble, fatal)
        assert await walk.end() == calm, fatal
        if not killed:
            assert fatal > 3
            break


@pytest.mark.parametrize("strategy", Strategy)
async def test_each_step_is_resumed_wherever_it_is_killed(strategy: Strategy) -> None:
    calm = await (await whole(strategy)).end()
    for fatal in count():
        walk, killed = Walk(strategy), False
        await walk.begin()
        ports = Reaper(fatal).ports(walk.platform.ports)
        try:
            await walk.ask(ports)
            await walk.passes(walk.loop(ports))
        except Killed:
            killed = True
        await close_interrupted(walk.platform.ports)
        newest = (await walk.platform.store.read(lambda v: v.operations(limit=1)))[0]
        if newest.request.get("git_ref") == "v2":
            await walk.passes(walk.loop())
            assert await walk.end() == calm, fatal
        else:
            assert walk.platform.traffic.routes[KEY].weights == {walk.old: 1}
        if not killed:
            assert fatal > 20, "the walk did reach the rollout"
            break
