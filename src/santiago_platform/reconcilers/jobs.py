"""Runs of jobs from their rows: each is begun, followed to its end, stored, and only then forgotten by the platform.

The row comes first and the process after it, so whatever is cut off between two steps is done by the next pass.
"""

from __future__ import annotations

import logging

from ..domain.errors import PlatformError, retryable
from ..domain.identity import PLATFORM
from ..domain.job import JobRun, RunState, job_run, superseded
from ..domain.phase import JOB_PHASES
from ..domain.rollout import Rollout
from ..operations.change import note
from ..ports import Ports
from ..ports.jobs import JobState, JobStatus
from ..ports.logs import LogFilter
from ..ports.store import Transaction

log = logging.getLogger(__name__)

TAIL_LINES, TAIL_CHARACTERS = 20, 400
_ENDS = {JobState.SUCCEEDED: RunState.SUCCEEDED, JobState.FAILED: RunState.FAILED}


class JobRuns:
    """Brings runs a step further. Holds nothing."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    async def of_rollout(self, rollout: Rollout) -> tuple[JobRun, ...]:
        """The runs of a rollout after a step: in a phase of jobs the next one is begun once the one before it has
        succeeded; on the way back they are stopped."""
        if not rollout.runs_jobs:
            return ()
        known = {run.id: run for run in await self._ports.store.read(lambda v: v.job_runs(rollout_id=rollout.id))}
        if rollout.phase.going_back and any(not run.state.finished for run in known.values()):
            return tuple([await self.stop(run) for run in known.values()])
        if rollout.phase not in JOB_PHASES or rollout.new is None:
            return tuple(known.values())
        for job in rollout.jobs(rollout.phase):
            fresh = job_run(job, rollout.new.template, rollout.id, self._ports.clock.now(), rollout_id=rollout.id)
            row = known.get(fresh.id) or await self._begin(fresh)
            if row is None:
                break
            known[row.id] = run = await self.follow(row)
            if run.state is not RunState.SUCCEEDED:
                break
        return tuple(known.values())

    async def _begin(self, run: JobRun) -> JobRun | None:
        """Stores the row; None while the same job runs otherwise, begun by hand: it is waited for."""

        def unit(tx: Transaction) -> JobRun | None:
            service, environment = run.template.service, run.template.environment
            if tx.job_runs(service=service, environment=environment, job=run.job.name, unfinished=True):
                return None
            tx.save_job_run(run)
            return run

        return await self._ports.store.write(unit)

    async def follow(self, run: JobRun) -> JobRun:
        """The run as it stands, begun where it was not, and stored where it has ended."""
        if run.state.finished:
            return run
        status = await self._status(run)
        if status is None:
            return await self._start(run)
        if status.state in _ENDS:
            return await self._end(run, _ENDS[status.state], status)
        return run.model_copy(update={"attempts": status.attempts})

    async def stop(self, run: JobRun) -> JobRun:
        """Ends a run that is no longer wanted; it is stored as STOPPED once nothing of it is left."""
        if run.state.finished:
            return run
        status = await self._status(run)
        if status is None:
            return await self._store(run.ended(RunState.STOPPED, self._ports.clock.now(), "was stopped"))
        await self._ports.jobs.stop(run.id)
        return run

    async def _status(self, run: JobRun) -> JobStatus | None:
        listed = await self._ports.jobs.list(run.template.service, run.template.environment)
        return next((status for status in listed if status.run_id == run.id), None)

    async def _start(self, run: JobRun) -> JobRun:
        try:
            await self._ports.jobs.start(run)
        except PlatformError as exc:
            if retryable(exc.code):
                log.warning("%s is not begun yet: %s", run.id, exc.message)
                return run
            why = f"cannot be started: {exc.message}" + (f"; {exc.hint}" if exc.hint else "")
            return await self._store(run.ended(RunState.FAILED, self._ports.clock.now(), why))
        return run

    async def _end(self, run: JobRun, state: RunState, status: JobStatus) -> JobRun:
        tail = await self._log_tail(run) if state is RunState.FAILED else ()
        ended = run.ended(state, self._ports.clock.now(), status.reason, tail)
        stored = await self._store(ended.model_copy(update={"attempts": status.attempts}))
        await self._ports.jobs.stop(run.id)
        return stored

    async def _log_tail(self, run: JobRun) -> tuple[str, ...]:
        page = await self._ports.logs.read(
            LogFilter(
                service=run.template.service,
                environment=run.template.environment,
                instance=run.id,
                limit=TAIL_LINES,
            )
        )
        return tuple(line.text[:TAIL_CHARACTERS] for line in reversed(page.lines))

    async def _store(self, run: JobRun) -> JobRun:
        """The end of a run. What no rollout tells of is noted in the ship's log where it is news: before, since a note
        that is there twice does less harm than one that is missing."""
        where = f"{run.template.service}/{run.template.environment} {run.job.name}"
        log.info("%s: %s %s", run.id, run.state, run.reason)
        if not run.rollout_id and (run.by or run.state is not RunState.SUCCEEDED):
            body = {"run": run.id, "attempts": run.attempts, "reason": run.reason, "detail": list(run.log_tail)}
            await note(self._ports, PLATFORM, f"job.{run.state}", where, body | ({"by": run.by} if run.by else {}))

        def unit(tx: Transaction) -> list[str]:
            tx.save_job_run(run)
            runs = tx.job_runs(
                service=run.template.service, environment=run.template.environment, job=run.job.name, limit=1000
            )
            old = superseded(runs)
            tx.forget_job_runs(old)
            return old

        await self._ports.jobs.forget(await self._ports.store.write(unit))
        return run
