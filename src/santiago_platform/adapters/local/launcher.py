"""From a template to a unit of s6, for instances and jobs: its release, its tenant's user, its files and volumes, its
limits."""

from __future__ import annotations

import asyncio
import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...domain.environment import Settings
from ...domain.errors import ErrorCode, PlatformError
from ...domain.workload import Container, Template
from ...ports.artifacts import Artifacts
from ..layout import WORKSPACE_VARIABLE, Layout
from .containers import launch
from .control_group import ControlGroups
from .instance import check_runnable, service_path
from .mounts import mounts, try_mounts
from .supervisor import Supervisor
from .tenants import Tenants
from .unit import INSTANCE_VARIABLE, Unit


@dataclass(frozen=True, slots=True)
class Launchable:
    """A unit that can be added. environments: of its containers, by name. prefix: words in front of their commands."""

    unit: Unit
    environments: dict[str, dict[str, str]]
    prefix: tuple[str, ...]


class Launcher:
    """Makes units of templates in one workspace. All but `admit` and `unpack` block."""

    def __init__(
        self,
        layout: Layout,
        supervisor: Supervisor,
        artifacts: Artifacts,
        *,
        tenants: Tenants | None = None,
        groups: ControlGroups | None = None,
    ) -> None:
        """tenants None: there is one."""
        self._layout = layout
        self._supervisor = supervisor
        self._artifacts = artifacts
        self.tenants = tenants or Tenants(layout, Settings)
        self._groups = groups or ControlGroups(layout.id)
        self._mountable: set[str] = set()  # versions whose files and volumes were mounted once

    async def admit(self, tenant: str) -> None:
        await asyncio.to_thread(self.tenants.admit, tenant)

    async def unpack(self, template: Template) -> Path:
        """The directory of its release, for a template that can be run here. Raises as ports.compute.Compute.start."""
        check_runnable(template)
        await self.admit(template.tenant)
        try:
            return await self._artifacts.unpack(template.release)
        except PlatformError as exc:
            if exc.code is not ErrorCode.NOT_FOUND:
                raise
            raise PlatformError(ErrorCode.FAILED_PRECONDITION, exc.message, exc.hint, internal=exc.internal) from exc

    def launchable(
        self, name: str, template: Template, directory: Path, ports: dict[str, int], **fields: Any
    ) -> Launchable:
        """The unit `name` of a template. ports: allocated, by port name. fields: further ones of the unit."""
        place = self._supervisor.directory(name)
        environments = {c.name: self._environment(template, c, ports) for c in template.containers}
        prefix = self.tenants.prefix(template, directory)
        places = self._places(template, directory)
        launched = launch(
            template,
            unit=place,
            mounted={c.name: mounts(c, unit=place, **places) for c in template.containers},
            environments=environments,
            prefix=prefix,
            marks={WORKSPACE_VARIABLE: self._layout.id, INSTANCE_VARIABLE: name},
        )
        unit = Unit(
            name=name,
            command=launched.command,
            directory=directory,
            environment=launched.environment,
            stop_grace_seconds=template.stop_grace_seconds,
            prepare=(self._groups.enter(name, template.limits),),
            conclude=(self._groups.leave(template.limits),),
            prefix=launched.prefix,
            extra=launched.extra,
            **fields,
        )
        return Launchable(unit, environments, prefix)

    def try_mounts(self, template: Template, directory: Path) -> None:
        """Once for a version, so that one whose files have no place fails with the reason, and before it is started."""
        if template.version in self._mountable:
            return
        for container in template.containers:
            # Beside the units, where what a crash leaves is removed by the next start.
            with tempfile.TemporaryDirectory(dir=self._layout.units, prefix=".trial-") as scratch:
                try:
                    try_mounts(container, scratch=Path(scratch), **self._places(template, directory))
                except PlatformError as exc:
                    message = f"{template.service} cannot be started in {template.environment}: {exc.message}"
                    raise PlatformError(exc.code, message, exc.hint) from exc
        uid = self.tenants.uid(template.tenant)
        for volume in (volume for container in template.containers for volume in container.volumes):
            if uid is not None:  # it may have been another tenant's, or the platform's own
                self.tenants.hand_over(self._volumes(template) / volume.name, uid)
        self._mountable.add(template.version)

    def _places(self, template: Template, directory: Path) -> dict[str, Any]:
        """What `mounts` is told of an instance's surroundings."""
        uid = self.tenants.uid(template.tenant)
        return {
            "release": directory,
            "volumes": self._volumes(template),
            "owner": None if uid is None else (uid, uid),
        }

    def _volumes(self, template: Template) -> Path:
        return self._layout.volumes / f"{template.service}__{template.environment}"

    def _environment(self, template: Template, container: Container, ports: dict[str, int]) -> dict[str, str]:
        """Little but what the author gave: a service that needs more says so in its score.yaml."""
        environment = {
            "PATH": service_path(),
            "HOME": str(self.tenants.home(template)),
            "LANG": "C.UTF-8",
            **dict(container.variables),
        }
        for index, port in enumerate(template.ports):
            environment[port.variable(first=index == 0)] = str(ports[port.name])
        return environment


@contextmanager
def needing_space(what: str) -> Iterator[None]:
    """Raises RESOURCE_EXHAUSTED where no space is left to start `what`."""
    try:
        yield
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise PlatformError(
            ErrorCode.RESOURCE_EXHAUSTED, f"no space is left to start {what}", "free some space"
        ) from exc
