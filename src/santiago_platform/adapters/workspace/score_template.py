"""Resolves a Score workload for a release and an environment, as far as this platform can run it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ...domain.environment import Settings
from ...domain.errors import ErrorCode, PlatformError
from ...domain.quantity import cpu_cores, memory_bytes
from ...domain.secret import SecretRef, refers
from ...domain.workload import Container as Program
from ...domain.workload import HttpGet, Limits, Port, Probe, Template
from .placeholder import PlaceholderError, expand
from .score import Container, ContainerProbe, HttpProbe, Score, is_name
from .score_mounts import Mounts
from .score_secrets import References
from .yaml_document import NAME_RULE, Document, Path, nearest

_RESOURCES = ("service", "environment", "flags", "secret", "volume")
_SERVICE_OUTPUTS = ("host", "port", "url")
LOOPBACK = "127.0.0.1"
PROTOCOL = "santiago.dev/protocol"  # an annotation: Score itself knows TCP and UDP alone

RESERVED = re.compile(r"PORT(_.*)?|SANTIAGO_.*")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_HEADER_SAFE = re.compile(r"[\x20-\x7e]*")


def resolve(
    score: Score,
    document: Document,
    settings: Settings,
    *,
    services: Callable[[], list[str]],
    service_port: Callable[[str, str], int],
    flags_url: Callable[[str], str],
    secret: Callable[[str], SecretRef | None],
    release: str,
    environment: str,
) -> Template:
    """The template of `score`, whose source is `document`. services: the names that a `service` resource may have.
    secret: the newest version of what the service has under a name in this environment.

    Raises PlatformError: NOT_FOUND for an environment that santiago.yaml does not have, INVALID_ARGUMENT for what
    contradicts itself, UNSUPPORTED for what this platform cannot run; the latter two begin `WHERE:LINE: `.
    """
    if environment not in settings.environments:
        known = ", ".join(sorted(settings.environments))
        raise PlatformError(
            ErrorCode.NOT_FOUND, f"there is no environment {environment}", f"santiago.yaml has: {known}"
        )
    secrets = References(score.metadata.name, environment, secret)
    resolution = _Resolution(score, document, settings, services, service_port, flags_url, secrets, environment)
    return resolution.template(release)


@dataclass(frozen=True)
class _Resolution:
    score: Score
    document: Document
    settings: Settings
    services: Callable[[], list[str]]
    service_port: Callable[[str, str], int]
    flags_url: Callable[[str], str]
    secrets: References
    environment: str

    def template(self, release: str) -> Template:
        service = self.score.metadata.name
        chosen = self.settings.environments[self.environment].settings(service)
        self._check_resources()
        ports = self._ports()
        first, *beside = [
            self._program(name, container, ports, chosen.variables) for name, container in self.score.containers.items()
        ]
        return Template(
            service=service,
            environment=self.environment,
            tenant=self.settings.tenant_of(service),
            release=release,
            command=first.command,
            variables=first.variables,
            ports=ports,
            readiness=first.readiness or Probe(),
            liveness=first.liveness,
            limits=self._limits(),
            stop_grace_seconds=chosen.stop_grace_seconds if chosen.stop_grace_seconds is not None else 10.0,
            protocol=self._protocol(),
            container=first.name if beside else "main",  # the name of a single one makes no other version
            files=first.files,
            volumes=first.volumes,
            beside=tuple(beside),
            secrets=self.secrets.all(),
        )

    def _check_resources(self) -> None:
        """Also of those that no placeholder names: what a workload needs and does not get is no detail."""
        for name, resource in self.score.resources.items():
            if resource.type not in _RESOURCES:
                raise self._unsupported(
                    ("resources", name, "type"),
                    f"resources of type {resource.type!r} cannot be provisioned yet",
                    f"there are {', '.join(_RESOURCES)}; provision_resource comes later",
                )
            if resource.type == "secret":
                self._secret_output(resource.id or name, "value", ("resources", name))
            if resource.type == "secret" and resource.params:
                raise self._unsupported(
                    ("resources", name, "params"), "a secret takes no `params`", "`id` is its name where it has another"
                )

    def _program(self, name: str, container: Container, ports: tuple[Port, ...], overrides: dict[str, str]) -> Program:
        path: Path = ("containers", name)
        if container.image != ".":
            raise self._unsupported(
                (*path, "image"),
                f"the image {container.image!r} cannot be run by this platform",
                "write `image: .`, and name the image as `base: {image: ...}` in build.yaml: releases are laid over it",
            )
        if container.before:
            raise self._unsupported(
                (*path, "before"),
                "`before` is not supported: the containers of an instance start together",
                "let the program itself wait for what it needs",
            )
        mounts = Mounts(self.document, self.score.resources, self._expand, self._placeholders)
        files, volumes = mounts.of(container, path)
        return Program(
            name=name,
            command=self._command(container, path),
            variables=self._variables(container, path, overrides),
            readiness=self._probe(container.readiness_probe, (*path, "readinessProbe"), ports),
            liveness=self._probe(container.liveness_probe, (*path, "livenessProbe"), ports),
            files=files,
            volumes=volumes,
        )

    def _command(self, container: Container, path: Path) -> tuple[str, ...]:
        if not container.command or not container.command[0]:
            raise self.document.error(
                path,
                "`command` is missing, and a release without an image has no entry point of its own",
                'write the program and its arguments as a list: command: ["python3", "server.py"]',
            )
        words = []
        for key, texts in (("command", container.command), ("args", container.args)):
            for i, text in enumerate(texts):
                words.append(self._expand(text, (*path, key, i)))
                if refers(words[-1]):
                    raise self.document.error(
                        (*path, key, i),
                        "a secret cannot be a word of a command: everybody on the machine can list those",
                        "give it to the program as a variable, or in a file",
                    )
        return tuple(words)

    def _variables(self, container: Container, path: Path, overrides: dict[str, str]) -> tuple[tuple[str, str], ...]:
        found: dict[str, str] = {}
        for name, text in container.variables.items():
            at: Path = (*path, "variables", name)
            if RESERVED.fullmatch(name):
                raise self.document.error(
                    at,
                    f"the platform sets {name} itself",
                    "read PORT (and PORT_NAME for further ports) in the program; do not set it",
                )
            if "\0" in name:
                raise self.document.error(at, "the name of a variable cannot hold a NUL character")
            found[name] = self._expand(text, at)
        return tuple(sorted((found | {name: self._setting(name) for name in overrides}).items()))

    def _ports(self) -> tuple[Port, ...]:
        """One for each target: names that share a target share the allocated port."""
        by_target: dict[int, Port] = {}
        for name, port in self.score.service.ports.items():
            path: Path = ("service", "ports", name)
            if port.protocol != "TCP":
                raise self._unsupported((*path, "protocol"), "only TCP ports are supported", "leave `protocol` out")
            if not is_name(name):
                raise self.document.error(path, f"the port name {name!r} is not a name", NAME_RULE)
            by_target.setdefault(port.target, Port(name=name, target=port.target))
        return tuple(by_target.values())

    def _protocol(self) -> Literal["http", "h2c"]:
        match self.score.metadata.annotations.get(PROTOCOL, "http"):
            case "http":
                return "http"
            case "h2c" | "grpc":
                return "h2c"
            case other:
                raise self.document.error(
                    ("metadata", "annotations", PROTOCOL),
                    f"{other!r:.60} is no protocol that the ingress speaks to a service",
                    "write http (which is HTTP/1.1), h2c (HTTP/2 without TLS) or grpc (the same)",
                )

    def _probe(self, probe: ContainerProbe | None, path: Path, ports: tuple[Port, ...]) -> Probe | None:
        if probe is None:
            return None
        if probe.exec is not None:  # the Score specification prefers it where both are given
            command = probe.exec.command
            if not command or not command[0] or any("\0" in part for part in command):
                raise self.document.error((*path, "exec", "command"), "the command of a probe needs a program")
            return Probe(command=command)
        if probe.http_get is not None:
            return Probe(http_get=self._http_get(probe.http_get, (*path, "httpGet"), ports))
        raise self.document.error(path, "a probe needs `httpGet` or `exec`", "leave the probe out for a TCP check")

    def _http_get(self, probe: HttpProbe, path: Path, ports: tuple[Port, ...]) -> HttpGet:
        if probe.scheme != "HTTP":
            raise self._unsupported(
                (*path, "scheme"), "probes over HTTPS are not supported", "probe a plain HTTP port of the service"
            )
        port = next((p for p in ports if p.target == probe.port), None)
        if port is None:
            known = ", ".join(f"{p.target} ({p.name})" for p in ports)
            raise self.document.error(
                (*path, "port"),
                f"the probe asks port {probe.port}, which is no target port of service.ports",
                f"the target ports are: {known}" if known else "name it under service.ports",
            )
        if not probe.path.startswith("/"):
            raise self.document.error((*path, "path"), f"the path {probe.path!r} must begin with `/`")
        texts = {"path": probe.path, "host": probe.host or ""}
        for key, text in texts.items():
            if not _HEADER_SAFE.fullmatch(text) or " " in text:
                raise self.document.error((*path, key), f"`{key}` must be printable ASCII without spaces")
        for i, header in enumerate(probe.http_headers):
            if not _HEADER_SAFE.fullmatch(header.value):
                raise self.document.error((*path, "httpHeaders", i), "the value of a header must be printable ASCII")
        headers = tuple((h.name, h.value) for h in probe.http_headers)
        return HttpGet(path=probe.path, port=port.name, host=probe.host, headers=headers)

    def _limits(self) -> Limits:
        """Of the instance: the sum over its containers."""
        memory = self._limit("memory", memory_bytes)
        cpu = self._limit("cpu", cpu_cores)
        return Limits(memory_bytes=None if memory is None else int(memory), cpu_cores=cpu)

    def _limit(self, key: str, read: Callable[[str], float]) -> float | None:
        found = {}
        for name, container in self.score.containers.items():
            text = getattr(container.resources.limits, key)
            path: Path = ("containers", name, "resources", "limits", key)
            if text is not None and (value := read(text)) == 0:
                raise self.document.error(path, f"the {key} limit must be more than 0", "leave it out for no limit")
            if text is not None:
                found[name] = value
        without = next((name for name in self.score.containers if name not in found), None)
        if found and without is not None:
            raise self._unsupported(
                ("containers", without),
                f"the container {without} has no {key} limit, and another one has",
                "give each container one, or none: their sum is the limit of an instance",
            )
        return sum(found.values()) if found else None

    def _expand(self, text: str, path: Path) -> str:
        if "\0" in text:
            raise self.document.error(path, "a program can be given no NUL character")
        try:
            return expand(text, lambda parts: self._lookup(parts, path))
        except PlaceholderError as exc:
            raise self.document.error(path, exc.problem, exc.hint) from exc

    def _lookup(self, parts: tuple[str, ...], path: Path) -> str:
        match parts:
            case ("metadata", _, *_):
                return self._metadata(parts[1:])
            case ("resources", name, output):
                return self._output(name, output, path)
            case ("resources", *_):
                raise PlaceholderError(
                    _unknown(parts), "write ${resources.NAME.OUTPUT}; a dot within a name is written `\\.`"
                )
            case (name,) if _VARIABLE.fullmatch(name):
                raise PlaceholderError(
                    f"{_unknown(parts)}, and no shell expands variables here",
                    f"let the program read the environment variable {name}; a shell that you start yourself "
                    f"(`sh -c`) gets it written as `$${{{name}}}`",
                )
            case _:
                raise PlaceholderError(
                    _unknown(parts), "there are ${metadata.KEY} and ${resources.NAME.OUTPUT}; `$$` is a dollar sign"
                )

    def _metadata(self, keys: tuple[str, ...]) -> str:
        table: dict[str, object] = self.score.metadata.model_dump(mode="json")
        if keys[0] == "annotations" and len(keys) > 1:
            table, keys = dict(self.score.metadata.annotations), keys[1:]
        name = ".".join(keys)
        value = table.get(name)
        if not isinstance(value, str):
            known = [key for key, other in table.items() if isinstance(other, str)]
            raise PlaceholderError(f"metadata has no text {name!r}", nearest(name, known))
        return value

    def _output(self, name: str, output: str, path: Path) -> str:
        resource = self.score.resources.get(name)
        if resource is None:
            raise PlaceholderError(
                f"there is no resource {name!r}", nearest(name, list(self.score.resources)) or "add it to resources"
            )
        at: Path = ("resources", name)
        match resource.type:
            case "environment":
                return self._setting(output)
            case "service":
                return self._service_output(resource.id or name, output, at)
            case "flags":
                return self._flags_output(output, at)
            case "secret":
                return self._secret_output(resource.id or name, output, at)
            case kind:
                raise PlaceholderError(
                    f"a {kind} has no output {output!r}", f"`source: ${{resources.{name}}}` under `volumes` mounts it"
                )

    def _setting(self, name: str) -> str:
        service = self.score.metadata.name
        variables = self.settings.environments[self.environment].settings(service).variables
        if name not in variables:
            raise PlaceholderError(
                f"the environment {self.environment} has no value {name!r} for {service}",
                f"set environments.{self.environment}.services.{service}.variables.{name} in santiago.yaml",
            )
        return self.secrets.in_setting(name, variables[name])

    def _service_output(self, service: str, output: str, path: Path) -> str:
        known = self.services()
        if service not in known:
            raise self.document.error(path, f"there is no service {service!r}", nearest(service, known))
        port = self.service_port(service, self.environment)
        outputs = {"host": LOOPBACK, "port": str(port), "url": f"http://{LOOPBACK}:{port}"}
        if output not in outputs:
            raise PlaceholderError(f"a service has no output {output!r}", nearest(output, list(outputs)))
        return outputs[output]

    def _flags_output(self, output: str, path: Path) -> str:
        if output != "url":
            raise PlaceholderError(f"flags have no output {output!r}", "they have url")
        try:
            return self.flags_url(self.environment)
        except PlatformError as exc:
            raise self.document.error(path, exc.message, exc.hint, exc.code) from exc

    def _secret_output(self, name: str, output: str, path: Path) -> str:
        if output != "value":
            raise PlaceholderError(f"a secret has no output {output!r}", "it has value")
        try:
            return self.secrets.text(name)
        except PlaceholderError as exc:
            raise self.document.error(path, exc.problem, exc.hint, ErrorCode.FAILED_PRECONDITION) from exc

    def _placeholders(self) -> tuple[tuple[str, str], ...]:
        """What may stand in a file of the release, which is read when an instance starts, and what it stands for."""
        found = {f"metadata.{key}": text for key, text in self.score.metadata if isinstance(text, str)}
        found |= {f"metadata.annotations.{key}": text for key, text in self.score.metadata.annotations.items()}
        variables = self.settings.environments[self.environment].settings(self.score.metadata.name).variables
        outputs = {
            "environment": tuple(variables),
            "service": _SERVICE_OUTPUTS,
            "flags": ("url",),
            "secret": ("value",),
        }
        for name, resource in self.score.resources.items():
            for output in outputs.get(resource.type, ()):
                found[f"resources.{name}.{output}"] = self._output(name, output, ("resources", name))
        return tuple(sorted(found.items()))

    def _unsupported(self, path: Path, problem: str, hint: str) -> PlatformError:
        return self.document.error(path, problem, hint, ErrorCode.UNSUPPORTED)


def _unknown(parts: tuple[str, ...]) -> str:
    return f"`${{{'.'.join(parts)[:80]}}}` is not a placeholder"
