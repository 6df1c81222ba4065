"""Writers that say done and do something else, over the in-memory platform: each is found out by the proof of effect.

Walked: all that can be desired of a service, and every change that somebody can ask for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, get_args

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.domain.alert import AlertSpec
from santiago_platform.domain.canary import Canary, Otherwise, Step, Visitors
from santiago_platform.domain.change_request import ApprovalRule
from santiago_platform.domain.environment import Environment, ServiceSettings, Settings
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.evidence import EvidenceKind, SuiteResults
from santiago_platform.domain.identity import Level, Principal, Role
from santiago_platform.domain.operation import Operation, OperationState
from santiago_platform.domain.phase import Phase
from santiago_platform.domain.policy import ATTEST_ACTIONS, CHANGE_ACTIONS, DECIDE_ACTIONS
from santiago_platform.domain.proof import Verdict
from santiago_platform.domain.rollout import Desired, Rollout
from santiago_platform.domain.route import Route
from santiago_platform.domain.signal import Signal
from santiago_platform.domain.slo import Events, Slo
from santiago_platform.domain.strategy import Strategy
from santiago_platform.operations.configure_flag import Action, FlagChange, configure_flag
from santiago_platform.operations.configure_monitoring import MonitoringChange, configure_monitoring
from santiago_platform.operations.create_alert import AlertChange, create_alert
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service
from santiago_platform.operations.evidence import EvidenceRequest, add_evidence
from santiago_platform.operations.manage_operation import OperationCommand, manage_operation
from santiago_platform.operations.scale_resources import ScaleRequest, scale_resources
from santiago_platform.ports.evidence import Parsed
from santiago_platform.reconcilers.flag import FlagReconciler
from santiago_platform.reconcilers.monitoring import PROOF_SECONDS, MonitoringReconciler
from santiago_platform.reconcilers.rollout import RolloutReconciler
from santiago_platform.reconcilers.watch import WatchReconciler

ANN = Principal(name="ann", role=Role.DEVELOPER, level=Level.MASTER)
CI = Principal(name="ci", role=Role.PIPELINE)
WHERE: dict[str, Any] = {"service": "web", "environment": "production"}
# Copies at first, then visitors and a share; each step has something that only it asks for.
CANARY = Canary(
    steps=(
        Step(weight=0, pause_seconds=1),
        Step(weight=10, pause_seconds=1, replicas=2),
        Step(weight=50, pause_seconds=1),
    ),
    visitors=(Visitors(header={"x-beta": "1"}, cookie={"beta": "1"}, query={"beta": "1"}),),
    sticky=True,
    mirror_percent=20,
    bucket_seconds=1,
)


class World:
    """A platform with its loops, passed over by hand, and `v1` live."""

    def __init__(self, canary: Canary = CANARY) -> None:
        settings = Settings(environments={"production": Environment(defaults=ServiceSettings(canary=canary))})
        self.platform = FakePlatform(workspace=FakeWorkspace(settings=settings))
        self.ports = self.platform.ports
        self.rollouts = RolloutReconciler(self.ports)
        self.watches = WatchReconciler(self.ports)
        self.flags = FlagReconciler(self.ports)
        self.monitoring = MonitoringReconciler(self.ports)
        self.requests = 100
        self.failing: dict[str, float] = {}

    async def deploy(self, ref: str, strategy: Strategy = Strategy.BLUE_GREEN, **said: Any) -> None:
        request = DeployRequest(**WHERE, **{"git_ref": ref, "replicas": 4, "strategy": strategy, **said})
        await deploy_service(self.ports, ANN, request)

    async def live(self, ref: str = "v1") -> str:
        """Deploys it, and returns the name of the version."""
        await self.deploy(ref)
        ended = await self.ended()
        assert ended.state is OperationState.SUCCEEDED, ended.reason
        return (await self.rollout()).new.name  # type: ignore[union-attr]

    async def tell(self, action: str) -> None:
        await manage_operation(self.ports, ANN, OperationCommand.model_validate({"action": action, **WHERE}))

    async def passes(self, count: int, *, watch: bool = False) -> None:
        for _ in range(count):
            await self.rollouts.pass_over_all()
            if watch:
                await self.watches.pass_over()
            self.platform.clock.advance(0.25)
            self.platform.traffic.serve(self.requests, failing=self.failing)
            await self.platform.clock.sleep(0)

    async def newest(self) -> Operation:
        return (await self.platform.store.read(lambda v: v.operations(limit=1)))[0]

    async def rollout(self) -> Rollout:
        operation = await self.newest()
        found = await self.platform.store.read(lambda v: v.rollout_of(operation.id))
        assert found is not None
        return found

    async def until(self, wanted: Callable[[Rollout], bool]) -> Rollout:
        for _ in range(600):
            rollout = await self.rollout()
            if wanted(rollout):
                return rollout
            await self.passes(1)
        raise AssertionError(f"it is {rollout.phase}: {rollout.reason}")

    async def ended(self) -> Operation:
        await self.until(lambda r: r.phase.finished)
        return await self.newest()

    async def flag(self, action: str, **fields: Any) -> Operation:
        asked = FlagChange.model_validate({"action": action, "flag": "new", **fields})
        call = asyncio.create_task(configure_flag(self.ports, ANN, asked))
        while not call.done():
            await self.flags.pass_over()
            await asyncio.sleep(0)
        return await call

    @property
    def weights(self) -> dict[str, int]:
        return self.platform.traffic.routes["web", "production"].weights


def assert_drift(operation: Operation) -> None:
    assert operation.state in (OperationState.FAILED, OperationState.ROLLED_BACK), operation.state
    assert operation.proof is not None
    assert operation.proof.verdict is Verdict.DRIFT, operation.proof.summary()


def withholding(*fields: str) -> Callable[[FakePlatform], None]:
    return lambda platform: platform.traffic.withheld.update(fields)


def pretending(platform: FakePlatform) -> None:
    platform.compute.pretending = True


# By what is desired: the lie, from which step of the canary on, and what gives it away.
OF_DESIRED: dict[str, tuple[Callable[[FakePlatform], None], int, str]] = {
    "replicas": (pretending, 1, "instances web/production"),
    "weights": (withholding("backends"), 0, "route web/production"),
    "matches": (withholding("matches"), 0, "rules web/production"),
    "sticky": (withholding("sticky"), -1, "rules web/production"),
    "mirror": (withholding("mirror"), -1, "rules web/production"),
    "retries_elsewhere": (withholding("retries_elsewhere"), -1, "rules web/production"),
}
# Of a route: what says which one it is.
NAMES = {"service", "environment", "hostnames"}


def test_all_that_can_be_desired_of_a_service_has_a_lie() -> None:
    assert set(OF_DESIRED) == set(Desired.model_fields)
    assert {*OF_DESIRED, "backends"} - {"replicas", "weights"} == set(Route.model_fields) - NAMES


@pytest.mark.parametrize("field", OF_DESIRED)
async def test_a_writer_of_canaries_that_leaves_something_out_is_found_out_and_the_old_version_keeps_the_traffic(
    field: str,
) -> None:
    lie, step, subject = OF_DESIRED[field]
    world = World()
    old = await world.live()
    await world.deploy("v2", Strategy.CANARY)
    if step >= 0:
        await world.until(lambda r: r.phase is Phase.ANALYSING and r.step == step)
    lie(world.platform)
    if field == "replicas":  # more of them, since those of this step have started
        await scale_resources(world.ports, ANN, ScaleRequest(**WHERE, replicas=8))
    lied = await world.ended()
    assert_drift(lied)
    assert lied.proof is not None
    assert any(e.subject.startswith(subject) for e in lied.proof.evidence if e.verdict is Verdict.DRIFT)
    assert world.weights == {old: 1}


async def test_what_is_honest_is_proven_at_each_step() -> None:
    world = World()
    await world.live()
    await world.deploy("v2", Strategy.CANARY)
    for step in range(3):
        rollout = await world.until(lambda r, step=step: r.phase is Phase.ANALYSING and r.step == step)  # type: ignore[misc]
        assert rollout.proof is not None
        assert rollout.proof.verdict is Verdict.MATCH
        kinds = {e.subject.split(" ")[0] for e in rollout.proof.evidence}
        assert kinds == {"route", "rules", "instances"}
    assert (await world.ended()).state is OperationState.SUCCEEDED


async def test_a_rehearsal_that_is_said_and_not_done_is_found_out_before_anybody_gets_the_new_version() -> None:
    world = World()
    old = await world.live()
    world.platform.traffic.withheld.add("matches")
    await world.deploy("v2", Strategy.CANARY)
    assert_drift(await world.ended())
    assert set().union(*(route.weights for route in world.platform.traffic.history)) == {old}


async def test_synthetic_requests_that_nothing_lets_through_take_the_canary_back() -> None:
    steps = (Step(weight=10, pause_seconds=1), Step(weight=50, requests=50))
    world = World(Canary(steps=steps, bucket_seconds=1, max_wait_seconds=3, otherwise=Otherwise.SYNTHETIC))
    await world.live()
    world.requests = 0
    await world.deploy("v2", Strategy.CANARY)
    await world.until(lambda r: r.phase is Phase.ANALYSING and r.step == 1)
    world.platform.traffic.withheld.add("matches")
    assert_drift(await world.ended())


async def _deploy(world: World) -> Operation:
    await world.live()
    world.platform.traffic.sabotaged = True
    await world.deploy("v2")
    return await world.ended()


async def _scale(world: World) -> Operation:
    await world.live()
    world.platform.compute.pretending = True
    await scale_resources(world.ports, ANN, ScaleRequest(**WHERE, replicas=6))
    return await world.ended()


async def _promote(world: World) -> Operation:
    await world.live()
    await world.deploy("v2", Strategy.CANARY)
    await world.until(lambda r: r.phase is Phase.ANALYSING and r.step == 1)
    world.platform.traffic.withheld.add("backends")
    await world.tell("promote")
    return await world.ended()


async def _abort(world: World) -> Operation:
    await world.live()
    await world.deploy("v2", Strategy.CANARY)
    await world.until(lambda r: r.phase is Phase.ANALYSING and r.step == 1)
    world.platform.traffic.sabotaged = True
    await world.tell("abort")
    return await world.ended()


async def _rollback(world: World) -> Operation:
    await world.live()
    await world.live("v2")
    world.platform.traffic.sabotaged = True
    await world.tell("rollback")
    return await world.ended()


async def _approve(world: World) -> Operation:
    await world.live()
    settings = world.platform.workspace.current
    production = settings.environments["production"].model_copy(update={"approvals": ApprovalRule(required=True)})
    world.platform.workspace.current = settings.model_copy(update={"environments": {"production": production}})
    world.platform.traffic.sabotaged = True
    await world.deploy("v2")
    held = (await world.newest()).id
    bob = Principal(name="bob", role=Role.PLATFORM)
    await manage_operation(world.ports, bob, OperationCommand(action="approve", operation=held))
    return await world.ended()


async def _watch(world: World) -> Operation:
    """The live version ends by itself again and again, and the platform takes it back in words."""
    await world.live()
    bad = await world.live("v2")
    await world.passes(4, watch=True)
    world.platform.compute.restarts[bad] = 3
    world.platform.traffic.sabotaged = True
    await world.passes(8, watch=True)
    assert (await world.newest()).principal.name == "platform"
    return await world.ended()


def _flag(action: str, **fields: Any) -> Callable[[World], Awaitable[Operation]]:
    async def lied(world: World) -> Operation:
        await world.flag("set", percent=10)
        if action == "restore":
            await world.flag("kill")
        world.platform.flags.sabotaged = True
        return await world.flag(action, **fields)

    return lied


async def _alert(world: World) -> Operation:
    await world.live()
    world.platform.rules.sabotaged = True
    spec = AlertSpec(signal=Signal.ERRORS, threshold=0.1)
    await create_alert(world.ports, ANN, AlertChange(name="Errors", spec=spec, **WHERE))
    return await _loaded(world)


async def _monitoring(world: World) -> Operation:
    await world.live()
    world.platform.rules.sabotaged = True
    indicator = Events(total="requests_total", bad='requests_total{code="500"}')
    slo = Slo(**WHERE, name="availability", indicator=indicator, target=0.99)
    world.platform.workspace.objectives["web"] = (slo,)
    await configure_monitoring(world.ports, ANN, MonitoringChange(**WHERE))
    return await _loaded(world)


async def _loaded(world: World) -> Operation:
    await world.monitoring.pass_over()
    world.platform.clock.advance(PROOF_SECONDS + 1)
    await world.monitoring.pass_over()
    return await world.newest()


# Every change, as the ship's log names it, and the operation that a lying writer of it leads to.
CHANGES: dict[str, Callable[[World], Awaitable[Operation]]] = {
    "deploy_service": _deploy,
    "scale_resources": _scale,
    "manage_operation.promote": _promote,
    "manage_operation.abort": _abort,
    "manage_operation.rollback": _rollback,
    "manage_operation.approve": _approve,
    "watch.rollback": _watch,
    "configure_flag.set": _flag("set", percent=20),
    "configure_flag.ramp": _flag("ramp", percent=50, minutes=5),
    "configure_flag.kill": _flag("kill"),
    "configure_flag.restore": _flag("restore"),
    "configure_flag.delete": _flag("delete"),
    "configure_flag.rollback": _flag("rollback"),
    "create_alert": _alert,
    "configure_monitoring": _monitoring,
}
# Answered at once and so without an operation: tests/unit/operations/test_silence.py has the lie.
ANSWERED = {"silence_alert"}
# What these make is found by its digest, or ends by itself and says how. Nothing may be added.
UNPROVEN = {"push_release", "release_service", "run_job", "manage_incident.resolve"}  # the last says, and does nothing


def test_every_change_has_a_writer_that_lies() -> None:
    told = {"promote", "abort", "rollback", "approve"}
    nothing = {"status", "wait", "history", "reject"}  # is changed by these
    assert told == set(get_args(OperationCommand.model_fields["action"].annotation)) - nothing
    assert {f"configure_flag.{action}" for action in get_args(Action)} <= CHANGE_ACTIONS
    changes = (CHANGE_ACTIONS | DECIDE_ACTIONS) - UNPROVEN - ANSWERED - {"manage_operation.reject"}
    assert set(CHANGES) == changes | {"watch.rollback"}
    assert {"add_evidence"} == ATTEST_ACTIONS, "which has a test of its own, below"


@pytest.mark.parametrize("action", CHANGES)
async def test_a_change_that_is_said_and_not_done_is_found_out(action: str) -> None:
    world = World()
    assert_drift(await CHANGES[action](world))
    assert any(entry.action == action for entry in world.platform.ship_log.entries)
    assert await world.platform.ship_log.unfinished() == []


async def test_evidence_that_was_not_kept_as_it_was_sent_is_not_attested() -> None:
    world = World()
    await world.live()
    release = (await world.rollout()).new.template.release  # type: ignore[union-attr]
    content = Parsed(kind=EvidenceKind.JUNIT, findings=SuiteResults(type="tests", tests=3)).model_dump_json().encode()
    world.platform.evidence.sabotaged = True
    with pytest.raises(PlatformError) as raised:
        await add_evidence(world.ports, CI, EvidenceRequest(release=release), content)
    assert raised.value.code is ErrorCode.DATA_CORRUPT
    assert "DRIFT" in raised.value.message
    assert await world.platform.store.read(lambda v: v.attestations(release)) == []
    world.platform.evidence.sabotaged = False
    assert (await add_evidence(world.ports, CI, EvidenceRequest(release=release), content)).counts
    assert world.platform.ship_log.entries[-1].body["proof"]["verdict"] == "MATCH"
