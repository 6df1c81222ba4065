"""Every kind of change that a policy may hold up: held, started once by somebody else's yes, and otherwise not done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.fake.policy import FakePolicy
from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.domain.alert import ALERTS, AlertSpec
from santiago_platform.domain.change_request import ApprovalRule
from santiago_platform.domain.environment import Environment, Settings
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.gates.approval import ApprovalGate
from santiago_platform.domain.identity import Level, Principal, Role
from santiago_platform.domain.job import Job, When
from santiago_platform.domain.operation import Operation
from santiago_platform.domain.phase import Phase
from santiago_platform.domain.policy import CHANGE_ACTIONS, SECRET_ACTIONS, Decision, Question, Verdict
from santiago_platform.domain.rollout import MessageKind
from santiago_platform.domain.secret import Secret
from santiago_platform.domain.signal import Signal
from santiago_platform.domain.slo import Events, Slo
from santiago_platform.operations.configure_flag import FlagChange, configure_flag
from santiago_platform.operations.configure_monitoring import MonitoringChange, configure_monitoring
from santiago_platform.operations.create_alert import AlertChange, create_alert
from santiago_platform.operations.decide_change import HOLDABLE
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service
from santiago_platform.operations.issue_token import TokenRequest, authenticate, issue_token, revoke_token
from santiago_platform.operations.jobs import RunJobRequest, RunView, run_job
from santiago_platform.operations.manage_operation import OperationCommand, manage_operation
from santiago_platform.operations.operation_view import OperationView
from santiago_platform.operations.scale_resources import ScaleRequest, scale_resources
from santiago_platform.operations.secrets import (
    RemoveRequest,
    SecretView,
    list_secrets,
    remove_secret,
    set_secret,
)
from santiago_platform.reconcilers.change_request import ChangeRequestReconciler
from santiago_platform.reconcilers.flag import FlagReconciler
from santiago_platform.reconcilers.monitoring import MonitoringReconciler
from santiago_platform.reconcilers.rollout import RolloutReconciler
from santiago_platform.reconcilers.schedule import ScheduleReconciler

BOB = Principal(name="bob", role=Role.PLATFORM, level=Level.MASTER)
OWNER = Principal(name="root", role=Role.OWNER)
ANN = Principal(name="ann", role=Role.DEVELOPER, level=Level.APPRENTICE)
PASSWORD = Secret(environment="production", name="password", service="web")
WHERE = {"service": "web", "environment": "production"}
REPORT = Job(name="report", when=When.SCHEDULED, command=("./report",), schedule="0 4 * * *")


class Strict(FakePolicy):
    """Whatever an apprentice changes needs a yes, the way back too. denied: what it may not do at all by now."""

    def __init__(self) -> None:
        self.denied = False

    def decide(self, question: Question) -> Decision:
        said = super().decide(question)
        strict = question.principal.level is Level.APPRENTICE and question.action in CHANGE_ACTIONS | SECRET_ACTIONS
        if not strict or said.verdict is Verdict.DENY:
            return said
        verdict = Verdict.DENY if self.denied else Verdict.NEEDS_APPROVAL
        return Decision(verdict=verdict, rules=("strict",), approver=Role.PLATFORM)


class World:
    def __init__(self) -> None:
        settings = Settings(environments={"staging": Environment(), "production": Environment()})
        self.policy = Strict()
        self.platform = FakePlatform(workspace=FakeWorkspace(settings=settings), policy=self.policy)
        self.ports = self.platform.ports
        self.secrets = self.platform.secrets
        self.rollouts = RolloutReconciler(self.ports)

    async def passes(self, count: int = 6) -> None:
        requests, schedule = ChangeRequestReconciler(self.ports), ScheduleReconciler(self.ports)
        flags, monitoring = FlagReconciler(self.ports), MonitoringReconciler(self.ports)
        for _ in range(count):
            await self.rollouts.pass_over_all()
            await schedule.pass_over()
            await flags.pass_over()
            await monitoring.pass_over()
            await requests.pass_over()
            self.platform.clock.advance(0.25)
            await self.platform.clock.sleep(0)

    async def settle(self) -> None:
        for _ in range(100):
            await self.passes(4)
            if not await self.platform.store.read(
                lambda v: [*v.operations(running=True), *v.operations(unlogged=True)]
            ):
                return
        raise AssertionError("it hangs")

    async def deploy(self, ref: str, **fields: object) -> OperationView:
        return await deploy_service(self.ports, BOB, DeployRequest.model_validate({**WHERE, "git_ref": ref, **fields}))

    async def live(self, ref: str) -> None:
        await self.deploy(ref)
        await self.settle()

    async def held_rollout(self) -> None:
        await self.live("v1")
        await self.deploy("v2", hold=True)
        for _ in range(100):
            await self.passes(1)
            if (await self.rollout()).phase is Phase.HOLDING:
                return
        raise AssertionError("it does not get there")

    async def rollout(self):  # type: ignore[no-untyped-def]
        (rollout,) = await self.platform.store.read(lambda v: v.active_rollouts())
        return rollout

    async def messages(self, kind: MessageKind) -> int:
        rollouts = await self.platform.store.read(lambda v: v.active_rollouts())
        found = [m for r in rollouts for m in await self.platform.store.read(lambda v, r=r: v.messages(r.id))]  # type: ignore[misc]
        return sum(m.kind is kind for m in found)

    async def version(self) -> str:
        deployment = await self.platform.store.read(lambda v: v.deployment("web", "production"))
        return deployment.live.template.release if deployment and deployment.live else ""

    async def tell(self, who: Principal, action: str, **fields: object) -> OperationView:
        command = OperationCommand.model_validate({"action": action, **fields})
        return (await manage_operation(self.ports, who, command)).operations[0]

    async def operation(self, id: str) -> Operation:
        found = await self.platform.store.read(lambda v: v.operation(id))
        assert found is not None
        return found

    async def set_flag(self, variant: str) -> None:
        await self.flag("set", BOB, definition={"defaultVariant": variant})

    async def flag(self, action: str, who: Principal, **fields: object) -> Operation:
        asked = FlagChange.model_validate({"action": action, "flag": "new", **fields})
        call = asyncio.create_task(configure_flag(self.ports, who, asked))
        while not call.done():
            await FlagReconciler(self.ports).pass_over()
            await asyncio.sleep(0)
        return await call


@dataclass
class Kind:
    """prepare: what is there before. ask: as ann. done: how often it has been done. move: what it is bound to, away."""

    prepare: Callable[[World], Awaitable[object]]
    ask: Callable[[World, Principal], Awaitable[str]]
    done: Callable[[World], Awaitable[int]]
    move: Callable[[World], Awaitable[object]]


def telling(action: str) -> Callable[[World, Principal], Awaitable[str]]:
    async def ask(world: World, who: Principal) -> str:
        return (await world.tell(who, action, **WHERE)).id

    return ask


async def _nothing(world: World) -> None: ...


async def _live(world: World) -> None:
    await world.live("v1")


async def _two(world: World) -> None:
    await world.live("v1")
    await world.live("v2")


async def _deploys(world: World) -> None:
    await world.live("v3")


async def _aborted(world: World) -> None:
    await world.tell(BOB, "abort", **WHERE)
    await world.settle()


async def _promoted(world: World) -> None:
    await world.tell(BOB, "promote", **WHERE)
    await world.settle()


async def _went_back(world: World) -> int:
    rows = await world.platform.store.read(lambda v: v.operations(limit=100))
    return sum(o.kind == "rollback_service" for o in rows)


async def _with_job(world: World) -> None:
    await world.live("v1")
    await _new_live(world)


async def _new_live(world: World) -> None:
    row = await world.platform.store.read(lambda v: v.deployment("web", "production"))
    assert row is not None and row.live is not None  # noqa: PT018
    timeout = row.live.template.stop_grace_seconds + 1
    template = row.live.template.model_copy(update={"stop_grace_seconds": timeout})
    live = row.live.model_copy(update={"jobs": (REPORT,), "template": template})
    await world.platform.store.write(lambda tx: tx.save_deployment(row.model_copy(update={"live": live})))


async def _run(world: World, who: Principal) -> str:
    held = await run_job(world.ports, who, RunJobRequest.model_validate({**WHERE, "job": "report"}))
    assert isinstance(held, OperationView)
    return held.id


async def _runs(world: World) -> int:
    return len(await world.platform.store.read(lambda v: v.job_runs(service="web", environment="production")))


async def _one_secret(world: World) -> None:
    await world.secrets.put(PASSWORD, "before")


async def _another_value(world: World) -> None:
    await world.secrets.put(PASSWORD, "another")


async def _set(world: World, who: Principal) -> str:
    held = await set_secret(world.ports, who, PASSWORD, b"hunter2-hunter2")
    assert isinstance(held, OperationView)
    return held.id


async def _values(world: World) -> int:
    versions = [v for v in await world.secrets.list() if not v.pending]
    return sum([await world.secrets.value(v.secret, v.version) == "hunter2-hunter2" for v in versions])


async def _remove(world: World, who: Principal) -> str:
    held = await remove_secret(world.ports, who, RemoveRequest(secret=PASSWORD))
    assert held is not None
    return held.id


async def _gone(world: World) -> int:
    return int(1 not in [v.version for v in await world.secrets.list()])


async def _flag_on(world: World) -> None:
    await world.set_flag("on")


async def _kill(world: World, who: Principal) -> str:
    return (await world.flag("kill", who)).id


async def _killed(world: World) -> int:
    flag = (await world.platform.flags.read()).entry("new").flag
    return int(flag is not None and flag.state == "DISABLED")


async def _flag_off(world: World) -> None:
    await world.set_flag("off")


async def _alert(world: World, who: Principal, action: str) -> str:
    spec = None if action == "remove" else AlertSpec(signal=Signal.ERRORS, threshold=0.05)
    asked = AlertChange.model_validate({**WHERE, "action": action, "name": "Errors", "spec": spec})
    return (await create_alert(world.ports, who, asked)).id


async def _with_alert(world: World) -> None:
    await _alert(world, BOB, "create")
    await world.passes(1)


async def _remove_alert(world: World, who: Principal) -> str:
    return await _alert(world, who, "remove")


async def _no_alerts(world: World) -> int:
    return int(not await world.platform.store.read(lambda v: v.alerts()))


async def _made_anew(world: World) -> None:
    await _alert(world, BOB, "remove")
    await world.passes(1)
    await _with_alert(world)


def _aim(world: World, target: float) -> None:
    slo = Slo(**WHERE, name="availability", indicator=Events(good="good", total="all"), target=target)
    world.platform.workspace.objectives["web"] = (slo,)


async def _with_slo(world: World) -> None:
    _aim(world, 0.99)


async def _monitor(world: World, who: Principal) -> str:
    return (await configure_monitoring(world.ports, who, MonitoringChange.model_validate(WHERE))).id


async def _monitored(world: World) -> int:
    return int(await world.platform.store.read(lambda v: v.monitoring("web", "production")) is not None)


async def _aims_higher(world: World) -> None:
    _aim(world, 0.999)


async def _deploy(world: World, who: Principal) -> str:
    return (await deploy_service(world.ports, who, DeployRequest.model_validate({**WHERE, "git_ref": "v2"}))).id


async def _new_versions(world: World) -> int:
    rows = await world.platform.store.read(lambda v: v.operations(limit=100))
    return sum(o.kind == "deploy_service" and o.principal.name == "ann" and o.progress == 1.0 for o in rows)


async def _scale(world: World, who: Principal) -> str:
    return (await scale_resources(world.ports, who, ScaleRequest.model_validate({**WHERE, "replicas": 3}))).id


async def _three(world: World) -> int:
    deployment = await world.platform.store.read(lambda v: v.deployment("web", "production"))
    return int(deployment is not None and deployment.live is not None and deployment.live.replicas == 3)


async def _new_alert(world: World, who: Principal) -> str:
    spec = AlertSpec(signal=Signal.ERRORS, threshold=0.05)
    return (await create_alert(world.ports, who, AlertChange(**WHERE, name="Errors", spec=spec))).id


async def _alerts_of_rules(world: World) -> int:
    return len(world.platform.rules.groups.get(ALERTS, ()))


async def _same_alert(world: World) -> None:
    spec = AlertSpec(signal=Signal.ERRORS, threshold=0.2)
    await create_alert(world.ports, BOB, AlertChange(**WHERE, name="Errors", spec=spec))
    await world.settle()


def messages(kind: MessageKind) -> Callable[[World], Awaitable[int]]:
    """Of those that were told, and of the rollouts that ended by it."""

    async def count(world: World) -> int:
        rows = await world.platform.store.read(lambda v: v.operations(limit=100))
        ended = sum(o.kind == "manage_operation" and o.state == "succeeded" for o in rows)
        return await world.messages(kind) + ended

    return count


KINDS = {
    "deploy_service": Kind(_live, _deploy, _new_versions, _deploys),
    "scale_resources": Kind(_live, _scale, _three, _deploys),
    "manage_operation.promote": Kind(World.held_rollout, telling("promote"), messages(MessageKind.PROMOTE), _aborted),
    "manage_operation.abort": Kind(World.held_rollout, telling("abort"), messages(MessageKind.ABORT), _promoted),
    "manage_operation.rollback": Kind(_two, telling("rollback"), _went_back, _deploys),
    "run_job": Kind(_with_job, _run, _runs, _new_live),
    "set_secret": Kind(_one_secret, _set, _values, _another_value),
    "remove_secret": Kind(_one_secret, _remove, _gone, _another_value),
    "create_alert": Kind(_with_alert, _remove_alert, _no_alerts, _made_anew),
    "create_alert.create": Kind(_nothing, _new_alert, _alerts_of_rules, _same_alert),
    "configure_monitoring": Kind(_with_slo, _monitor, _monitored, _aims_higher),
    "configure_flag.kill": Kind(_flag_on, _kill, _killed, _flag_off),
}
every = pytest.mark.parametrize("kind", KINDS)


def test_every_kind_that_can_wait_is_tried() -> None:
    assert {name.partition(".")[0] for name in KINDS} == set(HOLDABLE)


async def held(name: str, who: Principal = ANN) -> tuple[World, Kind, str]:
    world, kind = World(), KINDS[name]
    await kind.prepare(world)
    id = await kind.ask(world, who)
    await world.passes(2)
    operation = await world.operation(id)
    assert (operation.state, operation.phase) == ("awaiting", "approval")
    assert await kind.done(world) == 0
    return world, kind, id


async def refused(world: World, who: Principal, id: str) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        await world.tell(who, "approve", operation=id)
    return caught.value


@every
async def test_it_waits_with_a_plan_and_happens_once_when_somebody_else_says_yes(kind: str) -> None:
    world, what, id = await held(kind)
    shown = await world.tell(ANN, "status", operation=id)
    assert shown.plan is not None
    assert shown.plan.changes
    assert shown.plan.way_back
    await world.tell(BOB, "approve", operation=id, plan=shown.plan.hash)
    await world.settle()
    assert await what.done(world) == 1
    assert (await refused(world, BOB, id)).code is ErrorCode.FAILED_PRECONDITION
    await world.settle()
    assert await what.done(world) == 1
    ended = await world.operation(id)
    assert (ended.state, ended.principal.name) == ("succeeded", "ann"), ended.reason
    assert await world.platform.ship_log.unfinished() == []


@every
async def test_whoever_asked_cannot_approve_it(kind: str) -> None:
    world, what, id = await held(kind)
    master = ANN.model_copy(update={"level": Level.MASTER, "role": Role.PLATFORM})
    for who in (ANN, master):
        assert (await refused(world, who, id)).code is ErrorCode.PERMISSION_DENIED
    assert await what.done(world) == 0


@every
async def test_it_is_void_once_what_it_is_bound_to_has_moved(kind: str) -> None:
    world, what, id = await held(kind)
    await what.move(world)
    before = await what.done(world)
    error = await refused(world, BOB, id)
    assert error.code is ErrorCode.FAILED_PRECONDITION
    assert (await world.operation(id)).state == "void", error
    await world.settle()
    assert await what.done(world) == before
    assert await world.platform.ship_log.unfinished() == []


@every
async def test_a_no_ends_it(kind: str) -> None:
    world, what, id = await held(kind)
    await world.tell(BOB, "reject", operation=id, reason="not today")
    await refused(world, BOB, id)
    assert (await world.operation(id)).state == "rejected"
    assert await what.done(world) == 0
    assert await world.platform.store.read(lambda v: v.change_requests(open=True)) == []


@every
async def test_it_expires(kind: str) -> None:
    world, what, id = await held(kind)
    world.platform.clock.advance(86401)
    assert "expired" in (await refused(world, BOB, id)).message
    await ChangeRequestReconciler(world.ports).pass_over()
    assert (await world.operation(id)).state == "void"
    assert await what.done(world) == 0


@every
async def test_whoever_may_no_longer_do_it_has_it_made_void(kind: str) -> None:
    world, what, id = await held(kind)
    world.policy.denied = True
    assert "may no longer do it" in (await refused(world, BOB, id)).message
    assert (await world.operation(id)).state == "void"
    assert await what.done(world) == 0


@every
async def test_a_token_that_was_revoked_starts_nothing(kind: str) -> None:
    world = World()
    await KINDS[kind].prepare(world)
    issued = await issue_token(
        world.ports, OWNER, TokenRequest(name="ann", role=Role.DEVELOPER, level=Level.APPRENTICE)
    )
    id = await KINDS[kind].ask(world, await authenticate(world.ports, issued.token))
    await revoke_token(world.ports, OWNER, issued.id)
    assert "token by which ann has asked for it was revoked" in (await refused(world, BOB, id)).message
    assert (await world.operation(id)).state == "void"
    assert await KINDS[kind].done(world) == 0


@every
async def test_of_two_who_approve_at_once_one_starts_it(kind: str) -> None:
    world, what, id = await held(kind)
    both = (world.tell(who, "approve", operation=id) for who in (BOB, OWNER))
    answers = await asyncio.gather(*both, return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["OperationView", "PlatformError"]
    await world.settle()
    assert await what.done(world) == 1


async def test_what_loses_its_requesters_token_does_not_go_on_to_wait() -> None:
    world = World()
    await _one_secret(world)
    issued = await issue_token(
        world.ports, OWNER, TokenRequest(name="ann", role=Role.DEVELOPER, level=Level.APPRENTICE)
    )
    id = await _set(world, await authenticate(world.ports, issued.token))
    await revoke_token(world.ports, OWNER, issued.id)
    await ChangeRequestReconciler(world.ports).pass_over()
    assert (await world.operation(id)).state == "void"


async def test_a_token_that_has_only_expired_starts_what_was_asked_for_before() -> None:
    world = World()
    await _one_secret(world)
    asked = TokenRequest(name="ann", role=Role.DEVELOPER, level=Level.APPRENTICE, ttl_seconds=60)
    issued = await issue_token(world.ports, OWNER, asked)
    id = await _set(world, await authenticate(world.ports, issued.token))
    world.platform.clock.advance(61)
    assert (await world.tell(BOB, "approve", operation=id)).state == "running"


@pytest.mark.parametrize("cut_off", ["before it is published", "before that is stored"])
async def test_a_crash_after_the_yes_leads_to_one_new_value(cut_off: str) -> None:
    world, what, id = await held("set_secret")
    await world.tell(BOB, "approve", operation=id)
    if cut_off == "before that is stored":
        await world.secrets.publish(PASSWORD, 2)
    await world.passes(1)
    assert await what.done(world) == 1
    assert (await world.operation(id)).state == "succeeded"
    assert await world.platform.ship_log.unfinished() == []


async def test_a_value_that_was_published_before_a_crash_is_never_removed_for_a_newer_one() -> None:
    world, _, id = await held("set_secret")
    await world.tell(BOB, "approve", operation=id)
    await world.secrets.publish(PASSWORD, 2)  # and is killed before it stores that
    await world.secrets.put(PASSWORD, "newer")
    await world.passes(1)
    assert (await world.operation(id)).state == "succeeded"
    assert [v.version for v in await world.secrets.list()] == [1, 2, 3]


async def test_a_value_that_waits_is_told_nowhere_and_kept_no_longer_than_somebody_waits() -> None:
    world, _, id = await held("set_secret")
    rows = await world.platform.store.read(
        lambda v: [*v.change_requests(), *v.operations(), *v.mail("default", Role.PLATFORM, unread=True, limit=10)]
    )
    assert "hunter2" not in repr(rows) + repr(world.platform.ship_log.entries)
    assert [v.version for v in (await list_secrets(world.ports, BOB)).secrets] == [1]
    world.platform.clock.advance(600)
    await world.passes(1)
    assert [v.version for v in await world.secrets.list()] == [1, 2], "somebody waits for it"
    await world.tell(BOB, "reject", operation=id)
    await world.passes(1)
    assert [v.version for v in await world.secrets.list()] == [1]


async def test_a_value_that_was_sealed_just_before_a_crash_is_forgotten() -> None:
    world = World()
    await world.secrets.stage(PASSWORD, "value")
    await world.passes(1)
    assert len(await world.secrets.list()) == 1, "it may be about to be stored as what waits"
    world.platform.clock.advance(61)
    await world.passes(1)
    assert await world.secrets.list() == []


async def test_a_value_that_was_changed_since_it_was_asked_for_is_void() -> None:
    world, _, id = await held("set_secret")
    made, _ = world.secrets.kept[PASSWORD][2]
    other = made.model_copy(update={"fingerprint": "0123"})
    world.secrets.kept[PASSWORD][2] = other, "swapped"
    assert "the plan is another one now" in (await refused(world, BOB, id)).message
    assert (await world.operation(id)).state == "void"


async def test_a_guess_at_a_value_learns_nothing_from_what_waits() -> None:
    world = World()
    current = await world.secrets.put(PASSWORD, "hunter2-hunter2")
    id = await _set(world, ANN)
    shown = await world.tell(ANN, "status", operation=id)
    assert shown.plan is not None
    assert "version 2 in place of version 1" in shown.plan.changes[0]
    assert current.fingerprint not in "".join(shown.plan.changes)


async def test_of_two_values_that_wait_one_is_set() -> None:
    world, _, first = await held("set_secret")
    second = await set_secret(world.ports, ANN, PASSWORD, b"another-one")
    assert isinstance(second, OperationView)
    await world.tell(BOB, "approve", operation=first)
    assert (await refused(world, BOB, second.id)).code is ErrorCode.CONFLICT, "the other is being set"
    await world.settle()
    await refused(world, BOB, second.id)
    assert (await world.operation(second.id)).state == "void"


async def test_a_value_that_is_set_in_the_very_moment_of_the_yes_is_kept() -> None:
    world, what, id = await held("set_secret")
    await world.tell(BOB, "approve", operation=id)
    await _another_value(world)
    await world.settle()
    assert (await world.operation(id)).state == "failed"
    newest = world.secrets.newest(PASSWORD)
    assert newest is not None
    assert await world.secrets.value(PASSWORD, newest.version) == "another"
    assert await what.done(world) == 0


async def test_a_promotion_that_waits_is_of_the_rollout_that_it_was_asked_for() -> None:
    world, _, id = await held("manage_operation.promote")
    await world.tell(BOB, "abort", **WHERE)
    await world.settle()
    await world.deploy("v3", hold=True)
    for _ in range(20):
        await world.passes(1)
    assert (await world.rollout()).phase is Phase.HOLDING
    await refused(world, BOB, id)
    assert (await world.operation(id)).state == "void"
    assert await world.messages(MessageKind.PROMOTE) == 0


async def test_an_environment_that_asks_for_it_holds_up_jobs_and_secrets_and_no_word_to_what_was_let_through() -> None:
    world = World()
    await world.live("v1")
    await _new_live(world)
    await world.deploy("v2", hold=True)
    for _ in range(20):
        await world.passes(1)
    environments = {"staging": Environment(), "production": Environment(approvals=ApprovalRule(required=True))}
    world.platform.workspace.current = Settings(environments=environments)
    assert isinstance(await set_secret(world.ports, BOB, PASSWORD, b"value"), OperationView)
    assert isinstance(
        await run_job(world.ports, BOB, RunJobRequest.model_validate({**WHERE, "job": "report"})), OperationView
    )
    assert isinstance(
        await set_secret(world.ports, BOB, PASSWORD.model_copy(update={"environment": "staging"}), b"v"), SecretView
    )
    assert (await world.tell(BOB, "promote", **WHERE)).kind == "deploy_service"


async def test_two_who_give_half_of_it_at_once_start_it() -> None:
    world = World()
    await world.live("v1")
    gates = tuple(ApprovalGate(type="approval", role=role, name=f"yes-of-{role}") for role in (Role.PM, Role.QA))
    world.platform.workspace.current = Settings(environments={"production": Environment(gates=gates)})
    held = (await world.deploy("v2")).id
    pam, quinn = Principal(name="pam", role=Role.PM), Principal(name="quinn", role=Role.QA)
    await asyncio.gather(*(world.tell(who, "approve", operation=held) for who in (pam, quinn)))
    assert (await world.operation(held)).state == "running"


async def test_the_yes_of_a_token_that_was_revoked_counts_no_longer() -> None:
    world = World()
    await world.live("v1")
    gates = tuple(ApprovalGate(type="approval", role=role, name=f"yes-of-{role}") for role in (Role.PM, Role.QA))
    world.platform.workspace.current = Settings(environments={"production": Environment(gates=gates)})
    held = (await world.deploy("v2")).id
    issued = await issue_token(world.ports, OWNER, TokenRequest(name="pam", role=Role.PM))
    await world.tell(await authenticate(world.ports, issued.token), "approve", operation=held)
    await revoke_token(world.ports, OWNER, issued.id)
    quinn, pia = Principal(name="quinn", role=Role.QA), Principal(name="pia", role=Role.PM)
    half = await world.tell(quinn, "approve", operation=held)
    assert (half.state, half.reason) == ("awaiting", "waits for approval by role pm (gate yes-of-pm)")
    assert (await world.tell(pia, "approve", operation=held)).state == "running"


async def test_a_job_that_runs_already_leaves_the_approved_one_waiting() -> None:
    world, what, id = await held("run_job")
    begun = await run_job(world.ports, BOB, RunJobRequest.model_validate({**WHERE, "job": "report"}))
    assert isinstance(begun, RunView)
    assert (await refused(world, BOB, id)).code is ErrorCode.CONFLICT
    await world.passes(3)
    await world.tell(BOB, "approve", operation=id)
    await world.settle()
    assert await what.done(world) == 2


async def test_a_job_that_fails_fails_its_operation() -> None:
    world, _, id = await held("run_job")
    await world.tell(BOB, "approve", operation=id)
    world.platform.jobs.failing["report"] = "exit status 1"
    await world.settle()
    ended = await world.operation(id)
    assert (ended.state, "report: failed" in ended.reason) == ("failed", True)


PM = Principal(name="pam", role=Role.PM)
QA = Principal(name="quinn", role=Role.QA)


async def test_to_do_again_what_was_taken_back_takes_the_right_to_set() -> None:
    world = World()
    await world.set_flag("on")
    await world.set_flag("off")
    assert (await world.flag("rollback", QA)).state == "succeeded"
    with pytest.raises(PlatformError, match=r"may not configure_flag\.set"):
        await world.flag("rollback", QA)
    assert (await world.flag("rollback", PM)).request["amounts_to"] == "set"
    assert (await world.flag("rollback", QA)).request["amounts_to"] == "rollback", "a redo can be taken back"


async def test_to_take_back_a_kill_takes_the_right_to_restore() -> None:
    world = World()
    await world.set_flag("on")
    await world.flag("kill", QA)
    with pytest.raises(PlatformError, match=r"may not configure_flag\.restore"):
        await world.flag("rollback", QA)
    assert (await world.flag("rollback", PM)).state == "succeeded"


async def test_a_rollback_that_deletes_again_is_asked_about_as_a_deletion() -> None:
    world = World()
    await world.set_flag("on")
    await world.flag("delete", BOB)
    await world.flag("rollback", QA)
    pm = PM.model_copy(update={"level": Level.JOURNEYMAN})
    held = await world.flag("rollback", pm)
    assert (held.state, held.request["amounts_to"]) == ("awaiting", "delete")


async def test_a_rollback_is_asked_about_where_the_change_was() -> None:
    """Naming another environment does not make one's right there count."""
    world = World()
    await world.set_flag("on")
    await world.flag("set", BOB, environment="production", definition={"defaultVariant": "off"})
    await world.flag("rollback", QA)
    with pytest.raises(PlatformError, match="there is no change of the flag new in staging"):
        await world.flag("rollback", QA, environment="staging")
    with pytest.raises(PlatformError, match=r"may not configure_flag\.set"):
        await world.flag("rollback", QA)


async def test_a_redo_waits_where_setting_does() -> None:
    world = World()
    await world.set_flag("on")
    await world.set_flag("off")
    await world.flag("rollback", BOB)
    environments = {"staging": Environment(), "production": Environment(approvals=ApprovalRule(required=True))}
    world.platform.workspace.current = Settings(environments=environments)
    held = await world.flag("rollback", PM)
    assert held.state == "awaiting"
    shown = await world.tell(PM, "status", operation=held.id)
    assert shown.plan is not None
    assert any(line.startswith("it becomes") for line in shown.plan.changes)
