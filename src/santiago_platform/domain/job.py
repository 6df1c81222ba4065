"""Jobs: commands of a release that run once and end: before a rollout moves anything, after it, or on a schedule.

A `Job` is what build.yaml says and the release carries; a `JobRun` is one row: that it runs, or how it ended. Ids of
runs follow from what asked for them, so that after a crash the same run is found and not a second one begun.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import takewhile
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import Field

from .identity import Name
from .value import Value
from .workload import Probe, Template

# A run that was missed while the platform was down is made up for if it is no later than this.
LATE = timedelta(hours=1)
KEPT_RUNS = 20  # of each job
PAUSE_SECONDS = 10.0  # between two attempts at most


class When(StrEnum):
    PRE_DEPLOY = "pre-deploy"  # before a rollout starts or stops anything; a failure ends the rollout
    POST_DEPLOY = "post-deploy"  # once the new version is proven; a failure takes the rollout back
    SCHEDULED = "scheduled"  # at times, with the live version


class Job(Value):
    """command: argv, run in the unpacked release. variables: over those of the first container.

    schedule: five fields of cron, in `time_zone`; empty unless it is scheduled. timeout_seconds: of one attempt.
    retries: further attempts after one that failed.
    """

    name: Name
    when: When
    command: tuple[str, ...]
    variables: tuple[tuple[str, str], ...] = ()
    schedule: str = ""
    time_zone: str = "UTC"
    timeout_seconds: Annotated[int, Field(ge=1)] = 600
    retries: Annotated[int, Field(ge=0)] = 0

    def longest(self, grace_seconds: float) -> timedelta:
        """What it may take with all its attempts, each ended by its time-out."""
        return timedelta(seconds=(self.retries + 1) * (self.timeout_seconds + grace_seconds + PAUSE_SECONDS))


class RunState(StrEnum):
    RUNNING = "running"  # or about to be
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # its last attempt did
    STOPPED = "stopped"  # the rollout that it belongs to was taken back
    SKIPPED = "skipped"  # it was time, and the run before had not ended

    @property
    def finished(self) -> bool:
        return self is not RunState.RUNNING


class JobRun(Value):
    """One row. template: of the version that it runs with. attempts: begun so far.

    rollout_id: of the rollout that it is part of. by: who asked for it by hand. scheduled_for: the time that asked.
    reason: how it ended, in words. log_tail: its last lines, where it failed.
    """

    id: str
    job: Job
    template: Template
    rollout_id: str = ""
    by: str = ""
    scheduled_for: datetime | None = None
    state: RunState = RunState.RUNNING
    attempts: int = 0
    started_at: datetime
    finished_at: datetime | None = None
    reason: str = ""
    log_tail: tuple[str, ...] = ()

    @property
    def workload(self) -> Template:
        """What runs: the version's first container with the job's command, without ports and probes."""
        return self.template.model_copy(
            update={
                "command": self.job.command,
                "variables": tuple(sorted({**dict(self.template.variables), **dict(self.job.variables)}.items())),
                "ports": (),
                "readiness": Probe(),
                "liveness": None,
                "beside": (),
            }
        )

    def ended(self, state: RunState, at: datetime, reason: str = "", log_tail: tuple[str, ...] = ()) -> JobRun:
        return self.model_copy(update={"state": state, "finished_at": at, "reason": reason, "log_tail": log_tail})


def job_run(job: Job, template: Template, key: str, at: datetime, **fields: object) -> JobRun:
    """The run of a job that `key` asks for: lower-case letters, digits and `-`; twice the same is the same run."""
    where = f"{template.service}__{template.environment}"
    known = {"id": f"{where}__{job.name}.{template.version}.{key}", "job": job, "template": template, "started_at": at}
    return JobRun.model_validate(known | fields)


def due(job: Job, since: datetime, now: datetime) -> datetime | None:
    """The last time of the job's schedule after `since` and until `now`, where it is at most LATE ago.

    Several missed ones are one: what was to be done is done once.
    """
    found = list(takewhile(lambda at: at <= now, _times(job, max(since, now - LATE))))
    return found[-1] if found else None


def next_time(job: Job, after: datetime) -> datetime | None:
    """The first time of the job's schedule after `after`; None for one without."""
    return next(_times(job, after), None) if job.schedule else None


def _times(job: Job, after: datetime) -> Iterator[datetime]:
    """In UTC. Where the clock is put back, the library begins with times that were before."""
    zone = UTC if job.time_zone == "UTC" else ZoneInfo(job.time_zone)
    return (at.astimezone(UTC) for at in CronSim(job.schedule, after.astimezone(zone)) if at.astimezone(UTC) > after)


def schedule_problem(schedule: str) -> str:
    """What is wrong with five fields of cron, in words; empty where nothing is."""
    if len(schedule.split()) != 5:
        return f"it has {len(schedule.split())} fields, not minute, hour, day of the month, month and day of the week"
    try:
        never = next(CronSim(schedule, datetime(2000, 1, 1, tzinfo=UTC)), None) is None
    except CronSimError as exc:
        return str(exc)[:1].lower() + str(exc)[1:]
    return "that time never comes" if never else ""


def time_zone_problem(name: str) -> str:
    """Why this machine has no such time zone; empty where it has."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        return "" if name == "UTC" else f"there is no time zone {name!r:.60} on this machine"
    return ""


def superseded(runs: Iterable[JobRun]) -> list[str]:
    """Ids of the finished runs of one job, newest first, that need not be kept."""
    finished = [run.id for run in runs if run.state.finished]
    return finished[KEPT_RUNS:]
