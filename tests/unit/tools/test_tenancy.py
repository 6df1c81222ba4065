"""A walk over all tools as a tenant: it never sees, touches or learns the name of what is another's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.domain.environment import Environment, Quotas, Settings, Tenant
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.signal import LogLine
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service
from santiago_platform.operations.issue_token import TokenRequest, issue_token
from santiago_platform.operations.release_service import ReleaseRequest, release_service
from santiago_platform.reconcilers.rollout import RolloutReconciler
from santiago_platform.tools import TOOLS
from santiago_platform.tools.tool import Tool, render

OWNER = Principal(name="root", role=Role.OWNER)
ANN = Principal(name="ann", role=Role.DEVELOPER, tenant="shop")
BOB = Principal(name="bob", role=Role.PLATFORM, tenant="bank")
CAT = Principal(name="cat", role=Role.PLATFORM)
SECRET = "vault"  # the name that only its tenant may know
EVERY = pytest.mark.parametrize("tool", TOOLS.values(), ids=list(TOOLS))


def settings(**quotas: Quotas) -> Settings:
    return Settings(
        environments={"production": Environment(), "staging": Environment()},
        tenants={
            "shop": Tenant(services=("till",), quotas=quotas.get("shop", Quotas())),
            "bank": Tenant(services=(SECRET,), quotas=quotas.get("bank", Quotas())),
        },
    )


async def settled(platform: FakePlatform) -> None:
    loop = RolloutReconciler(platform.ports)
    for _ in range(400):
        await loop.pass_over_all()
        await platform.clock.sleep(0.2)
        if not await platform.store.read(lambda v: v.operations(running=True)):
            return
    raise AssertionError("it hangs")


async def deployed(platform: FakePlatform, by: Principal, service: str, **asked: Any) -> str:
    request = DeployRequest(service=service, environment="production", **{"git_ref": "v1", **asked})
    operation = await deploy_service(platform.ports, by, request)
    await settled(platform)
    return operation.id


@pytest.fixture
async def platform() -> FakePlatform:
    """`vault` of the bank, `till` of the shop and `web` of the own tenant are live, with lines in the log."""
    made = FakePlatform(workspace=FakeWorkspace(("web", "till", SECRET), settings()))
    for service, by in (("web", CAT), ("till", ANN), (SECRET, BOB), (SECRET, OWNER)):
        await deployed(made, by, service)
        made.logs.lines.append(
            LogLine(
                at=1.0,
                instance=f"{service}__production__0__0",
                service=service,
                environment="production",
                version="0",
                level="",
                text=f"{service} speaks",
            )
        )
    return made


async def said(platform: FakePlatform, who: Principal, tool: str, **arguments: Any) -> str:
    """The answer as text, or the error."""
    called = TOOLS[tool]
    try:
        return render(await called.call(platform.ports, who, called.parse(arguments), None)).decode()
    except PlatformError as exc:
        return f"{exc.code} {exc.message} {exc.hint}"


def words(tool: Tool, **changed: Any) -> dict[str, Any]:
    """The tool's example without what waits, as far as it takes these."""
    fields = {**tool.example, **changed}
    return {name: value for name, value in fields.items() if name in tool.request.model_fields and name != "wait"}


@EVERY
@pytest.mark.parametrize("who", [ANN, CAT], ids=["another tenant", "the workspace's own"])
async def test_a_tool_says_of_anothers_service_what_it_says_of_none(
    platform: FakePlatform, tool: Tool, who: Principal
) -> None:
    for environment in ("production", "staging"):
        asked = words(tool, service=SECRET, environment=environment)
        answers = [
            (await said(platform, who, tool.name, **{**asked, "service": service})).replace(service, "X")
            for service in (SECRET, "ghost")
        ]
        assert answers[0] == answers[1]


@EVERY
async def test_no_answer_has_the_name_of_what_is_anothers(platform: FakePlatform, tool: Tool) -> None:
    everything = words(tool)
    for name in ("service", "environment"):
        everything.pop(name, None)
    for asked in (
        everything,
        words(tool, service="till"),
        words(tool, service="ghost"),
        {},
        words(tool, service="web"),
    ):
        assert SECRET not in await said(platform, ANN, tool.name, **asked)
        assert "bank" not in await said(platform, ANN, tool.name, **asked)


