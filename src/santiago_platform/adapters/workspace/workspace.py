"""Reads the workspace: the files that people keep in git."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

from ...domain.environment import Settings
from ...domain.errors import ErrorCode, PlatformError
from ...domain.gates.promotion import PromotionGate
from ...domain.workload import Template
from .score import is_name, read_score
from .score_template import resolve
from .yaml_document import LIMIT_BYTES, NAME_RULE, nearest, parse, validate

SETTINGS_FILE = "santiago.yaml"
DOCUMENTS = "docs/architecture"
DOCUMENT_LIMIT = 100


class FileWorkspace:
    """Implements ports.workspace.Workspace over the files below `root`. What a link leads out of it is refused."""

    def __init__(
        self,
        root: Path,
        variables: Mapping[str, str] = os.environ,
        service_port: Callable[[str, str], int] = lambda _service, _environment: 0,
    ) -> None:
        """variables: of the process's environment, which may name other ports than santiago.yaml.

        service_port: gives the port of 127.0.0.1 that leads to a service of an environment.
        """
        self._root = root.resolve()
        self._variables = variables
        self._service_port = service_port
        self._last_good: Settings | None = None

    @property
    def root(self) -> Path:
        return self._root

    def settings(self) -> Settings:
        text = self._read(SETTINGS_FILE)
        if text is None:
            raise PlatformError(
                ErrorCode.INVALID_ARGUMENT,
                f"{SETTINGS_FILE}:1: there is no such file in {self._root}",
                "`santiago init` makes a workspace",
            )
        self._last_good = _settings(text).overridden(self._variables)
        return self._last_good

    def last_good_settings(self) -> Settings:
        try:
            return self.settings()
        except PlatformError:
            if self._last_good is None:
                raise
            return self._last_good

    def services(self) -> list[str]:
        """Folders whose name no service can have are passed over; asking for the score of one says why."""
        try:
            entries = sorted(entry.name for entry in os.scandir(self._root / "services"))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [name for name in entries if is_name(name) and os.path.lexists(self._root / score_path(name))]

    def score(self, service: str) -> str:
        if not is_name(service):
            raise PlatformError(
                ErrorCode.INVALID_ARGUMENT,
                f"services/{service!r:.60}:1: the folder is not named as a service",
                NAME_RULE,
            )
        text = self._read(score_path(service))
        if text is None:
            known = ", ".join(self.services()) or "none"
            raise PlatformError(
                ErrorCode.NOT_FOUND,
                f"there is no service {service}",
                f"{score_path(service)} makes one; there are: {known}",
            )
        return text

    def template(self, score: str, *, release: str, environment: str, where: str) -> Template:
        workload, document = read_score(score, where)
        settings = self.settings()
        tenant = settings.tenant_of(workload.metadata.name)
        return resolve(
            workload,
            document,
            settings,
            services=lambda: [service for service in self.services() if settings.tenant_of(service) == tenant],
            service_port=self._service_port,
            release=release,
            environment=environment,
        )

    def documents(self) -> list[tuple[str, str]]:
        """At most the first 100; what is larger than 256 KiB is refused like any other file."""
        folder = self._root / DOCUMENTS
        names = sorted(path.name for path in folder.glob("*.md"))[:DOCUMENT_LIMIT]
        paths = [f"{DOCUMENTS}/{name}" for name in names]
        return [(path, text) for path in paths if (text := self._read(path)) is not None]

    def _read(self, relative: str) -> str | None:
        """The text of a file of the workspace, None where there is none."""
        path = (self._root / relative).resolve()
        if not path.is_relative_to(self._root):
            raise _refused(relative, "is a link out of the workspace", "put the file itself there")
        try:
            # Not blocking: opening a pipe would wait for its writer.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            raise _refused(relative, f"cannot be read ({exc.strerror})", "check its owner and mode") from exc
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _refused(relative, "is not a regular file", "put a text file there")
            content = file.read(LIMIT_BYTES + 1)
        if len(content) > LIMIT_BYTES:
            raise _refused(relative, f"is larger than {LIMIT_BYTES // 1024} KiB", "split it, or move data out of it")
        return decode(content, relative)


@lru_cache(maxsize=8)
def _settings(text: str) -> Settings:
    """Kept by its text: most reads find the file as it was, and parsing is most of their cost."""
    document = parse(text, SETTINGS_FILE)
    settings = validate(document, Settings)
    for name, environment in settings.environments.items():
        layers = {("defaults",): environment.defaults} | {
            ("services", service): layer for service, layer in environment.services.items()
        }
        for where, layer in layers.items():
            for variable, value in layer.variables.items():
                if not variable or "=" in variable or "\0" in variable + value:
                    raise document.error(
                        ("environments", name, *where, "variables", variable),
                        f"{variable!r} cannot be an environment variable",
                        "its name must not be empty or hold `=`, and neither name nor value a NUL character",
                    )
        for index, gate in enumerate(environment.gates):
            if isinstance(gate, PromotionGate) and gate.after is not None and gate.after not in settings.environments:
                raise document.error(
                    ("environments", name, "gates", index, "after"),
                    f"there is no environment {gate.after}",
                    nearest(gate.after, list(settings.environments)),
                )
    owners: dict[str, str] = {}
    for tenant, named in settings.tenants.items():
        for index, service in enumerate(named.services):
            if owners.setdefault(service, tenant) != tenant:
                raise document.error(
                    ("tenants", tenant, "services", index),
                    f"the service {service} is the tenant {owners[service]}'s already",
                    "name each service under one tenant",
                )
    return settings


def score_path(service: str) -> str:
    return f"services/{service}/score.yaml"


def build_path(service: str) -> str:
    return f"services/{service}/build.yaml"


def decode(content: bytes, where: str) -> str:
    """Raises PlatformError(INVALID_ARGUMENT) with the line of the first byte that is not UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError as exc:
        line = content[: exc.start].count(b"\n") + 1
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT, f"{where}:{line}: is not UTF-8 text", "save it as UTF-8"
        ) from exc


def _refused(relative: str, problem: str, hint: str) -> PlatformError:
    return PlatformError(ErrorCode.INVALID_ARGUMENT, f"{relative}:1: {problem}", hint)
