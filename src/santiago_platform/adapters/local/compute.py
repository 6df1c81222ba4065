"""Instances as units of s6: one service directory each, which is also the record of what runs."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...domain.route import Endpoint
from ...domain.value import Value
from ...domain.workload import Instance
from ...ports.artifacts import Artifacts
from ...ports.clock import Clock
from ...ports.compute import InstanceState, InstanceStatus
from .health import check
from .layout import Layout
from .port_registry import PortRegistry
from .process import listening_ports
from .supervisor import Supervisor, Unit, UnitStatus

log = logging.getLogger(__name__)

INSTANCE_VARIABLE = "SANTIAGO_INSTANCE"
RECORD = "instance.json"
GIVE_UP_AFTER = 3  # rapid deaths in a row; about 3 s with the back-off between them
RECHECK_READY_SECONDS = 5.0
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

    pid: int
    ready: bool = False
    was_ready: bool = False
    reason: str = "it was not looked at yet"
    checked: float = 0.0
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

    async def start(self, instance: Instance) -> None:
        directory = await self._artifacts.unpack(instance.template.release)
        await asyncio.to_thread(self._add, instance, directory)

    def _add(self, instance: Instance, directory: Path) -> None:
        unit = instance.id
        if self._supervisor.directory(unit).exists():
            record = self._record(unit)
        else:
            ports = {port.name: self._registry.claim(f"{unit}:{port.name}") for port in instance.template.ports}
            record = InstanceRecord(
                instance=instance,
                ports=ports,
                directory=str(directory),
                environment=self._environment(instance, ports),
            )
        if record is not None:
            self._supervisor.add(
                Unit(
                    name=unit,
                    command=instance.template.command,
                    directory=Path(record.directory),
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
            INSTANCE_VARIABLE: instance.id,
        }
        for index, port in enumerate(template.ports):
            environment[port.variable(first=index == 0)] = str(ports[port.name])
        return environment

    async def stop(self, instance_id: str) -> None:
        await asyncio.to_thread(self._remove, instance_id)

    def _remove(self, instance_id: str) -> None:
        record = self._record(instance_id)
        if self._supervisor.remove(instance_id):
            for name in record.ports if record else ():
                self._registry.release(f"{instance_id}:{name}")
            self._records.pop(instance_id, None)
            self._health.pop(instance_id, None)

    async def list(self, service: str | None = None, environment: str | None = None) -> list[InstanceStatus]:
        records = await asyncio.to_thread(self._read, service, environment)
        return list(await asyncio.gather(*(self._status(record, status) for record, status in records)))

    def _read(self, service: str | None, environment: str | None) -> Sequence[tuple[InstanceRecord, UnitStatus]]:
        found = []
        for name in self._supervisor.names():
            if "__" not in name or (service is not None and not name.startswith(f"{service}__{environment or ''}")):
                continue
            record = self._record(name)
            if record is None:
                continue
            template = record.instance.template
            if service in (None, template.service) and environment in (None, template.environment):
                status = self._supervisor.status(name)
                if status.stopping:  # a step further, whoever asked for it
                    self._remove(name)
                    status = self._supervisor.status(name)
                    if not self._supervisor.directory(name).exists():
                        continue
                found.append((record, status))
        return sorted(found, key=lambda pair: _order(pair[0].instance))

    def _record(self, unit: str) -> InstanceRecord | None:
        if unit not in self._records:
            try:
                text = (self._supervisor.directory(unit) / RECORD).read_text()
            except FileNotFoundError:
                return None
            self._records[unit] = InstanceRecord.model_validate_json(text)
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
        health = await self._looked_at(record, unit.process.pid)
        if health.ready:
            return InstanceState.READY, ""
        reason = f"{health.reason}; before that it {last}" if last else health.reason
        return (InstanceState.UNREADY if health.was_ready else InstanceState.STARTING), reason

    async def _looked_at(self, record: InstanceRecord, pid: int) -> _Health:
        """A ready instance is looked at every few seconds: between, the proxies' own checks watch it."""
        health = self._health.get(record.instance.id)
        if health is None or health.pid != pid:
            health = self._health[record.instance.id] = _Health(pid=pid)
        now = self._clock.monotonic()
        if health.ready and now - health.checked < RECHECK_READY_SECONDS:
            return health
        template = record.instance.template
        where = {"directory": Path(record.directory), "environment": record.environment}
        problem = await check(template.readiness, record.endpoints, **where)  # type: ignore[arg-type]
        if problem is not None and "nothing listens" in problem:
            problem += await asyncio.to_thread(_listens_elsewhere, pid)
        health.ready, health.reason, health.checked = problem is None, problem or "", now
        health.was_ready = health.was_ready or health.ready
        if template.liveness is not None and health.was_ready and now - health.live_checked >= LIVENESS_SECONDS:
            health.live_checked = now
            dead = await check(template.liveness, record.endpoints, **where)  # type: ignore[arg-type]
            await self._note_liveness(record.instance.id, health, dead)
        return health

    async def _note_liveness(self, unit: str, health: _Health, dead: str | None) -> None:
        health.live_failures = health.live_failures + 1 if dead else 0
        if health.live_failures >= LIVENESS_FAILURES:
            log.warning("%s is not alive and is restarted: %s", unit, dead)
            # The second time around it ignored the TERM.
            flag = "-t" if health.live_failures == LIVENESS_FAILURES else "-k"
            await asyncio.to_thread(self._supervisor.control, unit, flag)


def service_path() -> str:
    """PATH of the services: this machine's, without the virtual environment that the platform itself runs in."""
    own = os.environ.get("VIRTUAL_ENV")
    given = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin").split(":")
    return ":".join(place for place in given if place and not (own and place.startswith(own)))


def _order(instance: Instance) -> tuple[str, str, str, int]:
    return instance.template.service, instance.template.environment, instance.template.version, instance.index


def _listens_elsewhere(pid: int) -> str:
    ports = sorted(listening_ports(pid))
    return f" (it listens on {', '.join(map(str, ports))})" if ports else ""
