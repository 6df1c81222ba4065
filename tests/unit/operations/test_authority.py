"""The one place where the policy is asked."""

from __future__ import annotations

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.fake.policy import FakePolicy
from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.domain.environment import Environment, EnvironmentKind, RoleSettings, Settings, Tenant
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Level, Principal, Role, Scope
from santiago_platform.domain.policy import Decision, Question, Verdict
from santiago_platform.operations.ask_policy import PolicyQuery, ask_policy
from santiago_platform.operations.authority import ALL, authorise, question
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service
from santiago_platform.operations.issue_token import TokenRequest, issue_token, revoke_token
from santiago_platform.operations.manage_operation import OperationCommand, manage_operation
from santiago_platform.operations.release_service import ReleaseRequest, release_service

OWNER = Principal(name="root", role=Role.OWNER)
AGENT = Principal(name="agent", role=Role.DEVELOPER, level=Level.APPRENTICE)
STRANGER = Principal(name="ann", role=Role.DEVELOPER, tenant="shop")
SETTINGS = Settings(
    environments={
        "live": Environment(kind=EnvironmentKind.PRODUCTION),
        "staging": Environment(),
        "production": Environment(kind=EnvironmentKind.STAGING),
        "mine": Environment(),
    },
    tenants={"shop": Tenant(services=("till",))},
    roles={Role.QA: RoleSettings(level=Level.APPRENTICE, scope=Scope.POND)},
)


