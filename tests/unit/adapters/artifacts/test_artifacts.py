from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from santiago_platform.adapters.artifacts.artifacts import LocalArtifacts
from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.system import SystemClock
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.testing.workspace import SCORE, GitWorkspace


@pytest.fixture
def files(tmp_path: Path) -> GitWorkspace:
    return GitWorkspace(tmp_path / "workspace")


@pytest.fixture
def artifacts(files: GitWorkspace) -> LocalArtifacts:
    return store(files)


def store(files: GitWorkspace) -> LocalArtifacts:
    return LocalArtifacts(Layout.of(files.root), SystemClock())


def blobs(files: GitWorkspace) -> list[Path]:
    return sorted((files.root / ".santiago/releases/blobs/sha256").iterdir())


def state(files: GitWorkspace) -> list[str]:
    """What there is of builds and releases, but for folders that are always there."""
    found = [*files.root.glob(".santiago/builds/*"), *files.root.glob(".santiago/releases/.incoming*")]
    return [path.name for path in found]


async def refusal(awaitable: object, code: ErrorCode) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        await awaitable  # type: ignore[misc]
    assert caught.value.code is code
    return caught.value


async def test_a_release_is_what_the_build_made_of_the_commit(files: GitWorkspace, artifacts: LocalArtifacts) -> None:
    files.write("services/web/build.yaml", "command: [sh, -c, 'mkdir dist && cp in dist/out']\noutputs: [dist]\n")
    files.write("services/web/in", "committed")
    files.commit()
    files.write("services/web/in", "not committed")
    files.write("services/web/untracked", "x")
    release = await artifacts.build("web", "HEAD")
    folder = await artifacts.unpack(release.digest)
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*")} == {"dist", "dist/out"}
    assert (folder / "dist/out").read_text() == "committed"
    assert release.score == SCORE
    assert state(files) == []


async def test_the_same_commit_in_two_workspaces_is_the_same_release(tmp_path: Path) -> None:
    releases = []
    for name in ("one", "two"):
        files = GitWorkspace(tmp_path / name)
        files.write("services/web/build.yaml", "command: [sh, -c, 'echo $SOURCE_DATE_EPOCH > at']\n")
        files.commit()
        releases.append(await store(files).build("web", "HEAD"))
    assert releases[0].digest == releases[1].digest
    assert releases[0].sbom == releases[1].sbom
    assert releases[0].signed_by != releases[1].signed_by


async def test_users_git_configuration_does_not_change_a_release(
    files: GitWorkspace, artifacts: LocalArtifacts
) -> None:
    release = await artifacts.build("web", "HEAD")
    await artifacts.remove(release.digest)
    files.git("config", "core.autocrlf", "true")
    files.git("config", "tar.umask", "0077")
    assert (await artifacts.build("web", "HEAD")).digest == release.digest


async def test_concurrent_builds_of_a_commit_are_one(files: GitWorkspace, artifacts: LocalArtifacts) -> None:
    log = files.root.parent / "log"
    files.write("services/web/build.yaml", f"command: [sh, -c, 'echo built >> {log}']\n")
    files.commit()
    releases = await asyncio.gather(*(artifacts.build("web", "HEAD") for _ in range(5)))
    assert len({r.digest for r in releases}) == 1
    assert log.read_text() == "built\n"


async def test_a_caller_that_goes_away_does_not_end_the_build_of_another(
    files: GitWorkspace, artifacts: LocalArtifacts
) -> None:
    gate = files.root.parent / "gate"
    os.mkfifo(gate)
    files.write("services/web/build.yaml", f"command: [sh, -c, 'cat {gate}']\n")
    files.commit()
    first, second = (asyncio.create_task(artifacts.build("web", "HEAD")) for _ in range(2))
    writer = await asyncio.to_thread(gate.open, "wb")  # returns once the build reads
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    writer.close()
    assert (await second).service == "web"


