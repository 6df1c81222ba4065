"""Resolves a Score workload for a release and an environment, as far as this platform can run it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ...domain.environment import Settings
from ...domain.errors import ErrorCode, PlatformError
from ...domain.route import hostname
from ...domain.workload import HttpGet, Limits, Port, Probe, Template
from .placeholder import PlaceholderError, expand
from .score import Container, ContainerProbe, HttpProbe, Score, cpu_cores, is_name, memory_bytes
from .yaml_document import NAME_RULE, Document, Path, nearest

_LATER = "it comes with the hardening of the local platform; until then "
_RESERVED = re.compile(r"PORT(_.*)?|SANTIAGO_.*")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_HEADER_SAFE = re.compile(r"[\x20-\x7e]*")


def resolve(
    score: Score,
    document: Document,
    settings: Settings,
    *,
    services: Callable[[], list[str]],
    release: str,
    environment: str,
) -> Template:
    """The template of `score`, whose source is `document`. services: the names that a `service` resource may have.

    Raises PlatformError: NOT_FOUND for an environment that santiago.yaml does not have, INVALID_ARGUMENT for what
    contradicts itself, UNSUPPORTED for what this platform cannot run; the latter two begin `WHERE:LINE: `.
    """
    if environment not in settings.environments:
        known = ", ".join(sorted(settings.environments))
        raise PlatformError(
            ErrorCode.NOT_FOUND, f"there is no environment {environment}", f"santiago.yaml has: {known}"
        )
    return _Resolution(score, document, settings, services, environment).template(release)


@dataclass(frozen=True)
class _Resolution:
    score: Score
    document: Document
    settings: Settings
    services: Callable[[], list[str]]
    environment: str

    def template(self, release: str) -> Template:
        name, container = self._container()
        path: Path = ("containers", name)
        service = self.score.metadata.name
        chosen = self.settings.environments[self.environment].settings(service)
        ports = self._ports()
        readiness = self._probe(container.readiness_probe, (*path, "readinessProbe"), ports)
        return Template(
            service=service,
            environment=self.environment,
            tenant=self.settings.tenant,
            release=release,
            command=self._command(container, path),
            variables=self._variables(container, path, chosen.variables),
            ports=ports,
            readiness=readiness or Probe(),
            liveness=self._probe(container.liveness_probe, (*path, "livenessProbe"), ports),
            limits=self._limits(container, (*path, "resources", "limits")),
            stop_grace_seconds=chosen.stop_grace_seconds if chosen.stop_grace_seconds is not None else 10.0,
        )

    def _container(self) -> tuple[str, Container]:
        if len(self.score.containers) > 1:
            raise self._unsupported(
                ("containers", list(self.score.containers)[1]),
                f"{len(self.score.containers)} containers in one workload are not supported yet",
                _LATER + "make each a service of its own",
            )
        name, container = next(iter(self.score.containers.items()))
        path: Path = ("containers", name)
        if container.image != ".":
            raise self._unsupported(
                (*path, "image"),
                f"the image {container.image!r} cannot be run by this platform",
                "write `image: .` for a release that build.yaml builds from the sources",
            )
        advice = {
            "files": "put the file beside score.yaml; it becomes part of the release",
            "volumes": "keep state in a service that stores it",
            "before": "let the program itself wait for what it needs",
        }
        for key, instead in advice.items():
            if getattr(container, key):
                raise self._unsupported((*path, key), f"`{key}` is not supported yet", _LATER + instead)
        return name, container

    def _command(self, container: Container, path: Path) -> tuple[str, ...]:
        if not container.command or not container.command[0]:
            raise self.document.error(
                path,
                "`command` is missing, and a release without an image has no entry point of its own",
                'write the program and its arguments as a list: command: ["python3", "server.py"]',
            )
        return tuple(
            self._expand(text, (*path, key, i))
            for key, texts in (("command", container.command), ("args", container.args))
            for i, text in enumerate(texts)
        )

    def _variables(self, container: Container, path: Path, overrides: dict[str, str]) -> tuple[tuple[str, str], ...]:
        found: dict[str, str] = {}
        for name, text in container.variables.items():
            at: Path = (*path, "variables", name)
            if _RESERVED.fullmatch(name):
                raise self.document.error(
                    at,
                    f"the platform sets {name} itself",
                    "read PORT (and PORT_NAME for further ports) in the program; do not set it",
                )
            if "\0" in name:
                raise self.document.error(at, "the name of a variable cannot hold a NUL character")
            found[name] = self._expand(text, at)
        return tuple(sorted((found | overrides).items()))

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

    def _limits(self, container: Container, path: Path) -> Limits:
        limits = container.resources.limits
        memory = memory_bytes(limits.memory) if limits.memory is not None else None
        cpu = cpu_cores(limits.cpu) if limits.cpu is not None else None
        for key, value in (("memory", memory), ("cpu", cpu)):
            if value == 0:
                raise self.document.error(
                    (*path, key), f"the {key} limit must be more than 0", "leave it out for no limit"
                )
        return Limits(memory_bytes=memory, cpu_cores=cpu)

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
            case kind:
                raise self._unsupported(
                    (*at, "type"),
                    f"resources of type {kind!r} cannot be provisioned yet",
                    "`service` and `environment` can be used; provision_resource comes later",
                )

    def _setting(self, name: str) -> str:
        service = self.score.metadata.name
        variables = self.settings.environments[self.environment].settings(service).variables
        if name not in variables:
            raise PlaceholderError(
                f"the environment {self.environment} has no value {name!r} for {service}",
                f"set environments.{self.environment}.services.{service}.variables.{name} in santiago.yaml",
            )
        return variables[name]

    def _service_output(self, service: str, output: str, path: Path) -> str:
        known = self.services()
        if service not in known:
            raise self.document.error(path, f"there is no service {service!r}", nearest(service, known))
        host, port = hostname(service, self.environment), self.settings.addresses.ingress_port
        outputs = {"host": host, "port": str(port), "url": f"http://{host}:{port}"}
        if output not in outputs:
            raise PlaceholderError(f"a service has no output {output!r}", nearest(output, list(outputs)))
        return outputs[output]

    def _unsupported(self, path: Path, problem: str, hint: str) -> PlatformError:
        return self.document.error(path, problem, hint, ErrorCode.UNSUPPORTED)


def _unknown(parts: tuple[str, ...]) -> str:
    return f"`${{{'.'.join(parts)[:80]}}}` is not a placeholder"
