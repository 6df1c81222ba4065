"""The loop over jobs that no rollout waits for: begins what is due, follows what runs, and ends what nobody wants."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from ..domain.deployment import Deployment
from ..domain.errors import PlatformError
from ..domain.job import Job, JobRun, RunState, When, due, job_run
from ..operations.jobs import runs_of
from ..ports import Ports
from ..ports.store import Snapshot
from .jobs import JobRuns

log = logging.getLogger(__name__)

REST_SECONDS = 1.0  # times are whole minutes
CountRun = Callable[[str], None]


class ScheduleReconciler:
    """One per daemon. What is due follows from the rows: live versions, and the last run of each of their jobs."""

    def __init__(self, ports: Ports, count_run: CountRun = lambda _outcome: None) -> None:
        """count_run: told the state in which a run ended that no rollout waited for."""
        self._ports = ports
        self._runs = JobRuns(ports)
        self._count_run = count_run
        self._looked: datetime | None = None

    async def run(self) -> None:
        """Passes until it is cancelled; a failed pass is logged and tried again."""
        while True:
            try:
                await self.pass_over()
            except PlatformError as exc:
                log.warning("scheduled jobs: %s %s", exc.message, exc.internal)
            except Exception:
                log.exception("the pass over scheduled jobs failed")
            await self._ports.clock.sleep(REST_SECONDS)

    async def pass_over(self) -> None:
        """One pass over all that is due, runs, or was left."""
        await self._begin_due(self._ports.clock.now())
        unfinished = await self._ports.store.read(_unfinished)
        await asyncio.gather(*(self._step(run, wanted) for run, wanted in unfinished))
        await self._forget()

    async def _begin_due(self, now: datetime) -> None:
        """Once a minute: schedules have no finer times."""
        minute = now.replace(second=0, microsecond=0)
        if minute == self._looked:
            return
        for run in await self._ports.store.read(lambda v: _due(v, now)):
            await self._ports.store.write(lambda tx, run=run: tx.save_job_run(run))  # type: ignore[misc]
            if run.state is RunState.SKIPPED:
                self._count_run(run.state)
        self._looked = minute

    async def _step(self, run: JobRun, wanted: bool) -> None:
        after = await (self._runs.follow(run) if wanted else self._runs.stop(run))
        if after.state.finished and not after.rollout_id:
            self._count_run(after.state)

    async def _forget(self) -> None:
        """Runs whose end is stored, or that no row knows: a crash came before they were forgotten."""
        for status in await self._ports.jobs.list():
            row = await self._ports.store.read(lambda v, id=status.run_id: v.job_run(id))  # type: ignore[misc]
            if row is None or row.state.finished:
                await self._ports.jobs.stop(status.run_id)


def _due(view: Snapshot, now: datetime) -> Sequence[JobRun]:
    return [
        run
        for deployment in view.deployments()
        for job in (deployment.live.jobs if deployment.live else ())
        if job.when is When.SCHEDULED and (run := _due_run(view, deployment, job, now)) is not None
    ]


def _due_run(view: Snapshot, deployment: Deployment, job: Job, now: datetime) -> JobRun | None:
    """One that begins now; or is skipped, because the one before still runs."""
    assert deployment.live is not None  # noqa: S101 - its job is asked for
    runs = runs_of(view, job, deployment)
    times = [run.scheduled_for for run in runs if run.scheduled_for is not None]
    since = max([*times, deployment.live_since or now])
    at = due(job, since, now)
    if at is None:
        return None
    run = job_run(job, deployment.live.template, at.strftime("%Y%m%dt%H%Mz"), now, scheduled_for=at)
    if any(not other.state.finished for other in runs):
        return run.ended(RunState.SKIPPED, now, "was not begun: the run before it has not ended")
    return run


def _unfinished(view: Snapshot) -> Sequence[tuple[JobRun, bool]]:
    """Runs that no rollout looks after, and whether they are wanted: those of a rollout that has gone on are not."""
    found = []
    for run in view.job_runs(unfinished=True, limit=1000):
        rollout = view.rollout(run.rollout_id) if run.rollout_id else None
        if rollout is None or rollout.phase.finished:
            found.append((run, rollout is None))
    return found
