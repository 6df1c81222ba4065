"""Instances as units of s6: one service directory each, which is also the record of what runs."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from ...domain.errors import ErrorCode, PlatformError
from ...domain.route import Endpoint
from ...domain.value import Value
from ...domain.workload import Instance, Template
from ...ports.artifacts import Artifacts
from ...ports.clock import Clock
from ...ports.compute import InstanceState, InstanceStatus
from ..layout import WORKSPACE_VARIABLE, Layout
from ..process import Process, listening_ports, recorded
from .health import check
from .port_registry import PortRegistry
from .supervisor import Supervisor
from .unit import Unit, UnitStatus

log = logging.getLogger(__name__)

RECORD = "instance.json"
FIRST_READY = "ready"  # the process that has been ready, as `PID TICKS`
GIVE_UP_AFTER = 3  # rapid deaths in a row; about 3 s with the back-off between them
RECHECK_READY_SECONDS = 5.0
RECHECK_COMMAND_SECONDS = 0.25  # a process each time
LOOK_SECONDS = 0.25  # a list waits for a look at most
LIVENESS_SECONDS = 5.0
LIVENESS_FAILURES = 3
LOOPBACK = "127.0.0.1"


class InstanceRecord(Value):
    """What `instance.json` holds. ports: allocated, by port name. environment: of the process, whole."""

    instance: Instance
    ports: dict[str, int]
    directory: str
    environment: dict[str, str]

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        return {
            name: Endpoint(instance=self.instance.id, host=LOOPBACK, port=port) for name, port in self.ports.items()
        }


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


class LocalCompute:
    """Implements ports.compute.Compute."""

    def __init__(
        self, layout: Layout, supervisor: Supervisor, registry: PortRegistry, artifacts: Artifacts, clock: Clock
    ) -> None:
        self._layout = layout
        self._supervisor = supervisor
        self._registry = registry
        self._artifacts = artifacts
        self._clock = clock
        self._records: dict[str, InstanceRecord] = {}
        self._health: dict[str, _Health] = {}
        self._changing = threading.Lock()  # units and their ports: `list` takes steps too, and may be asked at once
        self._swept = False

    async def start(self, instance: Instance) -> None:
        _check_runnable(instance.template)
        try:
            directory = await self._artifacts.unpack(instance.template.release)
        except PlatformError as exc:
            if exc.code is not ErrorCode.NOT_FOUND:
                raise
            raise PlatformError(ErrorCode.FAILED_PRECONDITION, exc.message, exc.hint, internal=exc.internal) from exc
        try:
            await asyncio.to_thread(self._add, instance, directory)
        except OSError as exc:
            if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise PlatformError(
                ErrorCode.RESOURCE_EXHAUSTED, f"no space is left to start {instance.id}", "free some space"
            ) from exc

    def _add(self, instance: Instance, directory: Path) -> None:
        unit = instance.id
        with self._changing:
            if self._supervisor.directory(unit).exists():
                self._supervisor.link(unit)
                return
            ports = {port.name: self._registry.claim(f"{unit}:{port.name}") for port in instance.template.ports}
            record = InstanceRecord(
                instance=instance,
                ports=ports,
                directory=str(directory),
                environment=self._environment(instance, ports),
            )
            self._supervisor.add(
                Unit(
                    name=unit,
                    command=instance.template.command,
                    directory=directory,
                    environment=record.environment,
                    stop_grace_seconds=instance.template.stop_grace_seconds,
                    give_up_after=GIVE_UP_AFTER,
                    extra={RECORD: record.model_dump_json()},
                )
            )

    def _environment(self, instance: Instance, ports: dict[str, int]) -> dict[str, str]:
        """Little but what the author gave: a service that needs more says so in its score.yaml."""
        template = instance.template
        home = self._layout.state / "home" / f"{template.service}__{template.environment}"
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        environment = {
            "PATH": service_path(),
            "HOME": str(home),
            "LANG": "C.UTF-8",
            **dict(template.variables),
        }
        for index, port in enumerate(template.ports):
            environment[port.variable(first=index == 0)] = str(ports[port.name])
        return environment

    async def stop(self, instance_id: str) -> None:
        await asyncio.to_thread(self._remove, instance_id)

    def _remove(self, instance_id: str) -> None:
        with self._changing:
            if instance_id not in self._units():
                return
            record = self._record(instance_id)
            if self._supervisor.remove(instance_id):
                for name in record.ports if record else ():
                    self._registry.release(f"{instance_id}:{name}")
                self._records.pop(instance_id, None)
                self._health.pop(instance_id, None)

    def _units(self) -> Sequence[str]:
        return [name for name in self._supervisor.names() if "__" in name]

    async def list(self, service: str | None = None, environment: str | None = None) -> list[InstanceStatus]:
        records = await asyncio.to_thread(self._read, service, environment)
        return list(await asyncio.gather(*(self._status(record, status) for record, status in records)))

    def _read(self, service: str | None, environment: str | None) -> Sequence[tuple[InstanceRecord, UnitStatus]]:
        self._free_leaked_ports()
        found = []
        for name in self._units():
            if service is not None and not name.startswith(f"{service}__{environment or ''}"):
                continue
            record, status = self._record(name), self._supervisor.status(name)
            if record is None or status.stopping:  # a step further, whoever asked for it
                self._remove(name)
                status = self._supervisor.status(name)
            else:
                self._mend(name)
            if record is None or not self._supervisor.directory(name).exists():
                continue
            template = record.instance.template
            if service in (None, template.service) and environment in (None, template.environment):
                found.append((record, status))
        return sorted(found, key=lambda pair: _order(pair[0].instance))

    def _mend(self, name: str) -> None:
        """One that nobody supervises: a crash came between writing and linking it, or its supervisor was killed."""
        with self._changing:
            if self._supervisor.directory(name).exists():
                self._supervisor.link(name)

    def _free_leaked_ports(self) -> None:
        """Once: what a crash between claiming a port and writing its unit, or at the unit's end, has left claimed."""
        with self._changing:
            if self._swept:
                return
            units = set(self._units())
            for purpose in self._registry.mine():
                unit = purpose.rpartition(":")[0]
                if "__" in unit and unit not in units:
                    self._registry.release(purpose)
            self._swept = True

    def _record(self, unit: str) -> InstanceRecord | None:
        """None where it is gone, or is no record: a loss of power may leave an empty file. Such a unit is removed."""
        if unit not in self._records:
            try:
                text = (self._supervisor.directory(unit) / RECORD).read_text()
                self._records[unit] = InstanceRecord.model_validate_json(text)
            except (OSError, ValidationError) as exc:
                log.warning("%s has no record and is removed: %s", unit, type(exc).__name__)
                return None
        return self._records[unit]

    async def _status(self, record: InstanceRecord, unit: UnitStatus) -> InstanceStatus:
        state, reason = await self._state(record, unit)
        return InstanceStatus(
            instance=record.instance,
            state=state,
            endpoints=record.endpoints,
            restarts=len(unit.deaths),
            reason=reason,
            pid=unit.process.pid if unit.process else 0,
            started_ticks=unit.process.started_ticks if unit.process else 0,
        )

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
        noted = self._supervisor.directory(record.instance.id) / FIRST_READY
        health = self._health.get(record.instance.id)
        if health is None or health.process != process:
            was_ready = await asyncio.to_thread(recorded, noted) == process
            health = self._health[record.instance.id] = _Health(process, was_ready)
        command = record.instance.template.readiness.command
        unready_rest = RECHECK_COMMAND_SECONDS if command is not None else 0.0
        since = self._clock.monotonic() - health.checked
        if health.looking is None and since >= (RECHECK_READY_SECONDS if health.ready else unready_rest):
            health.looking = asyncio.create_task(
                self._look(record, health, noted), name=f"look at {record.instance.id}"
            )
        if health.looking is not None:
            # A probe that takes long goes on beside the lists, which tell what was seen last: it holds up nobody.
            await asyncio.wait([health.looking], timeout=LOOK_SECONDS)
            if health.looking.done():
                looked, health.looking = health.looking, None
                looked.result()
        return health

    async def _look(self, record: InstanceRecord, health: _Health, noted: Path) -> None:
        template, process = record.instance.template, health.process
        # Marked as the workspace's, so that it ends with it, and not as the instance: it is no process of that.
        marked = {**record.environment, WORKSPACE_VARIABLE: self._layout.id}
        where = Path(record.directory), marked
        problem = await check(template.readiness, record.endpoints, *where)
        if problem is not None and "nothing listens" in problem:
            problem += await asyncio.to_thread(_listens_elsewhere, process.pid)
        if problem is None and not health.was_ready:
            with suppress(OSError):  # a full disk makes nothing unready; it is known until this daemon ends
                noted.write_text(f"{process.pid} {process.started_ticks}\n")
        now = self._clock.monotonic()
        health.ready, health.reason, health.checked = problem is None, problem or "", now
        health.was_ready = health.was_ready or health.ready
        if template.liveness is not None and health.was_ready and now - health.live_checked >= LIVENESS_SECONDS:
            health.live_checked = now
            dead = await check(template.liveness, record.endpoints, *where)
            await self._note_liveness(record.instance.id, health, dead)

    async def _note_liveness(self, unit: str, health: _Health, dead: str | None) -> None:
        health.live_failures = health.live_failures + 1 if dead else 0
        if health.live_failures >= LIVENESS_FAILURES:
            log.warning("%s is not alive and is restarted: %s", unit, dead)
            # The second time around it ignored the TERM.
            flag = "-t" if health.live_failures == LIVENESS_FAILURES else "-k"
            await asyncio.to_thread(self._supervisor.control, unit, flag)


