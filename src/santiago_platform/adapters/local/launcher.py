"""From a template to a unit of s6, for instances and jobs: its release, its tenant's user, its files and volumes, its
limits. Its programs are processes here, or containers where the release has a base image."""

from __future__ import annotations

import asyncio
import errno
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...domain.environment import Settings, Telemetry
from ...domain.errors import ErrorCode, PlatformError
from ...domain.secret import revealed
from ...domain.workload import Container, Template
from ...ports.artifacts import Artifacts
from ..layout import WORKSPACE_VARIABLE, Layout
from .containers import launch
from .control_group import ControlGroups
from .instance import check_runnable, service_path
from .mounts import Mounts, mounts, try_mounts
from .podman import Podman
from .podman_container import contain, container_name
from .supervisor import Supervisor
from .telemetry import telemetry_variables
from .tenants import Tenants
from .unit import INSTANCE_VARIABLE, Unit

Values = Callable[[Template], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A release that can be run here. image: it has a base image, which podman has loaded: it runs in containers."""

    directory: Path
    image: bool


@dataclass(frozen=True, slots=True)
class Launchable:
    """A unit that can be added. environments: of its containers, by name, with secrets by
    reference. prefix: words in front of their commands."""

    unit: Unit
    environments: dict[str, dict[str, str]]
    prefix: tuple[str, ...] = ()


class Launcher:
    """Makes units of templates in one workspace. All but `admit`, `admit_images` and `unpack` block."""

    def __init__(
        self,
        layout: Layout,
        supervisor: Supervisor,
        artifacts: Artifacts,
        *,
        tenants: Tenants | None = None,
        groups: ControlGroups | None = None,
        secrets: Values = lambda _template: {},
        telemetry: Callable[[], Telemetry] = Telemetry,
    ) -> None:
        """tenants None: there is one. secrets: what the references of a template stand for, by their text. telemetry:
        where services send theirs, asked with each start."""
        self._layout = layout
        self._supervisor = supervisor
        self._artifacts = artifacts
        self.tenants = tenants or Tenants(layout, Settings)
        self.podman = Podman(layout)
        self._groups = groups or ControlGroups(layout.id)
        self._secrets = secrets
        self._telemetry = telemetry
        self._mountable: set[str] = set()  # versions whose files and volumes were mounted once

    async def admit(self, tenant: str) -> None:
        await asyncio.to_thread(self.tenants.admit, tenant)

    async def admit_images(self) -> None:
        await asyncio.to_thread(self.podman.admit)

    async def unpack(self, template: Template) -> Unpacked:
        """Its release, for a template that can be run here. Raises as ports.compute.Compute.start."""
        check_runnable(template)
        await self.admit(template.tenant)
        try:
            release = await self._artifacts.get(template.release)
            directory = await self._artifacts.unpack(release.digest)
            if not release.local_only:
                await self._load_image(template)
        except PlatformError as exc:
            if exc.code is not ErrorCode.NOT_FOUND:
                raise
            raise PlatformError(ErrorCode.FAILED_PRECONDITION, exc.message, exc.hint, internal=exc.internal) from exc
        return Unpacked(directory, image=not release.local_only)

    async def _load_image(self, template: Template) -> None:
        """Into podman's store, once."""
        await self.admit_images()
        if await asyncio.to_thread(self.podman.has, template.service, template.release):
            return
        with tempfile.TemporaryDirectory(dir=self._layout.units, prefix=".image-") as scratch:
            image = Path(scratch, "image")
            image.mkdir()
            await self._artifacts.export(template.release, image)
            await asyncio.to_thread(self.podman.load, template.service, template.release, image)
        images = await asyncio.to_thread(self.podman.images)  # before the releases: a new one is never among the gone
        known = {release.digest for release in await self._artifacts.list()}
        gone = [image_id for digest, image_id in images if digest not in known]
        await asyncio.to_thread(self.podman.remove_images, gone)

    def launchable(
        self, name: str, template: Template, release: Unpacked, ports: dict[str, int], **fields: Any
    ) -> Launchable:
        """The unit `name` of a template. ports: allocated, by port name. fields: further ones of the unit."""
        told = telemetry_variables(self._telemetry(), template, name)
        environments = {c.name: told | self._environment(template, c, ports, release) for c in template.containers}
        make = self._contained if release.image else self._plain
        return make(name, template, release.directory, environments, self._secrets(template), fields)

    def reveal(self, template: Template, environment: Mapping[str, str]) -> dict[str, str]:
        """The environment of one of its containers, with values in place of references."""
        return _revealed(environment, self._secrets(template)) if template.secrets else dict(environment)

    def _plain(
        self,
        name: str,
        template: Template,
        directory: Path,
        environments: dict[str, dict[str, str]],
        secrets: Mapping[str, str],
        fields: dict[str, Any],
    ) -> Launchable:
        place = self._supervisor.directory(name)
        prefix = self.tenants.prefix(template, directory)
        places = self._places(template, directory)
        launched = launch(
            template,
            unit=place,
            mounted={c.name: mounts(c, unit=place, secrets=secrets, **places) for c in template.containers},
            environments={name: _revealed(variables, secrets) for name, variables in environments.items()},
            prefix=prefix,
            marks=self._marks(name),
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

    def _contained(
        self,
        name: str,
        template: Template,
        directory: Path,
        environments: dict[str, dict[str, str]],
        secrets: Mapping[str, str],
        fields: dict[str, Any],
    ) -> Launchable:
        place = self._supervisor.directory(name)
        made = {
            each.name: contain(
                self.podman,
                template,
                each,
                unit=name,
                directory=place,
                release=directory,
                volumes=self._volumes(template),
                environment={**_revealed(environments[each.name], secrets), **self._marks(name)},
                secrets=secrets,
                user=self.tenants.uid(template.tenant),
                enter=self._groups.join()
                if each.name != template.container
                else self._groups.enter(name, template.limits),
            )
            for each in template.containers
        }
        launched = launch(
            _launching(template, {each: files.command for each, files in made.items()}),
            unit=place,
            mounted={each: Mounts((), files.files) for each, files in made.items()},
            environments={each: {"PATH": service_path()} for each in made},
            prefix=(),
            marks=self._marks(name),
        )
        self._hand_over_volumes(template)
        unit = Unit(
            name=name,
            command=launched.command,
            directory=directory,
            environment=launched.environment,
            stop_grace_seconds=template.stop_grace_seconds,
            prepare=(self._groups.forget(), *(words for files in made.values() for words in files.prepare)),
            conclude=(self._groups.leave(template.limits), self.podman.conclude(containers(template, name))),
            extra=launched.extra,
            **fields,
        )
        return Launchable(unit, environments)

    def try_mounts(self, template: Template, release: Unpacked) -> None:
        """Once for a version, so that one whose files have no place fails with the reason, and before it is started."""
        if release.image or template.version in self._mountable:
            return
        for container in template.containers:
            # Beside the units, where what a crash leaves is removed by the next start.
            with tempfile.TemporaryDirectory(dir=self._layout.units, prefix=".trial-") as scratch:
                try:
                    try_mounts(container, scratch=Path(scratch), **self._places(template, release.directory))
                except PlatformError as exc:
                    message = f"{template.service} cannot be started in {template.environment}: {exc.message}"
                    raise PlatformError(exc.code, message, exc.hint) from exc
        self._hand_over_volumes(template)
        self._mountable.add(template.version)

    def _hand_over_volumes(self, template: Template) -> None:
        """To the tenant: they may have been another one's, or the platform's own."""
        uid = self.tenants.uid(template.tenant)
        for volume in (volume for container in template.containers for volume in container.volumes):
            folder = self._volumes(template) / volume.name
            if uid is not None and folder.is_dir():
                self.tenants.hand_over(folder, uid)

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

    def _marks(self, name: str) -> dict[str, str]:
        return {WORKSPACE_VARIABLE: self._layout.id, INSTANCE_VARIABLE: name}

    def _environment(
        self, template: Template, container: Container, ports: dict[str, int], release: Unpacked
    ) -> dict[str, str]:
        """Little but what the author gave: a service that needs more says so in its score.yaml, or its image does."""
        machine = {"PATH": service_path(), "HOME": str(self.tenants.home(template)), "LANG": "C.UTF-8"}
        environment = {**({} if release.image else machine), **dict(container.variables)}
        for index, port in enumerate(template.ports):
            environment[port.variable(first=index == 0)] = str(ports[port.name])
        return environment


def _revealed(environment: Mapping[str, str], secrets: Mapping[str, str]) -> dict[str, str]:
    return {name: revealed(text, secrets) for name, text in environment.items()}


def containers(template: Template, unit: str) -> list[str]:
    """The names that podman knows the unit's containers by."""
    return [container_name(template, unit, container.name) for container in template.containers]


def _launching(template: Template, commands: Mapping[str, tuple[str, ...]]) -> Template:
    """The template with the launchers in place of its containers' programs."""
    beside = tuple(c.model_copy(update={"command": commands[c.name]}) for c in template.beside)
    return template.model_copy(update={"command": commands[template.container], "beside": beside})


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
