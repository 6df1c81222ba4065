"""The contract of ports.jobs.Jobs, and jobs to run it with."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from ..domain.job import Job, JobRun, When, job_run
from ..ports.jobs import Jobs, JobState, JobStatus
from .compute import service_template
from .eventually import eventually

STARTED = datetime(2026, 1, 1, tzinfo=UTC)
MakeRun = Callable[..., JobRun]


def shell_run(script: str = "true", name: str = "migrate", key: str = "ro-1", **fields: Any) -> JobRun:
    """A run of a shell script with the version of `service_template`. fields: of the job, and `template`."""
    template = {"stop_grace_seconds": 1.0, **fields.pop("template", {})}
    job = Job(name=name, when=When.PRE_DEPLOY, command=("sh", "-c", script), **fields)
    return job_run(job, service_template(**template), key, STARTED)


async def status_of(jobs: Jobs, run: JobRun) -> JobStatus | None:
    return next((status for status in await jobs.list() if status.run_id == run.id), None)


async def until(jobs: Jobs, run: JobRun, state: JobState, seconds: float = 15.0) -> JobStatus:
    seen = await eventually(lambda: status_of(jobs, run), lambda s: s is not None and s.state is state, seconds)
    assert seen is not None  # `eventually` saw to it
    return seen


async def until_gone(jobs: Jobs, run: JobRun) -> None:
    async def stopped() -> JobStatus | None:
        await jobs.stop(run.id)
        return await status_of(jobs, run)

    await eventually(stopped, lambda status: status is None, 15.0)


class JobsContract:
    """Fixtures: `jobs`, empty before each test; `succeeding`, `failing` (it exits with 3, and is tried twice) and
    `hanging`, which make runs of these jobs by service and environment."""

    async def test_a_started_run_ends_and_is_listed_until_it_is_stopped(self, jobs: Jobs, succeeding: MakeRun) -> None:
        run = succeeding()
        await jobs.start(run)
        status = await until(jobs, run, JobState.SUCCEEDED)
        assert (status.service, status.environment, status.attempts, status.reason) == ("web", "production", 1, "")
        await until_gone(jobs, run)
        assert await jobs.list() == []

    async def test_what_was_started_is_not_started_again_by_starting_it(self, jobs: Jobs, succeeding: MakeRun) -> None:
        run = succeeding()
        for _ in range(2):
            await jobs.start(run)
            assert (await until(jobs, run, JobState.SUCCEEDED)).attempts == 1

    async def test_one_that_fails_is_tried_as_often_as_it_may_and_says_how_it_ended(
        self, jobs: Jobs, failing: MakeRun
    ) -> None:
        run = failing()
        await jobs.start(run)
        status = await until(jobs, run, JobState.FAILED)
        assert (status.attempts, status.reason) == (2, "exited with code 3 (2 times)")

    async def test_one_that_runs_can_be_stopped_and_stopping_may_be_repeated(
        self, jobs: Jobs, hanging: MakeRun
    ) -> None:
        run = hanging()
        await jobs.start(run)
        assert (await until(jobs, run, JobState.RUNNING)).reason == ""
        await until_gone(jobs, run)
        await jobs.stop(run.id)
        assert await jobs.list() == []

    async def test_stopping_what_is_unknown_is_no_error_and_harms_nothing(self, jobs: Jobs, hanging: MakeRun) -> None:
        run = hanging()
        await jobs.start(run)
        for unknown in ("no__such__job.1.2", "daemon", "", "..", "web__production__0123456789ab__0", "a__../../b__c"):
            await jobs.stop(unknown)
        assert (await until(jobs, run, JobState.RUNNING)).run_id == run.id

    async def test_runs_are_listed_by_service_and_environment(self, jobs: Jobs, succeeding: MakeRun) -> None:
        here, there = succeeding(), succeeding(service="shop", environment="staging")
        for run in (here, there):
            await jobs.start(run)
        assert [s.run_id for s in await jobs.list()] == sorted([here.id, there.id])
        assert [s.run_id for s in await jobs.list("shop")] == [there.id]
        assert [s.run_id for s in await jobs.list("web", "production")] == [here.id]
        assert await jobs.list("web", "staging") == []
