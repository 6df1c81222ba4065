from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from ..domain.job import JobRun
from ..domain.value import Value


class JobState(StrEnum):
    RUNNING = "running"  # also between two attempts
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # its last attempt did
    STOPPING = "stopping"


class JobStatus(Value):
    """A run as the platform sees it. attempts: begun so far. reason: how the last one ended, in words ("exited with
    code 3 (2 times)", "ran out of time (600 s)")."""

    run_id: str
    service: str
    environment: str
    state: JobState
    attempts: int = 0
    reason: str = ""


class Jobs(Protocol):
    """Runs jobs. Time-outs and retries are its own, so that a run goes on and ends while nobody looks. Every call is
    idempotent, may be repeated after a crash, and returns without waiting for the job."""

    async def start(self, run: JobRun) -> None:
        """Makes the run begin: `run.workload`, in its release, as an instance of the same version would run. One that
        is listed is left as it is, finished or not.

        An attempt that the machine's own end cuts off is begun again and does not count.
        Raises PlatformError as Compute.start does.
        """

    async def stop(self, run_id: str) -> None:
        """SIGTERM, after the template's grace SIGKILL, then forgets the run. It stays listed, STOPPING, while its
        process lives. An unknown id is no error. Its logs are kept."""

    async def forget(self, run_ids: Sequence[str]) -> None:
        """Removes the logs of runs. Those that are listed keep theirs; unknown ids are no error."""

    async def list(self, service: str | None = None, environment: str | None = None) -> list[JobStatus]:
        """Every run that was started and not stopped, by its id; finished ones too."""
