"""Jobs of what is live: how their last runs ended, when the next ones are, and a run by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ..domain.change_plan import plan_of_run
from ..domain.change_request import Decision as Approved
from ..domain.deployment import Deployment
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Name, Principal
from ..domain.job import Job, JobRun, RunState, job_run, next_time
from ..domain.operation import Operation, OperationState
from ..domain.value import Value
from ..domain.workload import Template
from ..ports import Ports
from ..ports.store import Snapshot, Transaction
from .authority import ALL, authorise, is_shown
from .change import Record, change
from .change_request import Ended, Prepared, hold, live_of, needs_of, wanted
from .operation_view import OperationView, view
from .tenancy import is_own, require_service

RUN = "run_job"
SHOWN_RUNS = 5
DETAIL_LINES = 20


class JobsQuery(Value):
    """None means all."""

    service: Name | None = None
    environment: Name | None = None
    job: Name | None = None


class RunView(Value):
    """attempts: begun until it ended. detail: its last lines where it failed (untrusted text)."""

    id: str
    state: str
    attempts: int
    version: str
    by: str = ""
    scheduled_for: datetime | None = None
    started_at: datetime
    finished_at: datetime | None = None
    reason: str = ""
    detail: tuple[str, ...] = ()


class JobView(Value):
    """A job of the live version. next_at: of one that is scheduled. runs: the last ones, newest first."""

    service: str
    environment: str
    job: str
    when: str
    schedule: str = ""
    time_zone: str = ""
    next_at: datetime | None = None
    runs: tuple[RunView, ...] = ()


class JobsAnswer(Value):
    jobs: tuple[JobView, ...]


class RunJobRequest(Value):
    service: Name
    environment: Name
    job: Name


async def read_jobs(ports: Ports, principal: Principal, query: JobsQuery) -> JobsAnswer:
    """Raises PlatformError: NOT_FOUND for an unknown service, PERMISSION_DENIED."""
    settings = ports.workspace.last_good_settings()
    authorise(ports, principal, "read_jobs", settings, service=query.service, environment=query.environment or ALL)
    if query.service is not None:
        await require_service(ports, principal, settings, query.service)
    now = ports.clock.now()

    def look(snapshot: Snapshot) -> JobsAnswer:
        wanted = [
            (deployment, job)
            for deployment in snapshot.deployments()
            if is_own(principal, settings, deployment.service)
            and query.service in (None, deployment.service)
            and query.environment in (None, deployment.environment)
            and is_shown(ports, principal, "read_jobs", settings, deployment.service, deployment.environment)
            for job in (deployment.live.jobs if deployment.live else ())
            if query.job in (None, job.name)
        ]
        return JobsAnswer(jobs=tuple(_job_view(snapshot, deployment, job, now) for deployment, job in wanted))

    return await ports.store.read(look)


async def run_job(ports: Ports, principal: Principal, request: RunJobRequest) -> RunView | OperationView:
    """Begins a run of a job of the live version, and returns at once; the loop of the schedule follows it. Where it
    takes an approval, the operation that waits.

    Raises PlatformError: NOT_FOUND (service, job), CONFLICT (the job runs), FAILED_PRECONDITION (nothing is live),
    PERMISSION_DENIED.
    """
    subject, asked = f"{request.service}/{request.environment} {request.job}", request.model_dump(mode="json")
    async with change(ports, principal, RUN, subject, asked) as record:
        prepared = await prepare_run(ports, principal, asked, record)
        wants = wanted(ports.workspace.settings(), request.environment, prepared.needs)
        if wants is not None:
            held = await hold(ports, record, prepared, wants)
            return await ports.store.read(lambda snapshot: view(snapshot, held))
        run = await ports.store.write(lambda tx: _begin(tx, principal, request, record.operation, ports.clock.now()))
        record.outcome, record.body = "begun", {"run": run.id}
    ports.activation.activate()
    return _run_view(run)


async def prepare_run(
    ports: Ports,
    principal: Principal,
    arguments: Mapping[str, Any],
    record: Record,
    approvals: tuple[Approved, ...] = (),
) -> Prepared:
    """Raises as `run_job` does. CONFLICT, where the job runs, when it begins: approve it again once that has ended."""
    request = RunJobRequest.model_validate(arguments)
    service, environment = request.service, request.environment
    settings = ports.workspace.settings()
    ruling = authorise(ports, principal, RUN, settings, service=service, environment=environment, waits=True)
    await require_service(ports, principal, settings, service)
    deployment = await ports.store.read(lambda snapshot: snapshot.deployment(service, environment))
    job, template = _live(deployment, request)
    now = ports.clock.now()
    run = job_run(job, template, record.operation, now, by=principal.name)
    operation = Operation(
        id=record.operation,
        kind=RUN,
        principal=principal,
        tenant=template.tenant,
        service=service,
        environment=environment,
        request={**request.model_dump(mode="json"), "run": run.id},
        phase="running",
        reason=f"job {request.job}",
        created_at=now,
        updated_at=now,
        log_entry=record.seq,
    )

    def begin_it(tx: Transaction) -> None:
        _begin(tx, principal, request, operation.id, now)
        tx.save_operation(operation)

    return Prepared(
        operation=operation,
        arguments=request.model_dump(mode="json"),
        plan=plan_of_run(job, template),
        live=live_of(ports, service, environment),
        needs=needs_of(settings, environment, ruling),
        begin=begin_it,
        release=template.release,
    )


async def carry_run(ports: Ports, operation: Operation) -> Ended | None:
    """It ends as the run does."""
    run = await ports.store.read(lambda snapshot: snapshot.job_run(operation.request["run"]))
    if run is None:
        return Ended(OperationState.UNVERIFIED, f"job {operation.request['job']}: how it ended is no longer kept")
    if not run.state.finished:
        return None
    state = OperationState.SUCCEEDED if run.state is RunState.SUCCEEDED else OperationState.FAILED
    reason = f"job {run.job.name}: {run.state}" + (f", {run.reason}" if run.reason else "")
    return Ended(state, reason, run.log_tail)


def _begin(tx: Transaction, principal: Principal, request: RunJobRequest, operation_id: str, now: datetime) -> JobRun:
    deployment = tx.deployment(request.service, request.environment)
    job, template = _live(deployment, request)
    run = job_run(job, template, operation_id, now, by=principal.name)
    if any(not other.state.finished for other in runs_of(tx, run.job, deployment)):
        raise PlatformError(
            ErrorCode.CONFLICT,
            f"the job {request.job} of {request.service} runs in {request.environment} now",
            "wait for its end: a job does not overlap itself",
        )
    tx.save_job_run(run)
    return run


def runs_of(view: Snapshot, job: Job, deployment: Deployment | None) -> Sequence[JobRun]:
    """Of a job in a service and environment, with whatever version, newest first."""
    if deployment is None:
        return ()
    return view.job_runs(service=deployment.service, environment=deployment.environment, job=job.name)


def in_words(view: Snapshot, deployment: Deployment, now: datetime) -> tuple[str, ...]:
    """A line for each job of the live version."""
    lines = []
    for job in deployment.live.jobs if deployment.live else ():
        run = next(iter(runs_of(view, job, deployment)), None)
        at = f" {run.finished_at or run.started_at:%Y-%m-%dT%H:%MZ}" if run else ""
        last = f"{run.state}{at}" + (f" ({run.reason[:200]})" if run.reason else "") if run else "never run"
        following = next_time(job, now)
        lines.append(f"{job.name}, {job.when}: {last}" + (f", next {following:%Y-%m-%dT%H:%MZ}" if following else ""))
    return tuple(lines)


def _live(deployment: Deployment | None, request: RunJobRequest) -> tuple[Job, Template]:
    if deployment is None or deployment.live is None:
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"nothing of {request.service} is live in {request.environment}: there is no version to run a job of",
            "deploy it first",
        )
    job = next((job for job in deployment.live.jobs if job.name == request.job), None)
    if job is None:
        known = ", ".join(job.name for job in deployment.live.jobs) or "none"
        raise PlatformError(
            ErrorCode.NOT_FOUND,
            f"the live version of {request.service} has no job {request.job}",
            f"it has: {known}; `jobs` in build.yaml makes one, with the next deploy",
        )
    return job, deployment.live.template


def _job_view(view: Snapshot, deployment: Deployment, job: Job, now: datetime) -> JobView:
    return JobView(
        service=deployment.service,
        environment=deployment.environment,
        job=job.name,
        when=job.when,
        schedule=job.schedule,
        time_zone=job.time_zone if job.schedule else "",
        next_at=next_time(job, now),
        runs=tuple(_run_view(run) for run in runs_of(view, job, deployment)[:SHOWN_RUNS]),
    )


def _run_view(run: JobRun) -> RunView:
    return RunView(
        id=run.id,
        state=run.state,
        attempts=run.attempts,
        version=run.template.version,
        by=run.by,
        scheduled_for=run.scheduled_for,
        started_at=run.started_at,
        finished_at=run.finished_at,
        reason=run.reason[:2000],
        detail=run.log_tail[-DETAIL_LINES:],
    )