async def test_a_cancelled_build_leaves_nothing(files: GitWorkspace, artifacts: LocalArtifacts) -> None:
    gate = files.root.parent / "gate"
    os.mkfifo(gate)
    files.write("services/web/build.yaml", f"command: [sh, -c, 'cat {gate}']\n")
    files.commit()
    task = asyncio.create_task(artifacts.build("web", "HEAD"))
    with await asyncio.to_thread(gate.open, "wb"):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert state(files) == []
    assert await artifacts.list() == []


async def test_a_killed_build_leaves_nothing_that_the_next_one_trusts(
    files: GitWorkspace, artifacts: LocalArtifacts
) -> None:
    gate = files.root.parent / "gate"
    os.mkfifo(gate)
    files.write("services/web/build.yaml", f"command: [sh, -c, 'echo half > run; test -e {gate}.open || cat {gate}']\n")
    files.commit()
    program = (
        "import asyncio\n"
        "from santiago_platform.adapters.artifacts.artifacts import LocalArtifacts\n"
        "from santiago_platform.adapters.layout import Layout\n"
        "from santiago_platform.adapters.system import SystemClock\n"
        f"asyncio.run(LocalArtifacts(Layout.of({str(files.root)!r}), SystemClock()).build('web', 'HEAD'))\n"
    )
    victim = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    writer = await asyncio.to_thread(gate.open, "wb")
    victim.send_signal(signal.SIGKILL)
    await victim.wait()
    writer.close()  # the build's own command is an orphan now, and ends by itself
    assert len(state(files)) == 1
    assert await artifacts.list() == []
    (gate.parent / "gate.open").touch()
    release = await artifacts.build("web", "HEAD")
    await artifacts.verify(release.digest)
    assert state(files) == []


async def test_a_changed_byte_in_any_blob_is_refused_and_named(files: GitWorkspace, artifacts: LocalArtifacts) -> None:
    release = await artifacts.build("web", "HEAD")
    referred = [blob for blob in blobs(files) if blob.read_bytes() != b"{}"]
    assert len(referred) >= 8
    for blob in referred:
        content = blob.read_bytes()
        for changed in (content[:-1] + bytes([content[-1] ^ 1]), content[:-1], content + b"\0"):
            blob.write_bytes(changed)
            for use in (artifacts.verify, artifacts.unpack):
                error = await refusal(use(release.digest), ErrorCode.DATA_CORRUPT)
                assert blob.name in error.message
        blob.unlink()
        error = await refusal(artifacts.unpack(release.digest), ErrorCode.DATA_CORRUPT)
        assert blob.name in error.message
        blob.write_bytes(content)
    assert list((files.root / ".santiago/unpacked").iterdir()) == []
    await artifacts.verify(release.digest)


@pytest.mark.parametrize(
    "annotation",
    ["io.santiago.built", "io.santiago.sbom.digest", "io.santiago.signed-by", "io.santiago.subject.digest"],
)
async def test_an_index_that_says_what_was_not_signed_is_refused(
    files: GitWorkspace, artifacts: LocalArtifacts, annotation: str
) -> None:
    release = await artifacts.build("web", "HEAD")
    path = files.root / ".santiago/releases/index.json"
    index = json.loads(path.read_text())
    other = {"io.santiago.built": "2020-01-01T00:00:00+00:00"}.get(annotation, f"sha256:{'1' * 64}")
    for manifest in index["manifests"]:
        if annotation in manifest["annotations"]:
            manifest["annotations"][annotation] = other
    path.write_text(json.dumps(index))
    await refusal(artifacts.verify(release.digest), ErrorCode.DATA_CORRUPT)


async def test_a_release_that_another_key_signed_is_not_trusted(tmp_path: Path, artifacts: LocalArtifacts) -> None:
    release = await artifacts.build("web", "HEAD")
    other = GitWorkspace(tmp_path / "other")
    await store(other).build("web", "HEAD")
    keys = tmp_path / "workspace/.santiago/keys"
    for name in ("release.key", "release.pub"):
        (keys / name).write_bytes((other.root / ".santiago/keys" / name).read_bytes())
    error = await refusal(artifacts.verify(release.digest), ErrorCode.DATA_CORRUPT)
    assert "another key" in error.message


