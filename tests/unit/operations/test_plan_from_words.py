from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from santiago_platform.adapters.advisors.builtin import BuiltinPlanner
from santiago_platform.adapters.fake.advisors import FakeAdvisor
from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.budget import Price
from santiago_platform.domain.change_request import ApprovalRule
from santiago_platform.domain.environment import Environment, Settings
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.flag import Flag, FlagEntry
from santiago_platform.domain.gates.approval import ApprovalGate
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.proposal import Completion, Draft, Task
from santiago_platform.domain.value import Value
from santiago_platform.operations.authority import authorise
from santiago_platform.operations.context import Scope
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service
from santiago_platform.operations.plan_from_words import Checked, Plannable, confined
from santiago_platform.operations.plan_operation import plan_operation
from santiago_platform.ports import Ports
from santiago_platform.reconcilers.rollout import RolloutReconciler
from santiago_platform.tools import TOOLS
from santiago_platform.tools.tool import render

PRICE = Price(input_usd=Decimal(1), output_usd=Decimal(1))
ANN = Principal(name="ann", role=Role.DEVELOPER)
BOB = Principal(name="bob", role=Role.PLATFORM)


@pytest.fixture
async def platform() -> FakePlatform:
    """`web` is live in staging, in its second version; the built-in planner alone is asked."""
    platform = FakePlatform()
    platform.advisors.all = [BuiltinPlanner()]
    loop = RolloutReconciler(platform.ports)
    for ref in ("v1", "v2"):
        await deploy_service(platform.ports, ANN, DeployRequest(service="web", environment="staging", git_ref=ref))
        for _ in range(400):
            await loop.pass_over_all()
            await platform.clock.sleep(0.2)
            if not await platform.store.read(lambda v: v.operations(running=True)):
                break
    return platform


async def call(platform: FakePlatform, tool: str, who: Principal = ANN, **arguments: Any) -> dict[str, Any]:
    one = TOOLS[tool]
    answer: dict[str, Any] = json.loads(render(await one.call(platform.ports, who, one.parse(arguments), None)))
    return answer


async def test_a_deployment_in_words_waits_for_whoever_said_them_and_is_then_done_as_it_was_shown(
    platform: FakePlatform,
) -> None:
    words = "promote web from staging to production, and hold it"
    held = await call(platform, "deploy_service", request=words)
    plan = held["plan"]
    assert (held["state"], held["phase"]) == ("awaiting", "confirmation")
    assert (held["service"], held["environment"]) == ("web", "production")
    assert plan["changes"][0].startswith("web/production: the first version -> version ")
    assert plan["advice"]["arguments"]["from_environment"] == "staging"
    first, planned, opened = platform.ship_log.entries[-3:]
    assert first.body["request"]["request"] == words
    assert (planned.outcome, planned.body["plan"]["advice"]) == ("planned", plan["advice"])
    assert {first.operation, opened.operation} == {held["id"]}
    assert await platform.store.read(lambda v: v.active_rollouts()) == []
    with pytest.raises(PlatformError, match="waits for ann"):
        await call(platform, "manage_operation", BOB, action="approve", operation=held["id"])
    done = await call(platform, "manage_operation", action="approve", operation=held["id"], plan=plan["hash"])
    (rollout,) = await platform.store.read(lambda v: v.active_rollouts())
    assert (rollout.operation_id, done["operations"][0]["state"]) == (held["id"], "running")
    assert rollout.hold


async def test_a_dry_run_of_words_is_shown_and_not_stored(platform: FakePlatform) -> None:
    shown = await call(platform, "deploy_service", request="promote web from staging to production, held", dry_run=True)
    assert shown["state"] == "planned"
    assert json.dumps(shown["plan"]["advice"]["arguments"]) in shown["next"]
    assert await platform.store.read(lambda v: v.operation(shown["id"])) is None


async def test_what_was_said_in_words_and_confirmed_waits_for_an_approval_where_that_is_asked(
    platform: FakePlatform,
) -> None:
    production = Environment(approvals=ApprovalRule(required=True))
    platform.workspace.current = Settings(environments={"staging": Environment(), "production": production})
    held = await call(platform, "deploy_service", request="promote web from staging to production, and hold it")
    confirmed = await call(platform, "manage_operation", action="approve", operation=held["id"])
    assert confirmed["operations"][0]["phase"] == "approval"
    assert await platform.store.read(lambda v: v.active_rollouts()) == []
    with pytest.raises(PlatformError, match="cannot approve it"):
        await call(platform, "manage_operation", action="approve", operation=held["id"])
    approved = await call(platform, "manage_operation", BOB, action="approve", operation=held["id"])
    assert approved["operations"][0]["state"] == "running"


