from __future__ import annotations

from pathlib import Path

import pytest

from santiago_platform.adapters.git import Git
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.testing.workspace import GitWorkspace


async def refusal(git: Git, ref: str) -> ErrorCode:
    with pytest.raises(PlatformError) as caught:
        await git.resolve(ref)
    return caught.value.code


async def test_a_branch_a_tag_and_a_beginning_of_a_hash_name_a_commit(tmp_path: Path) -> None:
    workspace = GitWorkspace(tmp_path)
    commit = workspace.git("rev-parse", "HEAD")
    workspace.git("tag", "-a", "v1", "-m", "one")
    for ref in ("main", "v1", commit[:10], "HEAD"):
        assert await Git(tmp_path).resolve(ref) == commit


@pytest.mark.parametrize("ref", ["", "-h", "--help", "a\nb", "a\0b", "x" * 201, "\x1b[31m"])
async def test_what_cannot_be_a_ref_is_an_invalid_argument(tmp_path: Path, ref: str) -> None:
    GitWorkspace(tmp_path)
    assert await refusal(Git(tmp_path), ref) is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize("ref", ["nowhere", "0" * 40, "HEAD:santiago.yaml", "$(id)", "HEAD HEAD", "a..b"])
async def test_what_names_no_commit_is_not_found(tmp_path: Path, ref: str) -> None:
    GitWorkspace(tmp_path)
    assert await refusal(Git(tmp_path), ref) is ErrorCode.NOT_FOUND


async def test_no_repository_is_a_failed_precondition(tmp_path: Path) -> None:
    assert await refusal(Git(tmp_path), "HEAD") is ErrorCode.FAILED_PRECONDITION


async def test_the_environment_leads_to_no_other_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, other = GitWorkspace(tmp_path / "one"), GitWorkspace(tmp_path / "other")
    workspace.write("more", "x")
    commit = workspace.commit()
    monkeypatch.setenv("GIT_DIR", str(other.root / ".git"))
    assert await Git(workspace.root).resolve("HEAD") == commit