async def test_every_blob_has_its_digest_for_a_name_and_nobody_else_may_read(
    files: GitWorkspace, artifacts: LocalArtifacts
) -> None:
    await artifacts.build("web", "HEAD")
    assert all(hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name for blob in blobs(files))
    private = [files.root / ".santiago", *(files.root / ".santiago/releases").rglob("*")]
    assert all(path.stat().st_mode & 0o077 == 0 for path in private)
    assert (files.root / ".santiago/keys/release.key").stat().st_mode & 0o777 == 0o600


async def test_unpacking_twice_gives_the_same_folder(artifacts: LocalArtifacts) -> None:
    release = await artifacts.build("web", "HEAD")
    first, second = await asyncio.gather(artifacts.unpack(release.digest), artifacts.unpack(release.digest))
    assert first == second == await artifacts.unpack(release.short)
    assert (first / "run").stat().st_mode & 0o777 == 0o555


async def test_removing_a_release_keeps_what_another_one_shares(files: GitWorkspace, artifacts: LocalArtifacts) -> None:
    old = await artifacts.build("web", "HEAD")
    files.write("santiago.yaml", "environments: {production: {}}\n")
    files.commit(at=1_700_000_000)  # the service's folder is the same, so are layer and score
    new = await artifacts.build("web", "HEAD")
    folder = await artifacts.unpack(old.digest)
    both = len(blobs(files))
    await artifacts.remove(old.digest)
    assert 0 < len(blobs(files)) < both
    assert not folder.exists()
    await artifacts.verify(new.digest)
    await artifacts.remove(new.digest)
    assert blobs(files) == []


async def test_a_release_whose_manifest_was_changed_can_be_removed(
    files: GitWorkspace, artifacts: LocalArtifacts
) -> None:
    release = await artifacts.build("web", "HEAD")
    (files.root / ".santiago/releases/blobs/sha256" / release.digest.removeprefix("sha256:")).write_text("{}")
    await artifacts.remove(release.digest)
    await artifacts.verify((await artifacts.build("web", "HEAD")).digest)


async def test_a_failing_build_is_a_failed_precondition_and_leaves_nothing(
    files: GitWorkspace, artifacts: LocalArtifacts
) -> None:
    files.write("services/web/build.yaml", "command: [sh, -c, 'echo no such thing; exit 1']\n")
    files.commit()
    error = await refusal(artifacts.build("web", "HEAD"), ErrorCode.FAILED_PRECONDITION)
    assert error.message.endswith("no such thing")
    assert state(files) == []


async def test_a_service_that_is_not_committed_is_a_failed_precondition(
    files: GitWorkspace, artifacts: LocalArtifacts
) -> None:
    files.write("services/other/score.yaml", SCORE)
    error = await refusal(artifacts.build("other", "HEAD"), ErrorCode.FAILED_PRECONDITION)
    assert "services/other/score.yaml" in error.message
    assert "commit" in error.hint


@pytest.mark.parametrize("service", ["../web", "-x", "", "a b", "Web"])
async def test_a_service_that_is_not_a_name_is_refused(artifacts: LocalArtifacts, service: str) -> None:
    await refusal(artifacts.build(service, "HEAD"), ErrorCode.INVALID_ARGUMENT)


async def test_a_workload_with_another_name_than_its_folder_is_refused(
    files: GitWorkspace, artifacts: LocalArtifacts
) -> None:
    files.write("services/other/score.yaml", SCORE)
    commit = files.commit()
    error = await refusal(artifacts.build("other", "HEAD"), ErrorCode.INVALID_ARGUMENT)
    assert error.message.startswith(f"services/other/score.yaml at {commit[:12]}:3: ")


async def test_a_definition_that_is_a_link_is_refused(files: GitWorkspace, artifacts: LocalArtifacts) -> None:
    (files.root / "services/web/build.yaml").symlink_to("/etc/passwd")
    files.commit()
    error = await refusal(artifacts.build("web", "HEAD"), ErrorCode.INVALID_ARGUMENT)
    assert "not a regular file" in error.message


