"""A rule about what may be read holds for whoever leaves a name out, too."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.adapters.policies.cedar import CedarPolicy
from santiago_platform.domain.deployment import Deployment
from santiago_platform.domain.environment import Environment, Settings
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.signal import LogLine
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service
from santiago_platform.operations.jobs import JobsQuery, read_jobs
from santiago_platform.operations.manage_operation import OperationCommand, manage_operation
from santiago_platform.operations.query_metrics import MetricsQuery, query_metrics
from santiago_platform.operations.read_architecture import ArchitectureQuery, read_architecture
from santiago_platform.operations.read_logs import LogsQuery, read_logs
from santiago_platform.operations.read_ship_log import read_log_entry
from santiago_platform.ports.store import Transaction

ANN = Principal(name="ann", role=Role.DEVELOPER)
EVE = Principal(name="eve", role=Role.OBSERVER)
PRODUCTION = 'resource.kind == Kind::"production"'
BY_NAME = 'resource.service == "web" && resource.environment == "production"'


@pytest.fixture
def platform(tmp_path: Path) -> FakePlatform:
    (tmp_path / "policies").mkdir()
    settings = Settings(environments={"staging": Environment(), "production": Environment()})
    return FakePlatform(workspace=FakeWorkspace(("web", "till"), settings), policy=CedarPolicy(tmp_path))


def forbid(tmp_path: Path, when: str) -> None:
    rule = '@id("not-for-observers")\nforbid (principal in Role::"observer", action in Action::"read", resource)\n'
    (tmp_path / "policies" / "own.cedar").write_text(f"{rule}when {{ {when} }};")


async def refused(awaitable: Awaitable[object]) -> str:
    with pytest.raises(PlatformError) as raised:
        await awaitable
    assert raised.value.code is ErrorCode.PERMISSION_DENIED
    return f"{raised.value.message}; {raised.value.hint}"


async def deployed(platform: FakePlatform, environment: str) -> str:
    asked = DeployRequest(service="web", environment=environment, git_ref="v1")
    return (await deploy_service(platform.ports, ANN, asked)).id


async def test_a_question_without_an_environment_is_one_about_the_most_delicate(
    platform: FakePlatform, tmp_path: Path
) -> None:
    forbid(tmp_path, PRODUCTION)
    ports = platform.ports
    for asked in (
        read_logs(ports, EVE, LogsQuery(service="web")),
        read_jobs(ports, EVE, JobsQuery(service="web")),
        query_metrics(ports, EVE, MetricsQuery(expression="up")),
        manage_operation(ports, EVE, OperationCommand(action="history")),
    ):
        told = await refused(asked)
        assert "rule not-for-observers" in told
        assert "name the environment" in told
    await read_logs(ports, EVE, LogsQuery(service="web", environment="staging"))
    await read_logs(ports, ANN, LogsQuery())


async def test_an_operation_that_is_named_by_its_id_is_asked_about_where_it_is(
    platform: FakePlatform, tmp_path: Path
) -> None:
    forbid(tmp_path, PRODUCTION)
    staging, production = [await deployed(platform, environment) for environment in ("staging", "production")]
    seen = await manage_operation(platform.ports, EVE, OperationCommand(action="status", operation=staging))
    assert seen.operations[0].id == staging
    for action in ("status", "wait"):
        await refused(manage_operation(platform.ports, EVE, OperationCommand(action=action, operation=production)))


async def test_an_entry_of_the_log_is_asked_about_where_its_operation_is(
    platform: FakePlatform, tmp_path: Path
) -> None:
    forbid(tmp_path, PRODUCTION)
    for environment in ("staging", "production"):
        await deployed(platform, environment)
    entries = {e.subject: e.seq for e in platform.ship_log.entries if e.action == "deploy_service"}
    await read_log_entry(platform.ports, EVE, entries["web/staging"])
    await refused(read_log_entry(platform.ports, EVE, entries["web/production"]))
    await read_log_entry(platform.ports, ANN, entries["web/production"])


async def test_what_is_found_without_a_name_is_shown_only_where_a_rule_lets_it(
    platform: FakePlatform, tmp_path: Path
) -> None:
    forbid(tmp_path, BY_NAME)
    places = [("web", "production"), ("web", "staging"), ("till", "production")]
    platform.logs.lines = [
        LogLine(at=1.0, instance="i", service=service, environment=environment, version="v", level="info", text="hi")
        for service, environment in places
    ]
    for environment in ("staging", "production"):
        await deployed(platform, environment)

    def some(tx: Transaction) -> None:
        for service, environment in places:
            tx.save_deployment(Deployment(service=service, environment=environment, tenant="default"))

    await platform.store.write(some)
    ports = platform.ports
    for who, expected in ((EVE, places[1:]), (ANN, places)):
        lines = (await read_logs(ports, who, LogsQuery())).lines
        assert {(line.service, line.environment) for line in lines} == set(expected)
        services = (await read_architecture(ports, who, ArchitectureQuery())).services
        assert {(s.service, s.environment) for s in services} == set(expected)
        known = (await manage_operation(ports, who, OperationCommand(action="history"))).operations
        assert {o.environment for o in known} == {environment for service, environment in expected if service == "web"}
    await refused(query_metrics(ports, EVE, MetricsQuery(expression="up")))
    await query_metrics(ports, ANN, MetricsQuery(expression="up"))
