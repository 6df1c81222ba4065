from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from santiago_platform.adapters.artifacts.artifacts import LocalArtifacts
from santiago_platform.adapters.artifacts.base_registry import BaseImages
from santiago_platform.adapters.artifacts.oci import INDEX, MANIFEST, ImageLayout
from santiago_platform.adapters.artifacts.registry import OciRegistry
from santiago_platform.adapters.fake.registry import FakeRegistry
from santiago_platform.adapters.fake.workspace import FakeArtifacts
from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.system import SystemClock
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.proof import Claim, Verdict, prove
from santiago_platform.domain.release import Release
from santiago_platform.testing.base_image import write_base_image, write_service
from santiago_platform.testing.registry import RegistryContract, RunningRegistry


class TestFakeRegistry(RegistryContract):
    @pytest.fixture
    def artifacts(self) -> FakeArtifacts:
        return FakeArtifacts()

    @pytest.fixture
    async def release(self, artifacts: FakeArtifacts) -> Release:
        return await artifacts.build("web", await artifacts.resolve("HEAD"))

    @pytest.fixture
    def registry(self, artifacts: FakeArtifacts) -> FakeRegistry:
        return FakeRegistry(artifacts)

    @pytest.fixture
    def repository(self) -> str:
        return "registry.example/team/web"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[RunningRegistry]:
    with RunningRegistry(tmp_path_factory.mktemp("registry"), free_port()) as registry:
        yield registry


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[RunningRegistry]:
    """It asks for credentials."""
    with RunningRegistry(tmp_path_factory.mktemp("closed"), free_port(), auth=True) as registry:
        yield registry


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    root = tmp_path / "workspace"
    write_base_image(root / "base")
    write_service(root)
    commit(root)
    return Layout.of(root)


def commit(root: Path) -> None:
    git = ["git", "-C", str(root), "-c", "user.name=Test", "-c", "user.email=test@localhost"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "add", "services"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "A service"], check=True)


@pytest.fixture
def artifacts(layout: Layout) -> LocalArtifacts:
    return LocalArtifacts(layout, SystemClock())


@pytest.fixture
async def release(artifacts: LocalArtifacts) -> Release:
    return await artifacts.build("web", await artifacts.resolve("HEAD"))


@pytest.fixture
def repository(running: RunningRegistry, tmp_path: Path) -> str:
    return f"{running.host}/{tmp_path.name.replace('_', '-').lower()}/web"


def oci_registry(artifacts: LocalArtifacts, layout: Layout, auth_file: Path | None = None) -> OciRegistry:
    return OciRegistry(artifacts, layout.state, lambda: auth_file)


class TestOciRegistry(RegistryContract):
    @pytest.fixture
    async def registry(self, artifacts: LocalArtifacts, layout: Layout) -> AsyncIterator[OciRegistry]:
        yield oci_registry(artifacts, layout)
        assert not list(layout.state.glob(".push-*"))

    async def test_whoever_pulls_it_gets_the_same_bytes_and_what_refers_to_them(
        self, registry: OciRegistry, release: Release, repository: str
    ) -> None:
        await registry.push(release, repository)
        host, _, path = repository.partition("/")
        accept = {"accept": f"{MANIFEST}, {INDEX}"}
        async with httpx2.AsyncClient(base_url=f"http://{host}/v2/{path}", headers=accept, trust_env=False) as client:
            manifest = (await client.get(f"/manifests/{release.digest}")).json()
            layers = [(await client.get(f"/blobs/{layer['digest']}")).content for layer in manifest["layers"]]
            index = (await client.get(f"/manifests/{release.digest.replace(':', '-')}")).json()
            kinds = {}
            for entry in index["manifests"]:
                said = (await client.get(f"/manifests/{entry['digest']}")).json()
                assert said["subject"]["digest"] == release.digest
                kinds[entry["artifactType"]] = (await client.get(f"/blobs/{said['layers'][0]['digest']}")).content
        assert [len(layer) for layer in layers] == [layer["size"] for layer in manifest["layers"]]
        assert kinds["application/vnd.score.v1b1+yaml"].decode() == release.score
        assert json.loads(kinds["application/vnd.cyclonedx+json"])["bomFormat"] == "CycloneDX"
        assert "payload" in json.loads(kinds["application/vnd.dsse.envelope.v1+json"])

    @pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not on PATH")
    async def test_another_client_finds_the_same_digest(
        self, registry: OciRegistry, release: Release, repository: str
    ) -> None:
        await registry.push(release, repository)
        words = ["skopeo", "inspect", "--tls-verify=false", f"docker://{repository}:{release.tag}"]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        assert json.loads(said)["Digest"] == release.digest

    async def test_another_image_under_the_tag_is_drift(
        self, registry: OciRegistry, release: Release, repository: str, layout: Layout, artifacts: LocalArtifacts
    ) -> None:
        claims = await registry.push(release, repository)
        (layout.root / "services/web/index.html").write_text("another\n")
        commit(layout.root)
        other = await artifacts.build("web", await artifacts.resolve("HEAD"))
        await registry.push(other.model_copy(update={"commit": release.commit}), repository)
        proof = prove(claims, await registry.observe(claims), release.built_at)
        assert proof.verdict is Verdict.DRIFT

    async def test_a_registry_that_is_not_there_is_told_and_proves_nothing(
        self, registry: OciRegistry, release: Release, free_port: Callable[[], int]
    ) -> None:
        nowhere = f"127.0.0.1:{free_port()}/web"
        with pytest.raises(PlatformError, match="does not answer") as refused:
            await registry.push(release, nowhere)
        assert refused.value.code is ErrorCode.UNAVAILABLE
        (seen,) = await registry.observe([Claim(subject=f"image {nowhere}:x", expected=release.digest)])
        assert seen.value is None


