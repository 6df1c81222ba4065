from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Protocol

from ..domain.route import Endpoint
from ..domain.value import Value
from ..domain.workload import Instance


class InstanceState(StrEnum):
    STARTING = "starting"  # it runs, and is not ready yet
    READY = "ready"
    UNREADY = "unready"  # it runs, and was ready before
    BACKING_OFF = "backing_off"  # it ended and will be started again
    FAILED = "failed"  # permanent: it will not be started again
    STOPPING = "stopping"


class InstanceStatus(Value):
    """An instance as the platform sees it.

    endpoints: by port name, the allocated addresses. restarts: times it ended by itself since it was started.
    reason: why it is not ready, in words ("exited with code 1", "ran out of memory (limit 128Mi)", "listens on 9000,
    not on PORT=21004"). pid, started_ticks: the process, by /proc/PID/stat field 22; 0 when there is none.
    last_end: how it ended when it last did so by itself, in words; empty where it never did.
    memory_bytes: in use, None where it is not known. not_enforced: which of its limits the kernel does not enforce, and
    what is done instead; empty where it enforces them all.
    """

    instance: Instance
    state: InstanceState
    endpoints: dict[str, Endpoint] = {}
    restarts: int = 0
    reason: str = ""
    last_end: str = ""
    pid: int = 0
    started_ticks: int = 0
    memory_bytes: int | None = None
    not_enforced: str = ""


class Compute(Protocol):
    """Runs instances. Every call is idempotent, may be repeated after a crash, and returns without waiting
    for an instance to become ready or to end. A cancelled call leaves a state that the next call mends."""

    async def start(self, instance: Instance) -> None:
        """Makes `instance` exist and be kept running: supervised, restarted with back-off. One that is STOPPING is
        left to end; call again once it is gone.

        Raises PlatformError: INVALID_ARGUMENT where no process can have its command or variables,
        FAILED_PRECONDITION where its release is missing here, or a file or a volume cannot be at its path,
        DATA_CORRUPT where a byte of the release was changed, RESOURCE_EXHAUSTED where no port or space is left; what
        `admit` raises of its tenant.
        """

    async def admit(self, tenant: str) -> None:
        """Raises PlatformError(FAILED_PRECONDITION) where the tenant cannot be kept apart from the others here."""

    async def admit_images(self) -> None:
        """Raises PlatformError(FAILED_PRECONDITION) where releases with a base image cannot run here."""

    async def disk_bytes(self, services: Collection[str]) -> int:
        """Bytes on disk of what these services keep: their homes and volumes, in all environments. May take seconds."""

    async def stop(self, instance_id: str) -> None:
        """SIGTERM, after the template's grace SIGKILL, then forgets it and frees its ports. It stays listed,
        STOPPING, while its process lives. An unknown id is no error. Its logs are kept."""

    async def list(self, service: str | None = None, environment: str | None = None) -> list[InstanceStatus]:
        """Every instance there is, by service, environment, version and index, with readiness freshly looked at."""
