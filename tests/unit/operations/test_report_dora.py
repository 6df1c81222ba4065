"""The DORA report over rollouts of the in-memory platform."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.domain.dora import Metric, Standing
from santiago_platform.domain.environment import Environment, ServiceSettings, Settings, Tenant
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.incident import Evidence, IncidentState, Suspect
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service
from santiago_platform.operations.manage_operation import OperationCommand, manage_operation
from santiago_platform.operations.report_dora import DoraQuery, DoraReport, report_dora
from santiago_platform.reconcilers.rollout import RolloutReconciler
from santiago_platform.testing.rows import incident as an_incident

ANN = Principal(name="ann", role=Role.DEVELOPER)
EVE = Principal(name="eve", role=Role.DEVELOPER, tenant="other")
SETTINGS = Settings(
    environments={
        "staging": Environment(),
        "production": Environment(defaults=ServiceSettings(watch_seconds=0, drain_timeout_seconds=0)),
    },
    tenants={"other": Tenant(services=("till",))},
)


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform(workspace=FakeWorkspace(("web", "till"), SETTINGS))


async def settle(platform: FakePlatform) -> None:
    loop = RolloutReconciler(platform.ports)
    for _ in range(200):
        await loop.pass_over_all()
        platform.clock.advance(0.2)
        if not await platform.store.read(lambda v: v.operations(running=True)):
            return
    raise AssertionError("it hangs")


async def deploy(platform: FakePlatform, ref: str, environment: str = "production", **request: Any) -> str:
    asked = DeployRequest(service="web", environment=environment, git_ref=ref, **request)
    commit = await platform.artifacts.resolve(ref)
    platform.artifacts.commits[commit] = (platform.clock.now() - timedelta(minutes=30),)
    operation = (await deploy_service(platform.ports, ANN, asked)).id
    await settle(platform)
    return operation


async def roll_back(platform: FakePlatform, reason: str) -> None:
    command = OperationCommand(action="rollback", service="web", environment="production", reason=reason)
    await manage_operation(platform.ports, ANN, command)
    await settle(platform)


async def report(platform: FakePlatform, **query: Any) -> DoraReport:
    return await report_dora(platform.ports, ANN, DoraQuery(**query))


async def incident(
    platform: FakePlatform, id: str, operation: str, *, evidence: Evidence, resolved_at: datetime | None = None
) -> None:
    now = platform.clock.now()
    made = an_incident(
        id=id,
        title="500s",
        state=IncidentState.OPEN if resolved_at is None else IncidentState.RESOLVED,
        opened_at=now,
        resolved_at=resolved_at,
        suspect=Suspect(operation=operation, kind="deploy_service", evidence=evidence, at=now),
    )
    await platform.store.write(lambda tx: tx.save_incident(made))


async def test_a_deploy_whose_version_caused_an_incident_has_failed_until_the_last_of_those_is_resolved(
    platform: FakePlatform,
) -> None:
    bad = await deploy(platform, "one")
    platform.clock.advance(600)
    now = platform.clock.now()
    await incident(platform, "in-1", bad, evidence=Evidence.VERSION, resolved_at=now + timedelta(minutes=10))
    await incident(platform, "in-2", bad, evidence=Evidence.VERSION)
    platform.clock.advance(3600)
    (open_still,) = (await report(platform)).failures
    assert (open_still.operation, open_still.why, open_still.recovery_seconds) == (bad, "incident in-1: 500s", None)
    await incident(platform, "in-2", bad, evidence=Evidence.VERSION, resolved_at=now + timedelta(minutes=20))
    found = await report(platform)
    (failure,) = found.failures
    assert failure.recovery_seconds == pytest.approx(1800, abs=60)
    of = found.services[0].delivery.of
    assert of(Metric.FAIL_RATE).value == 1
    assert of(Metric.RECOVERY_TIME).value == failure.recovery_seconds


async def test_a_deploy_that_only_came_shortly_before_an_incident_did_no_harm(platform: FakePlatform) -> None:
    near = await deploy(platform, "one")
    await incident(platform, "in-1", near, evidence=Evidence.TIME)
    found = await report(platform)
    assert found.failures == ()
    assert found.services[0].delivery.of(Metric.FAIL_RATE).value == 0


async def test_deploys_and_their_rollback_make_the_five_metrics(platform: FakePlatform) -> None:
    await deploy(platform, "one")
    platform.clock.advance(3600)
    bad = await deploy(platform, "two")
    platform.clock.advance(600)
    await roll_back(platform, "checkout fails")
    platform.clock.advance(3600)
    await incident(platform, "in-7", bad, evidence=Evidence.TIME, resolved_at=platform.clock.now())
    await deploy(platform, "three", fixes="in-7")
    found = await report(platform)
    (web,) = found.services
    assert (web.name, web.delivery.deploys, web.delivery.failed) == ("web", 3, 1)
    of = web.delivery.of
    assert of(Metric.LEAD_TIME).value == pytest.approx(1800, abs=60)
    assert of(Metric.LEAD_TIME).standing is Standing.MET
    assert of(Metric.FREQUENCY).value == 3
    assert of(Metric.RECOVERY_TIME).value == pytest.approx(600, abs=60)
    assert of(Metric.FAIL_RATE).value == pytest.approx(1 / 3)
    assert of(Metric.REWORK_RATE).value == pytest.approx(1 / 3)
    (failure,) = found.failures
    assert (failure.operation, failure.why) == (bad, "checkout fails")
    assert [(t.name, t.delivery.deploys) for t in found.tenants] == [("default", 3)]


async def test_deploys_to_other_kinds_of_environments_do_not_count(platform: FakePlatform) -> None:
    await deploy(platform, "one", "staging")
    assert (await report(platform)).services == ()


async def test_a_promoted_release_has_the_commit_that_its_own_rollout_was_built_from(platform: FakePlatform) -> None:
    await deploy(platform, "one", "staging")
    promoted = DeployRequest(service="web", environment="production", from_environment="staging")
    await deploy_service(platform.ports, ANN, promoted)
    await settle(platform)
    for release in await platform.artifacts.list():
        await platform.artifacts.remove(release.digest)
    (web,) = (await report(platform)).services
    assert web.delivery.of(Metric.LEAD_TIME).samples == 1


async def test_a_release_that_nobody_knows_any_more_is_said_to_have_no_lead_time(platform: FakePlatform) -> None:
    release = await platform.artifacts.build("web", await platform.artifacts.resolve("one"))
    asked = DeployRequest(service="web", environment="production", release=release.digest)
    await deploy_service(platform.ports, ANN, asked)
    await settle(platform)
    await platform.artifacts.remove(release.digest)
    found = await report(platform)
    assert found.services[0].delivery.of(Metric.LEAD_TIME).standing is Standing.NO_DATA
    assert "commits are not known" in found.notes[0]


async def test_another_tenants_deliveries_are_not_there(platform: FakePlatform) -> None:
    await deploy(platform, "one")
    assert (await report_dora(platform.ports, EVE, DoraQuery())).services == ()
    with pytest.raises(PlatformError) as caught:
        await report_dora(platform.ports, EVE, DoraQuery(service="web"))
    assert caught.value.code is ErrorCode.NOT_FOUND


async def test_a_period_may_end_in_the_past(platform: FakePlatform) -> None:
    until = platform.clock.now() + timedelta(minutes=1)
    await deploy(platform, "one")
    platform.clock.advance(7200)
    await deploy(platform, "two")
    found = await report_dora(platform.ports, ANN, DoraQuery(days=7), until=until)
    assert [s.delivery.deploys for s in found.services] == [1]