async def test_a_workspace_below_the_top_of_its_repository_can_be_released(tmp_path: Path) -> None:
    repository = GitWorkspace(tmp_path / "repository")
    repository.write("platform/services/api/score.yaml", SCORE.replace("name: web", "name: api"))
    repository.write("platform/services/api/run", "x", executable=True)
    repository.commit()
    artifacts = LocalArtifacts(Layout.of(repository.root / "platform"), SystemClock())
    folder = await artifacts.unpack((await artifacts.build("api", "HEAD")).digest)
    assert (folder / "run").read_text() == "x"


async def test_a_release_on_a_base_image_has_its_layers_and_goes_anywhere(
    tmp_path: Path, files: GitWorkspace, artifacts: LocalArtifacts
) -> None:
    below = GitWorkspace(tmp_path / "below")
    base = await store(below).build("web", "HEAD")
    (below.root / ".santiago/releases").rename(files.root / "base")
    files.write("services/web/build.yaml", "base: {oci_layout: base}\n")
    files.commit()
    release = await artifacts.build("web", "HEAD")
    assert not release.local_only
    await artifacts.verify(release.digest)
    releases = files.root / ".santiago/releases/blobs/sha256"
    manifest = json.loads((releases / release.digest.removeprefix("sha256:")).read_text())
    config = json.loads((releases / manifest["config"]["digest"].removeprefix("sha256:")).read_text())
    assert manifest["annotations"]["org.opencontainers.image.base.digest"] == base.digest
    assert [layer["digest"] for layer in manifest["layers"]] == config["rootfs"]["diff_ids"]
    assert len(manifest["layers"]) == 2
    assert (await artifacts.unpack(release.digest) / "run").exists()


@pytest.mark.parametrize("path", ["nowhere", "../outside", "/etc"])
async def test_a_base_image_that_is_not_there_is_a_failed_precondition(
    files: GitWorkspace, artifacts: LocalArtifacts, path: str
) -> None:
    files.write("services/web/build.yaml", f"base: {{oci_layout: {path}}}\n")
    files.commit()
    error = await refusal(artifacts.build("web", "HEAD"), ErrorCode.FAILED_PRECONDITION)
    assert path in error.message
    assert await artifacts.list() == []


async def test_an_index_that_cannot_be_read_is_corrupt_and_stays_as_it_is(
    files: GitWorkspace, artifacts: LocalArtifacts
) -> None:
    await artifacts.build("web", "HEAD")
    index = files.root / ".santiago/releases/index.json"
    index.write_text("{")
    await refusal(artifacts.list(), ErrorCode.DATA_CORRUPT)
    await refusal(artifacts.build("web", "HEAD"), ErrorCode.DATA_CORRUPT)
    assert index.read_text() == "{"


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, ErrorCode.RESOURCE_EXHAUSTED), (errno.EACCES, ErrorCode.FAILED_PRECONDITION)],
)
async def test_what_the_disk_refuses_is_told_and_leaves_nothing(
    files: GitWorkspace, artifacts: LocalArtifacts, monkeypatch: pytest.MonkeyPatch, number: int, code: ErrorCode
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    await refusal(artifacts.build("web", "HEAD"), code)
    monkeypatch.undo()
    assert await artifacts.list() == []
    assert state(files) == []
    await artifacts.verify((await artifacts.build("web", "HEAD")).digest)


async def test_builds_of_many_services_at_once_do_not_disturb_each_other(
    files: GitWorkspace, artifacts: LocalArtifacts
) -> None:
    names = [f"web-{i}" for i in range(8)]
    for name in names:
        files.write(f"services/{name}/score.yaml", SCORE.replace("name: web", f"name: {name}"))
        files.write(f"services/{name}/build.yaml", "command: [sh, -c, 'echo built > out']\n")
    files.commit()
    built = await asyncio.gather(*(each.build(name, "HEAD") for name in names for each in (artifacts, store(files))))
    assert {release.service for release in built} == set(names)
    assert len(await artifacts.list()) == len(names)
    for release in await artifacts.list():
        await artifacts.verify(release.digest)
    assert state(files) == []
