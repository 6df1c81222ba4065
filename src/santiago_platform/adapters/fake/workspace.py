from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from ...domain.environment import Environment, Settings
from ...domain.errors import ErrorCode, PlatformError
from ...domain.job import Job
from ...domain.release import Release
from ...domain.slo import Slo
from ...domain.workload import HttpGet, Port, Probe, Template


class FakeWorkspace:
    """Services with one HTTP port, a health path and the variables of their environment; the text of a score is its
    service's name."""

    def __init__(self, services: tuple[str, ...] = ("web",), settings: Settings | None = None) -> None:
        self.names = list(services)
        self.current = settings or Settings(environments={"production": Environment(), "staging": Environment()})
        self.invalid = False
        self.objectives: dict[str, tuple[Slo, ...]] = {}
        self.ports: tuple[Port, ...] = (Port(name="http", target=8080),)

    @property
    def root(self) -> Path:
        return Path("/nowhere")

    def settings(self) -> Settings:
        if self.invalid:
            raise PlatformError(ErrorCode.INVALID_ARGUMENT, "santiago.yaml:1: it is not valid")
        return self.current

    def last_good_settings(self) -> Settings:
        return self.current

    def services(self) -> list[str]:
        return sorted(self.names)

    def score(self, service: str) -> str:
        if service not in self.names:
            raise PlatformError(ErrorCode.NOT_FOUND, f"there is no service {service}")
        return service

    def slos(self, service: str, text: str | None = None) -> tuple[Slo, ...]:
        return self.objectives.get(service, ())

    def template(self, score: str, *, release: str, environment: str, where: str) -> Template:
        known = self.current.environments.get(environment)
        if known is None:
            raise PlatformError(ErrorCode.NOT_FOUND, f"there is no environment {environment}")
        return Template(
            service=score,
            environment=environment,
            tenant=self.current.tenant_of(score),
            release=release,
            command=("./run",),
            variables=tuple(sorted(known.settings(score).variables.items())),
            ports=self.ports,
            readiness=Probe(http_get=HttpGet(path="/healthz", port="http")) if self.ports else Probe(),
        )

    def role_card(self) -> str:
        return "You propose, and the platform decides."

    def schema(self, file: str) -> str:
        if file != "santiago":
            raise PlatformError(ErrorCode.NOT_FOUND, f"there is no schema {file}")
        return '{"type": "object"}'

    def documents(self) -> list[tuple[str, str]]:
        return [("docs/architecture/web.md", "# Web\nIt serves pages.")]


class FakeArtifacts:
    """Every git ref is a commit, every commit builds, unless `failing` has its error.

    jobs: of releases built next. based: whether releases have a base image. commits: when the commits that are new
    with one were made, of those that were resolved.
    """

    def __init__(self) -> None:
        self.jobs: tuple[Job, ...] = ()
        self.failing: dict[str, PlatformError] = {}
        self.builds: list[tuple[str, str]] = []
        self.based = False
        self.commits: dict[str, tuple[datetime, ...]] = {}
        self._releases: dict[str, Release] = {}

    async def resolve(self, git_ref: str) -> str:
        if git_ref.startswith("-"):
            raise PlatformError(ErrorCode.INVALID_ARGUMENT, f"{git_ref} is no git ref")
        commit = hashlib.sha1(git_ref.encode(), usedforsecurity=False).hexdigest()
        self.commits.setdefault(commit, (datetime(2026, 1, 1, tzinfo=UTC),))
        return commit

    async def committed(self, service: str, after: str | None, commit: str) -> tuple[datetime, ...] | None:
        return self.commits.get(commit)

    async def build(self, service: str, commit: str) -> Release:
        if commit in self.failing:
            raise self.failing[commit]
        digest = f"sha256:{hashlib.sha256(f'{service} {commit}'.encode()).hexdigest()}"
        if digest not in self._releases:
            self.builds.append((service, commit))
            self._releases[digest] = Release(
                digest=digest,
                service=service,
                commit=commit,
                committed_at=datetime(2026, 1, 1, tzinfo=UTC),
                built_at=datetime(2026, 1, 1, tzinfo=UTC),
                score=service,
                local_only=not self.based,
                sbom=digest,
                signed_by="fake",
                size_bytes=1,
                jobs=self.jobs,
            )
        return self._releases[digest]

    async def get(self, digest: str) -> Release:
        plain = digest.removeprefix("sha256:")
        found = [r for d, r in self._releases.items() if d.removeprefix("sha256:").startswith(plain)]
        if len(found) != 1 or len(plain) < 12:
            raise PlatformError(ErrorCode.NOT_FOUND, f"there is no release {digest}")
        return found[0]

    async def unpack(self, digest: str) -> Path:
        return Path("/nowhere")

    async def has_base(self, service: str, commit: str) -> bool:
        return self.based

    async def export(self, digest: str, into: Path, *, referrers: bool = False) -> None:
        await self.get(digest)

    async def verify(self, digest: str) -> None:
        await self.get(digest)

    async def list(self, service: str | None = None) -> list[Release]:
        return [r for r in self._releases.values() if service in (None, r.service)]

    async def remove(self, digest: str) -> None:
        self._releases.pop(digest, None)