async def test_a_way_back_in_words_is_a_call_of_manage_operation(platform: FakePlatform) -> None:
    shown = await call(platform, "deploy_service", request="roll back web in staging")
    assert (shown["kind"], shown["state"]) == ("manage_operation", "planned")
    arguments = shown["plan"]["advice"]["arguments"]
    assert arguments == {"action": "rollback", "service": "web", "environment": "staging"}
    assert (await call(platform, "manage_operation", **arguments))["operations"][0]["state"] == "running"


async def test_replicas_in_words(platform: FakePlatform) -> None:
    shown = await call(platform, "scale_resources", request="3 replicas", service="web", environment="staging")
    assert "1 -> 3 replicas" in shown["plan"]["changes"]
    assert shown["plan"]["way_back"] == "scale back to 1 replicas"
    done = await call(platform, "manage_operation", action="approve", operation=shown["id"])
    assert done["operations"][0]["state"] == "running"
    with pytest.raises(PlatformError, match="guard rail growth"):
        await call(platform, "scale_resources", request="scale web in staging to 50")
    with pytest.raises(PlatformError, match="there is nothing to scale") as caught:
        await call(platform, "scale_resources", request="scale web in production to 2")
    assert caught.value.code is ErrorCode.FAILED_PRECONDITION


async def test_a_flag_in_words(platform: FakePlatform) -> None:
    flag = Flag.model_validate({"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"})
    await platform.flags.put("new-checkout", FlagEntry(), FlagEntry(flag=flag))
    shown = await call(platform, "configure_flag", request="turn new-checkout off in staging")
    wanted = {"action": "kill", "flag": "new-checkout", "environment": "staging"}
    assert shown["plan"]["advice"]["arguments"] == wanted
    assert shown["changes"][0]["state"] == "awaiting"
    assert (await platform.flags.read()).entry("new-checkout") == FlagEntry(flag=flag)


async def test_words_that_nobody_makes_anything_of_say_what_was_understood_and_give_an_example(
    platform: FakePlatform,
) -> None:
    away = FakeAdvisor("away", PlatformError(ErrorCode.UNAVAILABLE, "it is down"))
    platform.advisors.all = [away, BuiltinPlanner()]
    with pytest.raises(PlatformError, match="understood service web, and asks: which environment") as caught:
        await call(platform, "deploy_service", request="deploy web HEAD to prodution please")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert "did you mean production?" in caught.value.message
    assert "for example: deploy hello HEAD" in caught.value.hint
    assert "away: it is down" in caught.value.hint


async def test_whoever_planned_is_named_without_secrets_and_what_a_reader_does_not_see(platform: FakePlatform) -> None:
    platform.advisors.secrets.append("planted-secret")
    deploy = {"service": "web", "environment": "staging", "git_ref": "HEAD"}
    text = json.dumps({"request": {"deploy": deploy}, "rationale": "r"})
    named = Completion(text=text, model="\u202egpt\u200b-planted-secret\x1b[2J")
    platform.advisors.all = [FakeAdvisor("client", named)]
    shown = await call(platform, "deploy_service", request="deploy web", dry_run=True)
    assert shown["plan"]["advice"]["by"] == "client (gpt-<redacted>[2J)"
    planned = platform.ship_log.entries[-1].body["plan"]["advice"]
    assert planned["by"] == shown["plan"]["advice"]["by"]


async def test_a_name_that_does_not_exist_is_corrected_by_who_made_it_up(platform: FakePlatform) -> None:
    def saying(service: str) -> Completion:
        deploy = {"service": service, "environment": "staging", "git_ref": "HEAD"}
        return Completion(text=json.dumps({"request": {"deploy": deploy}, "rationale": "r"}), model="m")

    maker = FakeAdvisor("maker", saying("webb"), saying("web"), models=("m", "m"), price=PRICE)
    platform.advisors.all = [maker]
    shown = await call(platform, "deploy_service", request="deploy the page to staging")
    assert shown["plan"]["advice"]["arguments"]["service"] == "web"
    assert maker.asked[1].correction.startswith("there is no service webb (")
    assert len(shown["plan"]["advice"]["tried"]) == 1
    charges = await platform.store.read(lambda v: v.charges())
    assert {c.operation for c in charges} == {shown["id"]}


