"""Instances as units of s6: one service directory each, which is also the record of what runs."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from ...domain.environment import Telemetry
from ...domain.workload import Container, Instance, Probe
from ...ports.artifacts import Artifacts
from ...ports.clock import Clock
from ...ports.compute import InstanceState, InstanceStatus
from ..layout import WORKSPACE_VARIABLE, Layout
from ..process import Process, listening_ports, recorded, user_of
from .containers import container_pid
from .control_group import ControlGroups, Enforcement
from .health import check
from .instance import RECORD, InstanceRecord, is_instance
from .launcher import Launcher, Unpacked, Values, containers, needing_space
from .mounts import inside, is_mounting
from .podman_container import container_name, container_process
from .port_registry import PortRegistry
from .supervisor import Supervisor
from .tenants import Tenants
from .unit import UnitStatus
from .watchdog import MemoryWatchdog

log = logging.getLogger(__name__)

GIVE_UP_AFTER = 3  # rapid deaths in a row; about 3 s with the back-off between them
FIRST_READY = "ready"  # the process that has been ready, as `PID TICKS`
RECHECK_READY_SECONDS = 10.0
RECHECK_COMMAND_SECONDS = 0.25  # a process each time
LOOK_SECONDS = 0.25  # a list waits for a look at most
USE_SECONDS = 10.0  # between two looks at how much memory an instance uses
LIVENESS_SECONDS = 5.0
LIVENESS_FAILURES = 3


@dataclass
class _Health:
    """What is known of a process: it ends with it. checked: monotonic seconds of the last look."""

    process: Process
    was_ready: bool
    ready: bool = False
    looking: asyncio.Task[None] | None = None
    reason: str = "its probe has not answered yet"
    checked: float = float("-inf")
    live_checked: float = 0.0
    live_failures: int = 0


@dataclass(frozen=True)
class _Use:
    """What the limits of a process come to, as it was at `read`, in monotonic seconds."""

    process: Process | None
    read: float
    gap: str
    memory_bytes: int | None


class LocalCompute:
    """Implements ports.compute.Compute."""

    def __init__(
        self,
        layout: Layout,
        supervisor: Supervisor,
        registry: PortRegistry,
        artifacts: Artifacts,
        clock: Clock,
        *,
        tenants: Tenants | None = None,
        groups: ControlGroups | None = None,
        watchdog: MemoryWatchdog | None = None,
        secrets: Values = lambda _template: {},
        telemetry: Callable[[], Telemetry] = Telemetry,
    ) -> None:
        """tenants None: there is one. watchdog: that runs as long as this is used. secrets, telemetry: as of a
        Launcher."""
        self._layout = layout
        self._supervisor = supervisor
        self._registry = registry
        self._launcher = Launcher(
            layout, supervisor, artifacts, tenants=tenants, groups=groups, secrets=secrets, telemetry=telemetry
        )
        self._clock = clock
        self._watchdog = watchdog or MemoryWatchdog(layout)
        self._uses: dict[str, _Use] = {}
        self._records: dict[str, InstanceRecord] = {}
        self._health: dict[str, _Health] = {}
        self._changing = threading.Lock()  # units and their ports: `list` takes steps too, and may be asked at once
        self._swept = False

    async def admit(self, tenant: str) -> None:
        await self._launcher.admit(tenant)

    async def admit_images(self) -> None:
        await self._launcher.admit_images()

    async def disk_bytes(self, services: Collection[str]) -> int:
        return await asyncio.to_thread(self._launcher.tenants.disk_bytes, services)

    async def start(self, instance: Instance) -> None:
        release = await self._launcher.unpack(instance.template)
        with needing_space(instance.id):
            await asyncio.to_thread(self._add, instance, release)

    def _add(self, instance: Instance, release: Unpacked) -> None:
        name, template = instance.id, instance.template
        if not self._supervisor.directory(name).exists():
            self._launcher.try_mounts(template, release)
        with self._changing:
            if self._supervisor.directory(name).exists():
                self._supervisor.link(name)
                return
            ports = {port.name: self._registry.claim(f"{name}:{port.name}") for port in template.ports}
            made = self._launcher.launchable(name, template, release, ports, give_up_after=GIVE_UP_AFTER)
            record = InstanceRecord(
                instance=instance,
                ports=ports,
                directory=str(release.directory),
                environment=made.environments[template.container],
                beside={c.name: made.environments[c.name] for c in template.beside},
                prefix=made.prefix,
                image=release.image,
            )
            self._supervisor.add(made.unit.with_file(RECORD, record.stored()))

    async def stop(self, instance_id: str) -> None:
        await asyncio.to_thread(self._remove, instance_id)

    def _remove(self, instance_id: str) -> None:
        with self._changing:
            if instance_id not in self._units():
                return
            record = self._record(instance_id)
            Enforcement.read(self._supervisor.directory(instance_id)).remove()
            if self._supervisor.remove(instance_id):
                if record and record.image:  # what was left where its supervisor was killed
                    self._launcher.podman.remove(containers(record.instance.template, instance_id))
                for name in record.ports if record else ():
                    self._registry.release(f"{instance_id}:{name}")
                self._records.pop(instance_id, None)
                self._health.pop(instance_id, None)
                self._uses.pop(instance_id, None)

    def _units(self, beginning: str = "") -> Sequence[str]:
        return [name for name in self._supervisor.names(beginning) if is_instance(name)]

    async def list(self, service: str | None = None, environment: str | None = None) -> list[InstanceStatus]:
        records = await asyncio.to_thread(self._read, service, environment)
        return list(await asyncio.gather(*(self._status(record, status) for record, status in records)))

    def _read(self, service: str | None, environment: str | None) -> Sequence[tuple[InstanceRecord, UnitStatus]]:
        self._sweep()
        found = []
        for name in self._units("" if service is None else f"{service}__{environment or ''}"):
            record, status = self._record(name), self._supervisor.status(name)
            if record is None or status.stopping:  # a step further, whoever asked for it
                self._remove(name)
                status = self._supervisor.status(name)
            else:
                self._mend(name)
            gone = status.process is None and not self._supervisor.directory(name).exists()
            if record is None or gone:
                continue
            template = record.instance.template
            if service in (None, template.service) and environment in (None, template.environment):
                self._uses[name] = self._use(name, status.process)
                found.append((record, status))
        return sorted(found, key=lambda pair: _order(pair[0].instance))

    def _use(self, name: str, process: Process | None) -> _Use:
        known, now = self._uses.get(name), self._clock.monotonic()
        if known is not None and known.process == process and now - known.read < USE_SECONDS:
            return known
        enforced = Enforcement.read(self._supervisor.directory(name))
        memory = enforced.memory_bytes if enforced.watched_bytes is None else self._watchdog.memory_bytes(name)
        read = now if enforced.settled else float("-inf")
        return _Use(process, read, enforced.gap, memory if process else None)

    def _mend(self, name: str) -> None:
        """One that nobody supervises: a crash came between writing and linking it, or its supervisor was killed."""
        if self._supervisor.linked(name):
            return
        with self._changing:
            if self._supervisor.directory(name).exists():
                self._supervisor.link(name)

    def _sweep(self) -> None:
        """Once: what a crash between claiming a port and writing its unit, or at the unit's end, has left over."""
        with self._changing:
            if self._swept:
                return
            units = set(self._units())
            for purpose in self._registry.mine():
                unit = purpose.rpartition(":")[0]
                if is_instance(unit) and unit not in units:
                    self._registry.release(purpose)
            self._launcher.podman.sweep(self._supervisor.names)
            self._swept = True

    def _record(self, unit: str) -> InstanceRecord | None:
        """None where it is gone, or is no record: a loss of power may leave an empty file. Such a unit is removed."""
        if unit not in self._records:
            try:
                text = (self._supervisor.directory(unit) / RECORD).read_text()
                # A newer version may have said more of it: what runs is kept by the version that comes after, too.
                self._records[unit] = InstanceRecord.model_validate_json(text, extra="ignore")
            except (OSError, ValidationError) as exc:
                log.warning("%s has no record and is removed: %s", unit, type(exc).__name__)
                return None
        return self._records[unit]

    async def _status(self, record: InstanceRecord, unit: UnitStatus) -> InstanceStatus:
        state, reason = await self._state(record, unit)
        use, process = self._uses.get(record.instance.id), self._process(record, unit.process)
        return InstanceStatus(
            instance=record.instance,
            state=state,
            endpoints=record.endpoints,
            restarts=len(unit.deaths),
            reason=reason,
            last_end=str(unit.deaths[-1]) if unit.deaths else "",
            pid=process.pid if process else 0,
            started_ticks=process.started_ticks if process else 0,
            memory_bytes=use.memory_bytes if use else None,
            not_enforced=use.gap if use else "",
        )

    def _process(self, record: InstanceRecord, launched: Process | None) -> Process | None:
        """The instance's own, which is not the one that launches a container."""
        if not record.image or launched is None:
            return launched
        return container_process(self._supervisor.directory(record.instance.id), record.instance.template.container)

    async def _state(self, record: InstanceRecord, unit: UnitStatus) -> tuple[InstanceState, str]:
        deaths = unit.deaths
        last = f"{deaths[-1]} ({len(deaths)} times)" if len(deaths) > 1 else str(deaths[-1]) if deaths else ""
        if unit.stopping:
            return InstanceState.STOPPING, ""
        if unit.failed:
            return InstanceState.FAILED, last
        if unit.process is None:
            return (InstanceState.BACKING_OFF, last) if deaths else (InstanceState.STARTING, "it is being started")
        health = await self._looked_at(record, unit.process)
        if health.ready:
            return InstanceState.READY, ""
        reason = f"{health.reason}; before that it {last}" if last else health.reason
        return (InstanceState.UNREADY if health.was_ready else InstanceState.STARTING), reason

    async def _looked_at(self, record: InstanceRecord, process: Process) -> _Health:
        """A ready instance is looked at every few seconds: between, the proxies' own checks watch it."""
        health = self._health.get(record.instance.id)
        if health is None or health.process != process:
            noted = self._supervisor.directory(record.instance.id) / FIRST_READY
            was_ready = await asyncio.to_thread(recorded, noted) == process
            health = self._health[record.instance.id] = _Health(process, was_ready)
        runs_commands = any(c.readiness and c.readiness.command for c in record.instance.template.containers)
        unready_rest = RECHECK_COMMAND_SECONDS if runs_commands else 0.0
        since = self._clock.monotonic() - health.checked
        if health.looking is None and since >= (RECHECK_READY_SECONDS if health.ready else unready_rest):
            health.looking = asyncio.create_task(self._look(record, health), name=f"look at {record.instance.id}")
        if (looking := health.looking) is not None:
            # A probe that takes long goes on beside the lists, which tell what was seen last: it holds up nobody.
            await asyncio.wait([looking], timeout=LOOK_SECONDS)
            if looking.done():
                if health.looking is looking:  # else another list that waited for it was here before
                    health.looking = None
                looking.result()
        return health

    async def _look(self, record: InstanceRecord, health: _Health) -> None:
        containers, process = record.instance.template.containers, health.process
        readiness, liveness = ({c: c.readiness for c in containers}, {c: c.liveness for c in containers})
        problem = await self._asked(record, process, readiness)
        if problem is not None and "nothing listens" in problem:
            own = self._process(record, process)
            problem += await asyncio.to_thread(_listens_elsewhere, own.pid) if own else ""
        if problem is None and not health.was_ready:
            with suppress(OSError):  # a full disk makes nothing unready; it is known until this daemon ends
                noted = self._supervisor.directory(record.instance.id) / FIRST_READY
                noted.write_text(f"{process.pid} {process.started_ticks}\n")
        now = self._clock.monotonic()
        health.ready, health.reason, health.checked = problem is None, problem or "", now
        health.was_ready = health.was_ready or health.ready
        if any(liveness.values()) and health.was_ready and now - health.live_checked >= LIVENESS_SECONDS:
            health.live_checked = now
            dead = problem if liveness == readiness else await self._asked(record, process, liveness)
            await self._note_liveness(record.instance.id, health, dead)

    async def _asked(
        self, record: InstanceRecord, process: Process, probes: dict[Container, Probe | None]
    ) -> str | None:
        """What the first container that is not well has, in words; None where all are well."""
        template, directory = record.instance.template, Path(record.directory)
        for container, probe in probes.items():
            unit, mounted = self._supervisor.directory(record.instance.id), bool(container.files or container.volumes)
            if record.image:
                problem = await self._asked_container(record, container, probe)
                if problem is not None:
                    return f"{container.name}: {problem}" if template.beside else problem
                continue
            pid = container_pid(unit, container.name) if template.beside else process.pid
            # A tenant's process that is still the platform's user is the launcher, and not the program yet.
            entering = pid is not None and bool(record.prefix) and user_of(pid) == os.geteuid()
            if pid is None or entering or (mounted and is_mounting(pid, unit)):
                return "it is being started"
            if probe is None:
                continue
            # Marked as the workspace's, so that it ends with it, and not as the instance: it is no process of that.
            own = record.beside.get(container.name, record.environment)
            own = self._launcher.reveal(template, own) if probe.command is not None else own
            environment, prefix = {**own, WORKSPACE_VARIABLE: self._layout.id}, record.prefix
            if probe.command is not None and mounted:
                prefix = (*inside(pid, directory), *prefix)
            problem = await check(probe, record.endpoints, directory, environment, prefix)
            if problem is not None:
                return f"{container.name}: {problem}" if template.beside else problem
        return None

    async def _asked_container(self, record: InstanceRecord, container: Container, probe: Probe | None) -> str | None:
        unit, template = record.instance.id, record.instance.template
        if await asyncio.to_thread(container_process, self._supervisor.directory(unit), container.name) is None:
            return "it is being started"
        if probe is not None and probe.command is not None:
            name = container_name(template, unit, container.name)
            probe = Probe(command=self._launcher.podman.exec(name, probe.command))
        return await check(probe, record.endpoints, Path(record.directory), {}) if probe is not None else None

    async def _note_liveness(self, unit: str, health: _Health, dead: str | None) -> None:
        health.live_failures = health.live_failures + 1 if dead else 0
        if health.live_failures >= LIVENESS_FAILURES:
            log.warning("%s is not alive and is restarted: %s", unit, dead)
            # The second time around it ignored the TERM.
            flag = "-t" if health.live_failures == LIVENESS_FAILURES else "-k"
            await asyncio.to_thread(self._supervisor.control, unit, flag)


def _order(instance: Instance) -> tuple[str, str, str, int]:
    return instance.template.service, instance.template.environment, instance.template.version, instance.index


def _listens_elsewhere(pid: int) -> str:
    ports = sorted(listening_ports(pid))
    return f" (it listens on {', '.join(map(str, ports))})" if ports else ""