class TestCredentials:
    async def test_those_of_the_file_are_used(
        self, artifacts: LocalArtifacts, layout: Layout, release: Release, closed: RunningRegistry
    ) -> None:
        registry = oci_registry(artifacts, layout, closed.auth_file())
        claims = await registry.push(release, f"{closed.host}/web")
        assert prove(claims, await registry.observe(claims), release.built_at).verdict is Verdict.MATCH

    @pytest.mark.parametrize("password", [None, "wrong"])
    async def test_without_the_right_ones_it_is_refused_with_what_to_do(
        self,
        artifacts: LocalArtifacts,
        layout: Layout,
        release: Release,
        closed: RunningRegistry,
        password: str | None,
    ) -> None:
        registry = oci_registry(artifacts, layout, closed.auth_file(password) if password else None)
        with pytest.raises(PlatformError, match="answered 401") as refused:
            await registry.push(release, f"{closed.host}/web")
        assert refused.value.code is ErrorCode.PERMISSION_DENIED
        assert "podman login" in refused.value.hint
        assert "wrong" not in str(refused.value)


class TestABaseImageOfARegistry:
    """What was pushed before is an image as any other."""

    @pytest.fixture
    async def pushed(self, artifacts: LocalArtifacts, layout: Layout, release: Release, repository: str) -> str:
        await oci_registry(artifacts, layout).push(release, repository)
        return f"{repository}:{release.tag}"

    async def built(self, layout: Layout, artifacts: LocalArtifacts, image: str) -> Release:
        write_service(layout.root, "shop")
        (layout.root / "services/shop/build.yaml").write_text(f"base: {{image: '{image}'}}\n")
        commit(layout.root)
        return await artifacts.build("shop", await artifacts.resolve("HEAD"))

    async def manifest_of(self, artifacts: LocalArtifacts, release: Release, folder: Path) -> dict[str, Any]:
        folder.mkdir()
        await artifacts.export(release.digest, folder)
        return ImageLayout(folder).read_json({"digest": release.digest})

    async def test_a_tag_is_looked_up_once_and_its_digest_is_kept_with_the_release(
        self, layout: Layout, artifacts: LocalArtifacts, pushed: str, release: Release, tmp_path: Path
    ) -> None:
        made = await self.built(layout, artifacts, pushed)
        manifest = await self.manifest_of(artifacts, made, tmp_path / "image")
        below = await self.manifest_of(artifacts, release, tmp_path / "below")
        assert not made.local_only
        assert manifest["annotations"]["org.opencontainers.image.base.digest"] == release.digest
        assert manifest["annotations"]["org.opencontainers.image.base.name"] == pushed
        assert [layer["digest"] for layer in manifest["layers"][:-1]] == [d["digest"] for d in below["layers"]]
        await artifacts.verify(made.digest)

    async def test_by_digest_it_is_fetched_once(
        self, layout: Layout, artifacts: LocalArtifacts, pushed: str, release: Release
    ) -> None:
        image = f"{pushed.rpartition(':')[0]}@{release.digest}"
        images = BaseImages(layout.state / "bases", lambda: None)
        fetched = await images.fetch(image)
        assert fetched.digest == release.digest
        unreachable = image.replace(image.partition("/")[0], "127.0.0.1:1")
        assert (await images.fetch(unreachable)).layers == fetched.layers

    async def test_one_that_is_not_there_is_not_found(
        self, layout: Layout, artifacts: LocalArtifacts, repository: str
    ) -> None:
        with pytest.raises(PlatformError, match="there is no image") as refused:
            await self.built(layout, artifacts, f"{repository}:none")
        assert refused.value.code is ErrorCode.NOT_FOUND

    @pytest.mark.parametrize("image", ["python:3.13", "registry.example/web", "http://registry.example/web:1", "a b"])
    async def test_what_names_no_image_is_refused_with_its_place(
        self, layout: Layout, artifacts: LocalArtifacts, image: str
    ) -> None:
        with pytest.raises(PlatformError, match=r"services/shop/build\.yaml at .*:1: ") as refused:
            await self.built(layout, artifacts, image)
        assert refused.value.code is ErrorCode.INVALID_ARGUMENT
