"""Jobs as units of s6 that are started until they succeed or were tried often enough: their deaths are the record."""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading
from collections.abc import Sequence

from pydantic import ValidationError

from ...domain.job import JobRun
from ...ports.jobs import JobState, JobStatus
from ..layout import Layout
from .control_group import Enforcement
from .launcher import Launcher, Unpacked, needing_space
from .supervisor import Supervisor
from .unit import UnitStatus

log = logging.getLogger(__name__)

RECORD = "job.json"


class LocalJobs:
    """Implements ports.jobs.Jobs."""

    def __init__(self, layout: Layout, supervisor: Supervisor, launcher: Launcher) -> None:
        self._logs = layout.logs
        self._supervisor = supervisor
        self._launcher = launcher
        self._records: dict[str, JobRun] = {}
        self._changing = threading.Lock()

    async def start(self, run: JobRun) -> None:
        release = await self._launcher.unpack(run.workload)
        with needing_space(run.id):
            await asyncio.to_thread(self._add, run, release)

    def _add(self, run: JobRun, release: Unpacked) -> None:
        workload = run.workload
        if not self._supervisor.directory(run.id).exists():
            self._launcher.try_mounts(workload, release)
        with self._changing:
            if self._supervisor.directory(run.id).exists():
                self._supervisor.link(run.id)
                return
            made = self._launcher.launchable(
                run.id,
                workload,
                release,
                {},
                tries=run.job.retries + 1,
                timeout_seconds=run.job.timeout_seconds,
            )
            self._supervisor.add(made.unit.with_file(RECORD, run.stored()))

    async def stop(self, run_id: str) -> None:
        await asyncio.to_thread(self._remove, run_id)

    def _remove(self, run_id: str) -> None:
        with self._changing:
            if run_id not in self._units():
                return
            Enforcement.read(self._supervisor.directory(run_id)).remove()
            if self._supervisor.remove(run_id):
                self._records.pop(run_id, None)

    async def forget(self, run_ids: Sequence[str]) -> None:
        await asyncio.to_thread(self._remove_logs, run_ids)

    def _remove_logs(self, run_ids: Sequence[str]) -> None:
        for name in run_ids:
            if is_job(name) and "/" not in name and not self._supervisor.directory(name).exists():
                shutil.rmtree(self._logs / name, ignore_errors=True)

    def _units(self) -> Sequence[str]:
        return [name for name in self._supervisor.names() if is_job(name)]

    async def list(self, service: str | None = None, environment: str | None = None) -> list[JobStatus]:
        return list(await asyncio.to_thread(self._list, service, environment))

    def _list(self, service: str | None, environment: str | None) -> Sequence[JobStatus]:
        found = list[JobStatus]()
        for name in self._units():
            named_service, named_environment, _ = name.split("__")
            if service not in (None, named_service) or environment not in (None, named_environment):
                continue
            run, status = self._record(name), self._supervisor.status(name)
            if run is None or status.stopping:  # a step further, whoever asked for it
                self._remove(name)
                status = self._supervisor.status(name)
            else:
                self._mend(name)
            if run is not None and self._supervisor.directory(name).exists():
                found.append(_status(run, status))
        return found

    def _mend(self, name: str) -> None:
        """One that nobody supervises: a crash came between writing and linking it, or its supervisor was killed."""
        with self._changing:
            if self._supervisor.directory(name).exists():
                self._supervisor.link(name)

    def _record(self, name: str) -> JobRun | None:
        """None where it is gone, or is no record: a loss of power may leave an empty file. Such a unit is removed."""
        if name not in self._records:
            try:
                text = (self._supervisor.directory(name) / RECORD).read_text()
                self._records[name] = JobRun.model_validate_json(text, extra="ignore")
            except (OSError, ValidationError) as exc:
                log.warning("%s has no record and is removed: %s", name, type(exc).__name__)
                return None
        return self._records[name]


def is_job(unit: str) -> bool:
    """Whether a unit of this name is a run of a job: SERVICE__ENVIRONMENT__JOB.VERSION.KEY."""
    return unit.count("__") == 2


def _status(run: JobRun, unit: UnitStatus) -> JobStatus:
    deaths = unit.deaths
    last = str(deaths[-1]) if deaths else ""
    ended_well = bool(deaths) and deaths[-1].code == 0
    if unit.stopping:
        state = JobState.STOPPING
    elif ended_well:
        state = JobState.SUCCEEDED
    else:
        state = JobState.FAILED if len(deaths) > run.job.retries else JobState.RUNNING
    return JobStatus(
        run_id=run.id,
        service=run.template.service,
        environment=run.template.environment,
        state=state,
        attempts=len(deaths) + (unit.process is not None),
        reason="" if ended_well else f"{last} ({len(deaths)} times)" if len(deaths) > 1 else last,
    )