def service_path() -> str:
    """PATH of the services: this machine's, without the virtual environment that the platform itself runs in."""
    given = os.environ.get("PATH", os.defpath).split(":")
    own = Path(sys.prefix) if sys.prefix != sys.base_prefix else None
    return ":".join(p for p in given if os.path.isabs(p) and not (own and Path(p).is_relative_to(own)))


def _check_runnable(template: Template) -> None:
    """What no process can be started with. Raises INVALID_ARGUMENT."""
    for name, value in template.variables:
        if not name or "=" in name:
            raise _unrunnable(template, f"{name!r:.60} cannot name an environment variable")
        if not _is_text(name + value):
            raise _unrunnable(template, f"the variable {name!r:.60} holds a NUL or a half character")
    if not template.command or "=" in template.command[0] or not all(map(_is_text, template.command)):
        raise _unrunnable(template, "its command is empty, holds a NUL, or its first word has a `=`")


def _is_text(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def _unrunnable(template: Template, what: str) -> PlatformError:
    return PlatformError(
        ErrorCode.INVALID_ARGUMENT,
        f"{template.service} cannot be started in {template.environment}: {what}",
        "mend `command`, `args` or `variables` in its score.yaml, or `variables` in santiago.yaml",
    )


def _order(instance: Instance) -> tuple[str, str, str, int]:
    return instance.template.service, instance.template.environment, instance.template.version, instance.index


def _listens_elsewhere(pid: int) -> str:
    ports = sorted(listening_ports(pid))
    return f" (it listens on {', '.join(map(str, ports))})" if ports else ""
