from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from ...domain.errors import ErrorCode, PlatformError
from ...domain.route import Endpoint
from ...domain.workload import Instance
from ...ports.compute import InstanceState, InstanceStatus

Behaviour = Callable[[Instance], InstanceStatus]


@dataclass
class _Row:
    instance: Instance
    port: int
    pid: int
    real: bool = True


class FakeCompute:
    """Instances in a dictionary. They are ready at once, unless `broken` says otherwise of their release.

    pretending: what it starts has no process, and `list` repeats the lie.
    broken: release digest -> (state, reason) that its instances have instead. sabotaged: says done, does nothing.
    refused: tenant -> why it cannot be kept apart. kept: service -> bytes on disk. not_enforced: of every instance.
    no_images: why releases with a base image cannot run. restarts: of each instance, by version name.
    last_end: of those that have restarts.
    """

    def __init__(self) -> None:
        self.broken: dict[str, tuple[InstanceState, str]] = {}
        self.sabotaged = False
        self.pretending = False
        self.refused: dict[str, str] = {}
        self.kept: dict[str, int] = {}
        self.not_enforced = ""
        self.no_images = ""
        self.stopped: list[str] = []
        self.restarts: dict[str, int] = {}
        self.last_end = "exited with code 1"
        self._rows: dict[str, _Row] = {}
        self._next = 21000

    async def admit(self, tenant: str) -> None:
        if tenant in self.refused:
            raise PlatformError(ErrorCode.FAILED_PRECONDITION, self.refused[tenant], "run the platform as root")

    async def admit_images(self) -> None:
        if self.no_images:
            raise PlatformError(ErrorCode.FAILED_PRECONDITION, self.no_images, "install podman")

    async def disk_bytes(self, services: Collection[str]) -> int:
        return sum(self.kept.get(service, 0) for service in services)

    async def start(self, instance: Instance) -> None:
        if not self.sabotaged and instance.id not in self._rows:
            self._next += 1
            self._rows[instance.id] = _Row(instance, self._next, self._next, not self.pretending)

    async def stop(self, instance_id: str) -> None:
        if self._rows.pop(instance_id, None) is not None:
            self.stopped.append(instance_id)

    async def list(self, service: str | None = None, environment: str | None = None) -> list[InstanceStatus]:
        found = [
            self._status(row)
            for row in self._rows.values()
            if service in (None, row.instance.template.service)
            and environment in (None, row.instance.template.environment)
        ]
        return sorted(found, key=_order)

    async def processes(self, service: str, environment: str) -> Sequence[InstanceStatus]:
        """Those of `list` that have a process in truth."""
        found = await self.list(service, environment)
        return [status for status in found if status.pid and self._rows[status.instance.id].real]

    def _status(self, row: _Row) -> InstanceStatus:
        template = row.instance.template
        state, reason = self.broken.get(template.release, (InstanceState.READY, ""))
        dead = state is InstanceState.FAILED
        ended = self.last_end if template.version in self.restarts else ""
        return InstanceStatus(
            instance=row.instance,
            state=state,
            reason=reason,
            restarts=self.restarts.get(template.version, 0),
            last_end=reason if dead else ended,
            endpoints={
                port.name: Endpoint(instance=row.instance.id, host="127.0.0.1", port=row.port + offset)
                for offset, port in enumerate(template.ports)
            },
            pid=0 if dead else row.pid,
            started_ticks=0 if dead else row.pid,
            not_enforced=self.not_enforced,
        )


def _order(status: InstanceStatus) -> tuple[str, str, str, int]:
    template = status.instance.template
    return template.service, template.environment, template.version, status.instance.index