@pytest.mark.parametrize(
    ("tool", "missing"),
    [("deploy_service", "service"), ("scale_resources", "replicas"), ("configure_flag", "action")],
)
async def test_without_words_what_is_missing_is_named(platform: FakePlatform, tool: str, missing: str) -> None:
    given = {"service": "web", "environment": "staging"} if tool == "scale_resources" else {"environment": "staging"}
    with pytest.raises(PlatformError, match=f"argument {missing} is missing") as caught:
        await call(platform, tool, **given)
    assert "words" in caught.value.hint


async def test_a_confirmation_is_no_approval_though_its_role_could_give_one(platform: FakePlatform) -> None:
    held = await call(platform, "deploy_service", BOB, request="promote web from staging to production, and hold it")
    gate = ApprovalGate(type="approval", role=Role.PLATFORM)
    production = Environment(approvals=ApprovalRule(required=True), gates=(gate,))
    platform.workspace.current = Settings(environments={"staging": Environment(), "production": production})
    confirmed = await call(platform, "manage_operation", BOB, action="approve", operation=held["id"])
    assert confirmed["operations"][0]["phase"] == "approval"
    assert await platform.store.read(lambda v: v.active_rollouts()) == []


async def test_there_is_no_glass_to_break_of_a_plan_that_only_waits_for_who_asked(platform: FakePlatform) -> None:
    held = await call(platform, "deploy_service", request="promote web from staging to production, and hold it")
    glass = {"break_glass": True, "reason": "the checkout is down"}
    with pytest.raises(PlatformError) as refused:
        await call(platform, "manage_operation", action="approve", operation=held["id"], **glass)
    assert refused.value.code is ErrorCode.PERMISSION_DENIED
    assert await platform.store.read(lambda v: v.active_rollouts()) == []


async def test_what_stops_the_harm_of_a_flag_waits_for_whoever_said_it_alone(platform: FakePlatform) -> None:
    flag = Flag.model_validate({"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"})
    await platform.flags.put("new-checkout", FlagEntry(), FlagEntry(flag=flag))
    production = Environment(approvals=ApprovalRule(required=True))
    platform.workspace.current = Settings(environments={"production": production})
    shown = await call(platform, "configure_flag", request="turn new-checkout off in production")
    done = await call(platform, "manage_operation", action="approve", operation=shown["changes"][0]["id"])
    assert done["operations"][0]["state"] == "running"


class Rule(Value):
    """A request whose tool comes later."""

    service: str
    threshold_ratio: float
    options: dict[str, Any] = {}


async def _checked(ports: Ports, principal: Principal, scope: Scope, asked: Rule) -> Checked:
    confined(scope, service=asked.service)
    return Checked(tool="create_alert", request=asked, changes=(f"a rule of {asked.service}",), way_back="remove it")


LATER = Plannable(
    task=Task.INFRASTRUCTURE,
    action="deploy_service",
    draft=Draft[Rule],
    admit=lambda ports, who, settings: authorise(ports, who, "deploy_service", settings, waits=True),
    check=_checked,
)


async def plan_rule(platform: FakePlatform, **rule: Any) -> dict[str, Any]:
    text = json.dumps({"request": rule, "rationale": "r"})
    platform.advisors.all = [FakeAdvisor("one", Completion(text=text, model="")), BuiltinPlanner()]
    shown = await plan_operation(platform.ports, ANN, LATER, "alert me", Scope(service="web"), dry_run=True)
    answer: dict[str, Any] = shown.model_dump(mode="json")
    return answer


async def test_a_kind_of_request_that_comes_later_is_one_line(platform: FakePlatform) -> None:
    shown = await plan_rule(platform, service="web", threshold_ratio=0.01)
    assert (shown["kind"], shown["plan"]["changes"]) == ("create_alert", ["a rule of web"])
    assert shown["plan"]["advice"]["arguments"] == {"service": "web", "threshold_ratio": 0.01}


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        ("public", {"listen": "0.0.0.0:9090"}),
        ("privilege", {"container": {"privileged": True}}),
        ("bypass", {"skip_tests": True}),
    ],
)
async def test_the_guard_rails_hold_for_it_from_its_first_day(
    platform: FakePlatform, rule: str, options: dict[str, Any]
) -> None:
    with pytest.raises(PlatformError, match=f"guard rail {rule} refuses what was proposed: options"):
        await plan_rule(platform, service="web", threshold_ratio=0.01, options=options)


async def test_what_the_built_in_planner_cannot_read_it_says(platform: FakePlatform) -> None:
    platform.advisors.all = [BuiltinPlanner()]
    with pytest.raises(PlatformError, match="it makes no infrastructure of words") as caught:
        await plan_operation(platform.ports, ANN, LATER, "alert me", Scope(), dry_run=True)
    assert caught.value.hint == "say it by typed arguments"