class Recorder:
    """A policy that allows everything and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Question] = []

    def decide(self, question: Question) -> Decision:
        self.asked.append(question)
        return Decision(verdict=Verdict.ALLOW, rules=("recorder",))

    def problems(self) -> list[str]:
        return []


def request(environment: str, **more: bool) -> DeployRequest:
    return DeployRequest(service="web", environment=environment, git_ref="v1", **more)


async def refused(platform: FakePlatform, asked: DeployRequest) -> PlatformError:
    with pytest.raises(PlatformError) as raised:
        await deploy_service(platform.ports, AGENT, asked)
    return raised.value


def test_an_environment_is_of_the_kind_that_it_says_else_that_its_name_says() -> None:
    kinds = {name: SETTINGS.kind_of(name) for name in ("live", "staging", "production", "mine", "unknown")}
    assert kinds == {
        "live": EnvironmentKind.PRODUCTION,
        "staging": EnvironmentKind.STAGING,
        "production": EnvironmentKind.STAGING,
        "mine": EnvironmentKind.DEVELOPMENT,
        "unknown": EnvironmentKind.DEVELOPMENT,
    }
    assert Settings().kind_of("production") is EnvironmentKind.PRODUCTION
    assert SETTINGS.most_delicate is EnvironmentKind.PRODUCTION


def test_the_token_says_the_level_else_the_role_in_the_settings_else_the_default() -> None:
    def standing(role: Role, level: Level | None = None) -> tuple[Level | None, Scope | None]:
        found = SETTINGS.standing(Principal(name="ann", role=role, level=level))
        return found.level, found.scope

    assert standing(Role.QA) == (Level.APPRENTICE, Scope.POND)
    assert standing(Role.QA, Level.MASTER) == (Level.MASTER, Scope.POND)
    assert standing(Role.DEVELOPER) == (Level.JOURNEYMAN, Scope.LAKE)
    assert standing(Role.OWNER) == (Level.MASTER, Scope.OCEAN)


def test_what_concerns_all_environments_is_of_the_most_delicate_kind() -> None:
    asked = question(OWNER, "configure_flag.set", SETTINGS, environment=ALL)
    assert (asked.target.kind, asked.target.environment) == (EnvironmentKind.PRODUCTION, "")
    assert question(OWNER, "issue_token", SETTINGS).target.kind is None


def test_the_policy_is_not_told_the_name_of_what_is_anothers() -> None:
    for service in ("web", "ghost"):
        target = question(STRANGER, "deploy_service", SETTINGS, service=service, environment="live").target
        assert (target.service, target.tenant) == ("", "shop")
    assert question(STRANGER, "deploy_service", SETTINGS, service="till").target.service == "till"
    assert question(OWNER, "deploy_service", SETTINGS, service="till").target.tenant == "shop"


def test_a_tenant_that_the_workspace_does_not_have_finds_nothing() -> None:
    platform = FakePlatform()
    with pytest.raises(PlatformError) as raised:
        authorise(platform.ports, STRANGER, "read_logs")
    assert raised.value.code is ErrorCode.NOT_FOUND


async def test_an_apprentice_deploys_to_staging_and_is_told_what_production_takes() -> None:
    platform = FakePlatform()
    assert (await deploy_service(platform.ports, AGENT, request("staging"))).state == "running"
    held = await deploy_service(platform.ports, AGENT, request("production"))
    assert (held.state, held.phase) == ("awaiting", "approval")
    assert held.reason.startswith("waits for approval by role platform or owner (rule ")
    assert "apprentice-changes-production-with-approval" in held.reason
    assert platform.ship_log.entries[-1].action == "deploy_service"
    bob = Principal(name="bob", role=Role.PLATFORM)
    approve = OperationCommand(action="approve", operation=held.id)
    assert (await manage_operation(platform.ports, bob, approve)).operations[0].state == "running"


async def test_an_approval_is_void_once_a_policy_has_changed() -> None:
    rules = FakePolicy()
    platform = FakePlatform(policy=rules)
    held = await deploy_service(platform.ports, AGENT, request("production"))
    rules.current = "2"
    approve = OperationCommand(action="approve", operation=held.id)
    with pytest.raises(PlatformError, match="what is live in production has changed"):
        await manage_operation(platform.ports, Principal(name="bob", role=Role.PLATFORM), approve)


class Careful(FakePolicy):
    """Everything takes an approval."""

    def decide(self, question: Question) -> Decision:
        return Decision(verdict=Verdict.NEEDS_APPROVAL, rules=("careful",), approver=Role.PLATFORM)


async def test_what_nothing_can_hold_is_refused_where_it_needs_an_approval() -> None:
    platform = FakePlatform(policy=Careful())
    with pytest.raises(PlatformError, match="release_service of web needs an approval") as refused:
        await release_service(platform.ports, AGENT, ReleaseRequest(service="web"))
    assert refused.value.code is ErrorCode.PERMISSION_DENIED
    assert "release_service does not wait for one here: ask somebody whom" in refused.value.hint


async def test_an_apprentice_may_plan_what_it_may_not_do() -> None:
    platform = FakePlatform()
    assert (await deploy_service(platform.ports, AGENT, request("production", dry_run=True))).state == "planned"
    observer = Principal(name="oscar", role=Role.OBSERVER)
    with pytest.raises(PlatformError, match="role observer may not deploy_service"):
        await deploy_service(platform.ports, observer, request("production", dry_run=True))


async def test_an_operation_asks_with_service_environment_and_kind() -> None:
    platform = FakePlatform(policy=Recorder())
    await deploy_service(platform.ports, AGENT, request("production"))
    target = platform.policy.asked[-1].target
    assert (str(target), target.kind) == ("web/production", EnvironmentKind.PRODUCTION)


async def test_the_policy_is_asked_in_words_about_somebody_by_token_or_by_role() -> None:
    platform = FakePlatform()
    issued = await issue_token(
        platform.ports, OWNER, TokenRequest(name="bot", role=Role.DEVELOPER, level=Level.APPRENTICE)
    )
    asked = PolicyQuery(action="deploy_service", principal="bot", service="web", environment="production")
    answer = await ask_policy(platform.ports, OWNER, asked)
    assert (answer.verdict, answer.approver) == (Verdict.NEEDS_APPROVAL, Role.PLATFORM)
    assert answer.rules == ("apprentice-changes-production-with-approval",)
    by_role = asked.model_copy(update={"principal": None, "role": Role.PM})
    assert (await ask_policy(platform.ports, AGENT, by_role)).verdict is Verdict.DENY
    assert (await ask_policy(platform.ports, AGENT, PolicyQuery(action="read_logs"))).verdict is Verdict.ALLOW
    await revoke_token(platform.ports, OWNER, issued.id)
    with pytest.raises(PlatformError, match="there is no valid token of bot"):
        await ask_policy(platform.ports, OWNER, asked)


async def test_the_policy_is_not_asked_about_another_tenants_people() -> None:
    platform = FakePlatform(workspace=FakeWorkspace(settings=SETTINGS))
    await issue_token(platform.ports, OWNER, TokenRequest(name="bot", role=Role.QA))
    for query in (
        PolicyQuery(action="read_logs", principal="bot"),
        PolicyQuery(action="read_logs", principal="bot", tenant="default"),
        PolicyQuery(action="read_logs", role=Role.QA, tenant="default"),
    ):
        with pytest.raises(PlatformError) as raised:
            await ask_policy(platform.ports, STRANGER, query)
        assert raised.value.code is ErrorCode.NOT_FOUND
