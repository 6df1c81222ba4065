"""The workload: what its author wrote (Score v1b1), and what one instance of it runs.

`Workload` mirrors score.yaml; `Template` is a workload resolved for one release and one environment.
Source of the format: https://docs.score.dev, schema v1b1.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import Field

from .identity import Name
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


class Template(Value):
    """Everything that decides how an instance runs, and nothing that differs between instances.

    command: argv, run in the unpacked release. variables: rendered, with secrets by reference only.
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

    @property
    def version(self) -> str:
        """A short name for this template, unique among the versions of a service: 12 hex digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    @property
    def http_health_path(self) -> str:
        """The path that a proxy's active health check asks; empty means a TCP check."""
        return self.readiness.http_get.path if self.readiness.http_get else ""


class Instance(Value):
    """One of the `replicas` that run a template. index: from 0."""

    template: Template
    index: Annotated[int, Field(ge=0)]

    @property
    def id(self) -> str:
        t = self.template
        return f"{t.service}__{t.environment}__{t.version}__{self.index}"