@pytest.mark.parametrize("action", ["status", "wait", "promote", "abort", "rollback"])
@pytest.mark.parametrize("by", [BOB, OWNER])
async def test_an_operation_on_anothers_service_is_not_there(
    platform: FakePlatform, action: str, by: Principal
) -> None:
    operation = await deployed(platform, by, SECRET, git_ref="v2")
    refused = await said(platform, ANN, "manage_operation", action=action, operation=operation)
    unknown = await said(platform, ANN, "manage_operation", action=action, operation="op-none")
    assert refused.replace(operation, "X") == unknown.replace("op-none", "X")
    assert refused.startswith("not_found")
    assert "succeeded" in await said(platform, BOB, "manage_operation", action="status", operation=operation)


async def test_each_sees_its_own_and_the_owner_sees_all(platform: FakePlatform) -> None:
    async def seen(who: Principal) -> tuple[set[str], set[str], set[str]]:
        architecture = json.loads(await said(platform, who, "read_architecture"))
        history = json.loads(await said(platform, who, "manage_operation", action="history"))
        logs = json.loads(await said(platform, who, "read_logs"))
        return (
            {service["service"] for service in architecture["services"]},
            {operation["service"] for operation in history["operations"]},
            {line["service"] for line in logs["lines"]},
        )

    assert await seen(ANN) == ({"till"},) * 3
    assert await seen(BOB) == ({SECRET},) * 3
    assert await seen(CAT) == ({"web"},) * 3
    assert await seen(OWNER) == ({"web", "till", SECRET},) * 3


async def test_a_release_of_anothers_service_does_not_tell_whose_it_is(platform: FakePlatform) -> None:
    release = await release_service(platform.ports, BOB, ReleaseRequest(service=SECRET))
    asked = {"service": "till", "environment": "production", "release": release.digest}
    answer = await said(platform, ANN, "deploy_service", **asked)
    assert answer.startswith("invalid_argument")
    assert SECRET not in answer


async def test_an_expression_would_read_everybodys_series_and_is_the_owners(platform: FakePlatform) -> None:
    assert (await said(platform, ANN, "query_metrics", expression="up")).startswith("permission_denied")
    assert "series" in await said(platform, OWNER, "query_metrics", expression="up")
    signal = {"signal": "latency", "service": "till", "environment": "production"}
    assert "series" in await said(platform, ANN, "query_metrics", **signal)


async def test_documents_are_of_the_whole_workspace_and_the_owners(platform: FakePlatform) -> None:
    asked = {"include_documents": True}
    assert json.loads(await said(platform, ANN, "read_architecture", **asked))["documents"] == []
    assert json.loads(await said(platform, OWNER, "read_architecture", **asked))["documents"]


async def test_a_service_that_was_given_to_another_tenant_is_the_others(platform: FakePlatform) -> None:
    moved = {"shop": Tenant(), "bank": Tenant(services=(SECRET, "till"))}
    platform.workspace.current = settings().model_copy(update={"tenants": moved})
    assert json.loads(await said(platform, ANN, "read_architecture"))["services"] == []
    shown = json.loads(await said(platform, BOB, "read_architecture"))["services"]
    assert {service["service"] for service in shown} == {SECRET, "till"}


async def test_a_tenant_that_cannot_be_kept_apart_is_refused_with_the_reason(platform: FakePlatform) -> None:
    platform.compute.refused["shop"] = "the platform does not run as root"
    with pytest.raises(PlatformError, match="does not run as root") as caught:
        await deployed(platform, ANN, "till")
    assert caught.value.code is ErrorCode.FAILED_PRECONDITION
    await deployed(platform, CAT, "web", git_ref="v2")


# --- quotas


async def test_a_quota_of_instances_counts_what_runs_while_it_rolls_out(platform: FakePlatform) -> None:
    platform.workspace.current = settings(shop=Quotas(instances=2))
    with pytest.raises(PlatformError, match=r"may run 2 instances, has 1, and this would make 3") as caught:
        await deployed(platform, ANN, "till", git_ref="v2", replicas=2)
    assert caught.value.code is ErrorCode.RESOURCE_EXHAUSTED
    await deployed(platform, ANN, "till", git_ref="v2", strategy="recreate", replicas=2)
    await deployed(platform, BOB, SECRET, git_ref="v3", replicas=50)
    shown = json.loads(await said(platform, ANN, "read_architecture"))["tenants"]
    assert shown == ["shop: instances 2 of 2, memory 0, disk 0"]


