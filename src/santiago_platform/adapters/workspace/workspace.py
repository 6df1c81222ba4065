"""Reads the workspace: the files that people keep in git."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from importlib import resources
from pathlib import Path

from ...domain.environment import Settings
from ...domain.errors import ErrorCode, PlatformError
from ...domain.gates.promotion import PromotionGate
from ...domain.secret import Secret, SecretRef
from ...domain.slo import PLATFORM, Slo
from ...domain.workload import Template
from .schemas import SCHEMAS, schema_text
from .score import is_name, read_score
from .score_template import resolve
from .slo import read_slos
from .text_file import read_within
from .yaml_document import NAME_RULE, nearest, parse, validate

SETTINGS_FILE = "santiago.yaml"
DOCUMENTS = "docs/architecture"
DOCUMENT_LIMIT = 100
ROLE_CARD = "advisor_card.md"  # in the package


class FileWorkspace:
    """Implements ports.workspace.Workspace over the files below `root`. What a link leads out of it is refused."""

    def __init__(
        self,
        root: Path,
        variables: Mapping[str, str] = os.environ,
        service_port: Callable[[str, str], int] = lambda _service, _environment: 0,
        flags_url: Callable[[str], str] = lambda environment: f"http://127.0.0.1:0/{environment}",
        secret: Callable[[Secret], SecretRef | None] = lambda _secret: None,
    ) -> None:
        """variables: of the process's environment, which may name other ports than santiago.yaml.

        service_port: gives the port of 127.0.0.1 that leads to a service of an environment. flags_url: where the
        flags of an environment are read; raises PlatformError where there are none.
        secret: the newest version of a secret.
        """
        self._root = root.resolve()
        self._variables = variables
        self._service_port = service_port
        self._flags_url = flags_url
        self._secret = secret
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

    def slos(self, service: str, text: str | None = None) -> tuple[Slo, ...]:
        settings = self.last_good_settings()
        path, environments = slo_path(service), tuple(settings.environments)
        confine = len(settings.tenant_names) > 1  # else a tenant would measure the others
        if service == PLATFORM:
            environments, confine = (PLATFORM,), settings.tenant_of(service) != settings.tenant
        elif not is_name(service):
            return ()
        text = text if text is not None else self._read(path)
        if text is None:
            return ()
        return read_slos(text, path, service=service, environments=environments, confine=confine)

    def metrics_seconds(self) -> int:
        """How long metrics must be kept for every objective. A file that cannot be read asks for nothing."""
        longest = 0
        for service in (*self.services(), PLATFORM):
            with suppress(PlatformError):
                longest = max([longest, *(slo.kept_seconds for slo in self.slos(service))])
        return longest

    def template(self, score: str, *, release: str, environment: str, where: str) -> Template:
        workload, document = read_score(score, where)
        settings = self.settings()
        service, tenant = workload.metadata.name, settings.tenant_of(workload.metadata.name)
        owners = (service, None) if tenant == settings.tenant else (service,)  # what is for all is the workspace's own
        return resolve(
            workload,
            document,
            settings,
            services=lambda: [service for service in self.services() if settings.tenant_of(service) == tenant],
            service_port=self._service_port,
            flags_url=self._flags_url,
            secret=lambda name: next(
                filter(None, (self._secret(Secret(environment=environment, name=name, service=o)) for o in owners)),
                None,
            ),
            release=release,
            environment=environment,
        )

    def role_card(self) -> str:
        path = self.last_good_settings().advisors.role_card
        if path is None:
            return (resources.files(__package__.partition(".")[0]) / ROLE_CARD).read_text(encoding="utf-8")
        text = self._read(path)
        if text is None:
            raise PlatformError(
                ErrorCode.INVALID_ARGUMENT,
                f"{SETTINGS_FILE}:1: advisors.role_card names {path}, and there is no such file",
                "leave it out for the role card that ships",
            )
        return text

    def schema(self, file: str) -> str:
        if file not in SCHEMAS:
            raise PlatformError(
                ErrorCode.NOT_FOUND, f"there is no schema {file[:80]!r}", f"there are: {', '.join(SCHEMAS)}"
            )
        return schema_text(file)

    def documents(self) -> list[tuple[str, str]]:
        """At most the first 100; what is larger than 256 KiB is refused like any other file."""
        folder = self._root / DOCUMENTS
        names = sorted(path.name for path in folder.glob("*.md"))[:DOCUMENT_LIMIT]
        paths = [f"{DOCUMENTS}/{name}" for name in names]
        return [(path, text) for path in paths if (text := self._read(path)) is not None]

    def _read(self, relative: str) -> str | None:
        return read_within(self._root, relative)


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


def slo_path(service: str) -> str:
    """The platform's own objectives lie at the root."""
    return "slo.yaml" if service == PLATFORM else f"services/{service}/slo.yaml"


def build_path(service: str) -> str:
    return f"services/{service}/build.yaml"
