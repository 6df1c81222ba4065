from __future__ import annotations

from collections.abc import Sequence

from ...domain.errors import PlatformError
from ...domain.job import JobRun
from ...ports.jobs import JobState, JobStatus


class FakeJobs:
    """Runs in a dictionary. They have succeeded at once, unless the job's name is in `failing`, with how its attempts
    end, or in `hanging`.

    refused: job -> why it cannot be started. started: ids, each time that one began. stopped: before it had ended.
    """

    def __init__(self) -> None:
        self.failing: dict[str, str] = {}
        self.hanging: set[str] = set()
        self.refused: dict[str, PlatformError] = {}
        self.started: list[str] = []
        self.stopped: list[str] = []
        self.forgotten: list[str] = []
        self._runs: dict[str, JobRun] = {}

    async def start(self, run: JobRun) -> None:
        if run.job.name in self.refused:
            raise self.refused[run.job.name]
        if run.id not in self._runs:
            self._runs[run.id] = run
            self.started.append(run.id)

    async def stop(self, run_id: str) -> None:
        run = self._runs.pop(run_id, None)
        if run is not None and self._status(run).state is JobState.RUNNING:
            self.stopped.append(run_id)

    async def forget(self, run_ids: Sequence[str]) -> None:
        self.forgotten += [run_id for run_id in run_ids if run_id not in self._runs]

    async def list(self, service: str | None = None, environment: str | None = None) -> list[JobStatus]:
        return [
            self._status(run)
            for _, run in sorted(self._runs.items())
            if service in (None, run.template.service) and environment in (None, run.template.environment)
        ]

    def _status(self, run: JobRun) -> JobStatus:
        name, attempts, reason = run.job.name, 1, ""
        if name in self.hanging:
            state = JobState.RUNNING
        elif name in self.failing:
            state, attempts, reason = JobState.FAILED, run.job.retries + 1, self.failing[name]
        else:
            state = JobState.SUCCEEDED
        return JobStatus(
            run_id=run.id,
            service=run.template.service,
            environment=run.template.environment,
            state=state,
            attempts=attempts,
            reason=reason,
        )
