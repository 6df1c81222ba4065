"""The contract of ports.registry.Registry, and a real registry on loopback to hold it against."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2
import pytest

from ..adapters.artifacts.oci import sha256
from ..adapters.local.binaries import Package, fetch, find_in
from ..domain.errors import ErrorCode, PlatformError
from ..domain.proof import Verdict, prove
from ..domain.release import Release
from ..ports.artifacts import Artifacts
from ..ports.registry import Registry

_DISTRIBUTION = Package("docker-registry", {"docker-registry": "usr/bin/docker-registry"})
_START_SECONDS = 15.0
USER, PASSWORD = "pusher", "a password"
# `USER:PASSWORD`, hashed as htpasswd does with bcrypt.
_HTPASSWD = "pusher:$2y$05$SpWV9nz5DHK1J9Cny0XHHOyQOl3aBZSlCFBDyvyIuQ983.5kAOfNS\n"


class RegistryContract:
    """Fixtures: `registry`; `artifacts`, which has `release`; `repository`, that nothing was pushed to."""

    async def test_what_was_pushed_is_read_back_under_the_releases_own_digest(
        self, registry: Registry, release: Release, repository: str
    ) -> None:
        claims = await registry.push(release, repository)
        assert (f"image {repository}:{release.tag}", release.digest) in [(c.subject, c.expected) for c in claims]
        proof = prove(claims, await registry.observe(claims), release.built_at)
        assert proof.verdict is Verdict.MATCH, proof.summary()

    async def test_pushing_again_changes_nothing(self, registry: Registry, release: Release, repository: str) -> None:
        claims = await registry.push(release, repository)
        before = await registry.observe(claims)
        assert await registry.push(release, repository) == claims
        assert await registry.observe(claims) == before

    async def test_what_is_not_there_is_observed_as_none(
        self, registry: Registry, release: Release, repository: str
    ) -> None:
        claims = await registry.push(release, repository)
        elsewhere = [c.model_copy(update={"subject": c.subject.replace(repository, f"{repository}-x")}) for c in claims]
        assert {o.value for o in await registry.observe(elsewhere)} == {"none"}

    async def test_a_release_that_is_not_there_is_not_found(
        self, registry: Registry, artifacts: Artifacts, release: Release, repository: str
    ) -> None:
        unknown = release.model_copy(update={"digest": sha256(b"of nothing")})
        with pytest.raises(PlatformError) as refused:
            await registry.push(unknown, repository)
        assert refused.value.code is ErrorCode.NOT_FOUND


class RunningRegistry:
    """The registry of the distribution's package, on loopback. A context manager. auth: it asks for credentials."""

    def __init__(self, folder: Path, port: int, *, auth: bool = False) -> None:
        self.host = f"127.0.0.1:{port}"
        self._folder = folder
        self._auth = auth
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(self._folder / "storage"),
            "REGISTRY_HTTP_ADDR": self.host,
            "REGISTRY_LOG_LEVEL": "warn",
        }
        config = "version: 0.1\nstorage: {filesystem: {}}\nhttp: {secret: a test's}\n"
        if self._auth:
            (self._folder / "htpasswd").write_text(_HTPASSWD)
            config += f"auth: {{htpasswd: {{realm: test, path: {self._folder / 'htpasswd'}}}}}\n"
        (self._folder / "config.yml").write_text(config)
        words = [str(_program()), "serve", str(self._folder / "config.yml")]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                words, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the registry did not start: {(self._folder / 'log').read_text()[-500:]}")
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def auth_file(self, password: str = PASSWORD) -> Path:
        """A file with credentials, as `docker login` writes it."""
        path = self._folder / "auth.json"
        auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
        path.write_text(json.dumps({"auths": {self.host: {"auth": auth}}}))
        return path

    def _answers(self) -> bool:
        try:
            return httpx2.get(f"http://{self.host}/v2/", trust_env=False).status_code in (200, 401)
        except httpx2.HTTPError:
            return False


def _program() -> Path:
    """Fetched where it is not on PATH."""
    fetch(packages=(_DISTRIBUTION,))
    found = find_in(_DISTRIBUTION, "docker-registry")
    assert found is not None, "the package docker-registry has no such program"
    return found.path
