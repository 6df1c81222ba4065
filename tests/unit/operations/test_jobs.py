from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.domain.deployment import Deployment, Version
from santiago_platform.domain.environment import Environment, Settings, Tenant
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.job import Job, When
from santiago_platform.domain.ship_log import EntryKind
from santiago_platform.operations.jobs import JobsQuery, RunJobRequest, read_jobs, run_job
from santiago_platform.operations.read_architecture import ArchitectureQuery, read_architecture
from santiago_platform.reconcilers.schedule import ScheduleReconciler

ANN = Principal(name="ann", role=Role.DEVELOPER)
EVE = Principal(name="eve", role=Role.DEVELOPER, tenant="other")
OSCAR = Principal(name="oscar", role=Role.OBSERVER)
REPORT = Job(name="report", when=When.SCHEDULED, command=("./report",), schedule="0 4 * * *")
MIGRATE = Job(name="migrate", when=When.PRE_DEPLOY, command=("./migrate",))
RUN = RunJobRequest(service="web", environment="production", job="report")


@pytest.fixture
async def platform() -> FakePlatform:
    """`web` is live with two jobs, `shop` of another tenant with one."""
    settings = Settings(environments={"production": Environment()}, tenants={"other": Tenant(services=("shop",))})
    made = FakePlatform(workspace=FakeWorkspace(("web", "shop"), settings))
    for service, jobs in (("web", (REPORT, MIGRATE)), ("shop", (REPORT,))):
        template = made.workspace.template(service, release="r", environment="production", where="")
        live = Version(template=template, replicas=1, jobs=jobs)
        row = Deployment(service=service, environment="production", tenant=template.tenant, live=live)
        await made.store.write(lambda tx, row=row: tx.save_deployment(row))  # type: ignore[misc]
    return made


async def refusal(platform: FakePlatform, who: Principal, request: RunJobRequest = RUN) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        await run_job(platform.ports, who, request)
    return caught.value


async def test_jobs_of_what_is_live_are_listed_with_their_next_time(platform: FakePlatform) -> None:
    found = (await read_jobs(platform.ports, ANN, JobsQuery())).jobs
    assert [(job.service, job.job, job.when) for job in found] == [
        ("web", "report", "scheduled"),
        ("web", "migrate", "pre-deploy"),
    ]
    now = platform.clock.now()
    assert found[0].next_at is not None
    assert now < found[0].next_at <= now + timedelta(days=1)
    assert found[1].next_at is None


async def test_a_run_by_hand_goes_on_after_the_answer_and_its_end_is_in_the_ships_log(platform: FakePlatform) -> None:
    begun = await run_job(platform.ports, ANN, RUN)
    assert (begun.state, begun.by) == ("running", "ann")
    await ScheduleReconciler(platform.ports).pass_over()
    await ScheduleReconciler(platform.ports).pass_over()
    (job,) = (await read_jobs(platform.ports, ANN, JobsQuery(service="web", job="report"))).jobs
    assert [(run.id, run.state) for run in job.runs] == [(begun.id, "succeeded")]
    entries = [(e.kind, e.action) for e in platform.ship_log.entries]
    assert entries == [
        (EntryKind.OPENED, "run_job"),
        (EntryKind.COMPLETED, "run_job"),
        (EntryKind.NOTED, "job.succeeded"),
    ]


async def test_a_job_that_runs_is_not_begun_a_second_time(platform: FakePlatform) -> None:
    await run_job(platform.ports, ANN, RUN)
    assert (await refusal(platform, ANN)).code is ErrorCode.CONFLICT


async def test_what_there_is_not_is_said(platform: FakePlatform) -> None:
    unknown = await refusal(platform, ANN, RUN.model_copy(update={"job": "reprot"}))
    assert (unknown.code, "report, migrate" in unknown.hint) == (ErrorCode.NOT_FOUND, True)
    nowhere = await refusal(platform, ANN, RUN.model_copy(update={"environment": "staging"}))
    assert nowhere.code is ErrorCode.FAILED_PRECONDITION


async def test_who_only_reads_begins_nothing_and_another_tenant_s_jobs_do_not_exist(platform: FakePlatform) -> None:
    assert (await refusal(platform, OSCAR)).code is ErrorCode.PERMISSION_DENIED
    assert (await refusal(platform, EVE)).code is ErrorCode.NOT_FOUND
    assert {job.service for job in (await read_jobs(platform.ports, EVE, JobsQuery())).jobs} == {"shop"}
    assert platform.jobs.started == []


async def test_the_architecture_says_how_each_job_ended_and_when_it_is_next(platform: FakePlatform) -> None:
    platform.jobs.failing["report"] = "exited with code 4"
    await run_job(platform.ports, ANN, RUN)
    for _ in range(2):
        await ScheduleReconciler(platform.ports).pass_over()
    (service,) = (await read_architecture(platform.ports, ANN, ArchitectureQuery())).services
    report, migrate = service.jobs
    at = datetime.strftime(platform.clock.now(), "%Y-%m-%dT%H:%MZ")
    assert report.startswith(f"report, scheduled: failed {at} (exited with code 4), next ")
    assert migrate == "migrate, pre-deploy: never run"