async def test_a_quota_holds_for_a_dry_run_and_for_scaling(platform: FakePlatform) -> None:
    platform.workspace.current = settings(shop=Quotas(instances=2))
    asked = {"service": "till", "environment": "production", "replicas": 5}
    for tool, more in (("deploy_service", {"git_ref": "v2", "dry_run": True}), ("scale_resources", {})):
        assert (await said(platform, ANN, tool, **asked, **more)).startswith("resource_exhausted"), tool


async def test_two_deploys_at_once_do_not_share_the_same_room(platform: FakePlatform) -> None:
    platform.workspace.current = settings(shop=Quotas(instances=2))
    request = DeployRequest(service="till", environment="staging", git_ref="v1")
    await deploy_service(platform.ports, ANN, request)
    with pytest.raises(PlatformError, match="may run 2 instances, has 2"):
        await deploy_service(platform.ports, ANN, request.model_copy(update={"environment": "production"}))


async def test_with_a_quota_of_memory_a_service_must_say_its_own_before_it_starts(platform: FakePlatform) -> None:
    platform.workspace.current = settings(shop=Quotas(memory="1Gi"))
    operation = await deployed(platform, ANN, "till", git_ref="v2")
    answer = json.loads(await said(platform, ANN, "manage_operation", action="status", operation=operation))
    (ended,) = answer["operations"]
    assert ended["state"] == "failed"
    assert "till has no memory limit" in ended["reason"]


async def test_a_full_disk_quota_stops_deploys_of_its_tenant_alone(platform: FakePlatform) -> None:
    platform.workspace.current = settings(shop=Quotas(disk="10Mi"))
    platform.compute.kept["till"] = 11 << 20
    with pytest.raises(PlatformError, match="may keep 10Mi on disk, and its homes and volumes have 11Mi"):
        await deployed(platform, ANN, "till", git_ref="v2")
    await deployed(platform, BOB, SECRET, git_ref="v3")


async def test_going_back_is_not_held_up_by_a_quota(platform: FakePlatform) -> None:
    await deployed(platform, ANN, "till", git_ref="v2", replicas=3)
    platform.workspace.current = settings(shop=Quotas(instances=1))
    asked = {"action": "rollback", "service": "till", "environment": "production"}
    assert "running" in await said(platform, ANN, "manage_operation", **asked)


# --- tokens


@pytest.mark.parametrize(("role", "tenant"), [(Role.DEVELOPER, "nobody"), (Role.OWNER, "shop")])
async def test_a_token_is_for_a_tenant_that_there_is_and_an_owners_for_none(
    platform: FakePlatform, role: Role, tenant: str
) -> None:
    with pytest.raises(PlatformError) as caught:
        await issue_token(platform.ports, OWNER, TokenRequest(name="eve", role=role, tenant=tenant))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    issued = await issue_token(platform.ports, OWNER, TokenRequest(name="eve", role=Role.QA, tenant="shop"))
    assert issued.principal.tenant == "shop"


async def test_the_principal_of_a_tenant_that_is_gone_sees_nothing(platform: FakePlatform) -> None:
    gone = ANN.model_copy(update={"tenant": "gone"})
    for tool in ("read_architecture", "read_logs"):
        assert (await said(platform, gone, tool)).startswith("not_found")


async def test_a_tenants_operations_are_as_many_at_once_as_its_quota_and_the_way_back_is_never_refused() -> None:
    platform = FakePlatform(workspace=FakeWorkspace(("web", "till", SECRET), settings(shop=Quotas(operations=1))))
    await deployed(platform, ANN, "till")
    await deployed(platform, ANN, "till", git_ref="v2")
    asked = DeployRequest(service="till", environment="production", git_ref="v3")
    await deploy_service(platform.ports, ANN, asked)
    with pytest.raises(PlatformError) as raised:
        await deploy_service(platform.ports, ANN, asked.model_copy(update={"environment": "staging"}))
    assert raised.value.code is ErrorCode.RESOURCE_EXHAUSTED
    assert raised.value.retry_after
    assert "1 of its operations may run at once" in raised.value.message
    await deploy_service(platform.ports, BOB, DeployRequest(service=SECRET, environment="staging", git_ref="v1"))
    answer = await said(platform, ANN, "manage_operation", action="abort", service="till", environment="production")
    assert "exhausted" not in answer
