"""The workload: what its author wrote (Score v1b1), and what one instance of it runs.

`Workload` mirrors score.yaml; `Template` is a workload resolved for one release and one environment.
Source of the format: https://docs.score.dev, schema v1b1.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field

from .identity import Name
from .secret import SecretRef
from .value import Value


class Port(Value):
    """A port that instances listen on. Each instance gets an allocated one in its place.

    name: of the service port. target: the number that the author wrote.
    """

    name: Name
    target: Annotated[int, Field(ge=1, le=65535)]

    def variable(self, first: bool) -> str:
        """The environment variable that carries the allocated port: PORT, or PORT_NAME."""
        return "PORT" if first else "PORT_" + self.name.upper().replace("-", "_")


class HttpGet(Value):
    """port: the name of a `Port` of the template."""

    path: str
    port: Name
    host: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


class Probe(Value):
    """A health check: exactly one of `http_get` and `command`. Neither: the first port accepts TCP."""

    http_get: HttpGet | None = None
    command: tuple[str, ...] | None = None


class Limits(Value):
    """None means unlimited. memory_bytes: resident memory. cpu_cores: 0.5 is half a core."""

    memory_bytes: int | None = None
    cpu_cores: float | None = None


class File(Value):
    """A file that a container finds at `path`, and cannot change. path: absolute, without `.` and `..` in it.

    Exactly one of content, content_base64 and source, which is a path in the release. mode: permission bits.
    placeholders: what each `${...}` in the source stands for, by what is between the braces; None takes it as it is.
    """

    path: str
    mode: Annotated[int, Field(ge=0, le=0o777)] = 0o644
    content: str | None = None
    content_base64: str | None = None
    source: str | None = None
    placeholders: tuple[tuple[str, str], ...] | None = None


class Volume(Value):
    """A directory that a container finds at `path`, and that outlives versions. Instances of a service share it.

    path: as in `File`. name: unique among the volumes of a service and environment. subpath: in it, relative.
    """

    path: str
    name: str
    subpath: str = ""
    read_only: bool = False


ContainerName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class Container(Value):
    """One of the programs of an instance. readiness: None means ready while it runs."""

    name: ContainerName
    command: tuple[str, ...]
    variables: tuple[tuple[str, str], ...] = ()
    readiness: Probe | None = None
    liveness: Probe | None = None
    files: tuple[File, ...] = ()
    volumes: tuple[Volume, ...] = ()


class Template(Value):
    """Everything that decides how an instance runs, and nothing that differs between instances.

    command: argv, run in the unpacked release. variables: rendered, with secrets by reference only.
    container: the name of what these and the probes, files and volumes describe. beside: further containers, which
    live and die with it and have the same ports. limits: of all together. protocol: what the first port speaks; h2c is
    HTTP/2 without TLS. secrets: those that variables and files refer to, which have their text in place of the value.
    Two templates that are equal are the same version.
    """

    service: Name
    environment: Name
    tenant: Name
    release: str
    command: tuple[str, ...]
    variables: tuple[tuple[str, str], ...] = ()
    ports: tuple[Port, ...] = ()
    readiness: Probe = Probe()
    liveness: Probe | None = None
    limits: Limits = Limits()
    stop_grace_seconds: Annotated[float, Field(ge=0)] = 10.0
    container: ContainerName = "main"
    files: tuple[File, ...] = ()
    volumes: tuple[Volume, ...] = ()
    beside: tuple[Container, ...] = ()
    protocol: Literal["http", "h2c"] = "http"
    secrets: tuple[SecretRef, ...] = ()

    @cached_property
    def version(self) -> str:
        """A short name for this template, unique among the versions of a service: 12 hex digits.

        Fields that came later count where they say something, so that a new platform knows what an old one started.
        """
        unsaid = {name for name in _LATER_FIELDS if getattr(self, name) == type(self).model_fields[name].default}
        return hashlib.sha256(self.model_dump_json(exclude=unsaid).encode()).hexdigest()[:12]

    @property
    def containers(self) -> tuple[Container, ...]:
        """All of them; the first one's readiness is never None."""
        first = Container(
            name=self.container,
            command=self.command,
            variables=self.variables,
            readiness=self.readiness,
            liveness=self.liveness,
            files=self.files,
            volumes=self.volumes,
        )
        return first, *self.beside

    @property
    def http_health(self) -> HttpGet | None:
        """What a proxy's active health check asks: the probe of the first port, else the first container's. None
        means a TCP check."""
        probes = [c.readiness.http_get for c in self.containers if c.readiness and c.readiness.http_get]
        first = self.ports[0].name if self.ports else ""
        return next((get for get in probes if get.port == first), self.readiness.http_get)

    @property
    def http_health_path(self) -> str:
        """The path of `http_health`; empty means a TCP check."""
        return self.http_health.path if self.http_health else ""


_LATER_FIELDS = ("container", "files", "volumes", "beside", "protocol", "secrets")


class Instance(Value):
    """One of the `replicas` that run a template. index: from 0."""

    template: Template
    index: Annotated[int, Field(ge=0)]

    @property
    def id(self) -> str:
        t = self.template
        return f"{t.service}__{t.environment}__{t.version}__{self.index}"
