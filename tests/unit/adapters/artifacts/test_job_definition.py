from __future__ import annotations

import json
from pathlib import Path

import pytest

from santiago_platform.adapters.artifacts.artifacts import LocalArtifacts
from santiago_platform.adapters.artifacts.build import read_build
from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.system import SystemClock
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.job import Job, When
from santiago_platform.testing.workspace import GitWorkspace

JOBS = """\
jobs:
  report:
    when: scheduled
    schedule: "30 4 * * *"
    time_zone: Europe/Madrid
    command: ["./report", "--all"]
    variables: {B: "2", A: "1"}
  migrate: {when: pre-deploy, command: ["./migrate"], timeout_seconds: 60, retries: 2}
"""
REPORT = Job(
    name="report",
    when=When.SCHEDULED,
    command=("./report", "--all"),
    variables=(("A", "1"), ("B", "2")),
    schedule="30 4 * * *",
    time_zone="Europe/Madrid",
)
MIGRATE = Job(name="migrate", when=When.PRE_DEPLOY, command=("./migrate",), timeout_seconds=60, retries=2)


@pytest.mark.parametrize(
    ("job", "line", "words"),
    [
        ("{when: nightly, command: [x]}", 2, "pre-deploy"),
        ("{when: scheduled, command: [x]}", 2, "has no `schedule`"),
        ('\n    when: pre-deploy\n    command: [x]\n    schedule: "* * * * *"', 5, "a pre-deploy job has no schedule"),
        ('\n    when: scheduled\n    command: [x]\n    schedule: "61 * * * *"', 5, "bad minute"),
        ('\n    when: scheduled\n    command: [x]\n    schedule: "* * * * * *"', 5, "6 fields"),
        ("\n    when: post-deploy\n    command: [x]\n    time_zone: Mars/Olympus", 5, "no time zone 'Mars/Olympus'"),
        ("\n    when: post-deploy\n    command: [A=1]", 4, "without a `=`"),
        ("\n    when: post-deploy\n    command: []", 4, "command"),
        ('\n    when: post-deploy\n    command: [x]\n    variables: {PORT: "1"}', 5, "the platform sets PORT itself"),
        ("\n    when: post-deploy\n    command: [x]\n    timeout_seconds: 0", 5, "greater than or equal to 1"),
        ("\n    when: post-deploy\n    command: [x]\n    retries: 11", 5, "less than or equal to 10"),
        ("\n    when: post-deploy\n    comand: [x]", 4, "unknown key 'comand'"),
    ],
)
def test_a_job_that_is_wrong_is_refused_with_its_line(job: str, line: int, words: str) -> None:
    with pytest.raises(PlatformError) as caught:
        read_build(f"jobs:\n  nightly: {job}\n", "build.yaml")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert f"build.yaml:{line}: " in caught.value.message
    assert words in caught.value.message


def test_a_name_that_no_job_can_have_is_refused() -> None:
    with pytest.raises(PlatformError, match="Not_a_name"):
        read_build("jobs:\n  Not_a_name: {when: pre-deploy, command: [x]}\n", "build.yaml")


@pytest.fixture
def workspace(tmp_path: Path) -> GitWorkspace:
    made = GitWorkspace(tmp_path / "workspace")
    made.write("services/web/build.yaml", JOBS)
    made.commit(at=1_700_000_060)
    return made


async def test_a_release_carries_its_jobs_in_their_order_and_one_without_has_none(workspace: GitWorkspace) -> None:
    artifacts = LocalArtifacts(Layout.of(workspace.root), SystemClock())
    release = await artifacts.build("web", "HEAD")
    assert release.jobs == (REPORT, MIGRATE) == (await artifacts.get(release.digest)).jobs
    assert (await artifacts.build("web", "HEAD~1")).jobs == ()
    await artifacts.verify(release.digest)


async def test_jobs_that_were_changed_after_the_build_are_refused(workspace: GitWorkspace) -> None:
    artifacts = LocalArtifacts(Layout.of(workspace.root), SystemClock())
    release = await artifacts.build("web", "HEAD")
    blobs = workspace.root / ".santiago/releases/blobs/sha256"
    (blob,) = [path for path in blobs.iterdir() if b"./migrate" in path.read_bytes() and path.read_bytes()[:1] == b"["]
    other = json.loads(blob.read_text())
    other[1]["command"] = ["./drop-everything"]
    blob.write_text(json.dumps(other))
    for use in (artifacts.verify, artifacts.unpack, artifacts.get):
        with pytest.raises(PlatformError) as caught:
            await use(release.digest)
        assert caught.value.code is ErrorCode.DATA_CORRUPT
