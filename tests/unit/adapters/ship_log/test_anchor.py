from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from santiago_platform.adapters.fake.clock import ManualClock
from santiago_platform.adapters.ship_log.anchor import anchors, install_anchor
from santiago_platform.adapters.ship_log.log_directory import verify_directory
from santiago_platform.adapters.ship_log.ship_log import FileShipLog
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.ship_log import GENESIS
from santiago_platform.testing.ship_log import opened


class Repository:
    """A workspace in git, whose path asks for quoting, with its ship's log."""

    def __init__(self, base: Path) -> None:
        self.root = base / "it's a $(workspace)"
        self.root.mkdir()
        self.directory = self.root / "ships-logs" / "platform"
        self.keys = self.root / ".santiago" / "keys"
        self.git("init", "--quiet")
        (self.root / ".gitignore").write_text(".santiago/\n")

    def git(self, *arguments: str) -> str:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        identity = ["-c", "user.name=Ann", "-c", "user.email=ann@example.com", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", "-C", str(self.root), *identity, *arguments],
            env=clean | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout.strip()

    def commit(self, message: str = "a change") -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("log", "-1", "--format=%B")

    def install(self) -> Path:
        return install_anchor(self.root, self.directory / "head.json")

    async def append(self, count: int, *, keys: Path | None = None, subject: str = "web/production") -> None:
        log = FileShipLog(self.directory, keys or self.keys, ManualClock())
        for number in range(count):
            await log.append(opened(number, subject=subject))
        await log.close()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


async def test_each_commit_carries_the_signed_head_and_the_log_holds_against_them(repository: Repository) -> None:
    repository.install()
    await repository.append(2)
    repository.commit()
    await repository.append(1)
    repository.commit()
    found = anchors(repository.root)
    assert [a.seq for a in found] == [3, 2]
    verification = verify_directory(repository.directory, anchors=found)
    assert (verification.flaws, verification.anchored) == ((), True)


async def test_a_log_that_was_cut_and_signed_again_with_a_new_key_is_named(
    repository: Repository, tmp_path: Path
) -> None:
    repository.install()
    await repository.append(3)
    repository.commit()
    (file,) = repository.directory.glob("*.jsonl")
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:1]))
    (repository.directory / "head.json").unlink()
    await repository.append(0, keys=tmp_path / "new")
    assert verify_directory(repository.directory).intact, "without anchors nobody could tell"
    found = verify_directory(repository.directory, anchors=anchors(repository.root))
    commit = f"commit {repository.git('rev-parse', 'HEAD')[:12]}"
    assert found.anchored is False
    assert {(f.where, f.problem) for f in found.flaws} == {
        (commit, "it names entry 3, which is not there: the log was cut"),
        ("head.json", "the head is signed by a key that no anchor knows: signed again"),
    }


async def test_a_log_that_was_written_anew_is_named_even_after_new_commits(
    repository: Repository, tmp_path: Path
) -> None:
    repository.install()
    await repository.append(2)
    repository.commit()
    shutil.rmtree(repository.directory)
    await repository.append(5, keys=tmp_path / "new", subject="another/story")
    repository.commit()
    found = verify_directory(repository.directory, anchors=anchors(repository.root))
    assert [f.problem for f in found.flaws] == ["it names entry 2 by another hash: that entry was replaced"]
    assert found.anchored is False


async def test_an_anchor_that_somebody_invented_does_not_hold(repository: Repository) -> None:
    await repository.append(1)
    repository.commit(f"a change\n\nShips-Log: 1 {'a' * 64} {'b' * 128} {'c' * 64}")
    repository.commit("another\n\nShips-Log: 1 $(id) x y")
    found = anchors(repository.root)
    assert [a.seq for a in found] == [1]
    problems = [f.problem for f in verify_directory(repository.directory, anchors=found).flaws]
    assert "its signature of entry 1 does not hold" in problems


def test_without_commits_or_without_anchors_nothing_is_anchored(repository: Repository) -> None:
    assert anchors(repository.root) == []
    repository.commit()
    assert anchors(repository.root) == []
    repository.directory.mkdir(parents=True)
    assert verify_directory(repository.directory, anchors=[]).anchored is False
    assert verify_directory(repository.directory).anchored is None


async def test_installing_again_changes_nothing(repository: Repository) -> None:
    hook = repository.install()
    before = (hook.read_bytes(), hook.stat().st_ino)
    assert repository.install() == hook
    assert (hook.read_bytes(), hook.stat().st_ino) == before
    await repository.append(1)
    assert repository.commit().count("Ships-Log: ") == 1


async def test_an_amended_commit_carries_the_new_head_alone(repository: Repository) -> None:
    repository.install()
    await repository.append(1)
    repository.commit()
    await repository.append(1)
    repository.git("commit", "--amend", "--no-edit", "--quiet", "--allow-empty")
    assert [a.seq for a in anchors(repository.root)] == [2]


async def test_a_hook_that_was_there_is_kept_and_runs_first(repository: Repository) -> None:
    own = repository.root / ".git" / "hooks" / "prepare-commit-msg"
    own.parent.mkdir(exist_ok=True)
    own.write_text("#!/usr/bin/env python3\nimport sys\nopen(sys.argv[1], 'a').write('\\nTicket: 7\\n')\n")
    own.chmod(0o755)
    text = own.read_text()
    repository.install()
    repository.install()
    assert own.with_name("prepare-commit-msg.before-ships-log").read_text() == text
    await repository.append(1)
    assert "Ticket: 7\nShips-Log: 1 " in repository.commit()


def test_a_hook_that_was_there_can_still_refuse_a_commit(repository: Repository) -> None:
    own = repository.root / ".git" / "hooks" / "prepare-commit-msg"
    own.parent.mkdir(exist_ok=True)
    own.write_text("#!/bin/sh\nexit 3\n")
    own.chmod(0o755)
    repository.install()
    with pytest.raises(subprocess.CalledProcessError):
        repository.commit()


def test_a_second_hook_to_keep_is_a_conflict_and_neither_is_lost(repository: Repository) -> None:
    hook = repository.root / ".git" / "hooks" / "prepare-commit-msg"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("first")
    repository.install()
    hook.write_text("second")
    with pytest.raises(PlatformError) as caught:
        repository.install()
    assert caught.value.code is ErrorCode.CONFLICT
    kept = {f.name: f.read_text() for f in hook.parent.glob("prepare-commit-msg*") if not f.name.endswith(".sample")}
    assert kept == {"prepare-commit-msg": "second", "prepare-commit-msg.before-ships-log": "first"}


def test_a_missing_or_damaged_head_does_not_keep_anybody_from_committing(repository: Repository) -> None:
    repository.install()
    assert "Ships-Log" not in repository.commit()
    repository.directory.mkdir(parents=True)
    (repository.directory / "head.json").write_text('{"seq":1;$(id)}')
    assert "Ships-Log" not in repository.commit()


async def test_a_log_without_entries_is_anchored_at_its_beginning(repository: Repository) -> None:
    repository.install()
    await repository.append(0)
    repository.commit()
    found = anchors(repository.root)
    assert [(a.seq, a.hash) for a in found] == [(0, GENESIS)]
    assert verify_directory(repository.directory, anchors=found).anchored is True


def test_hooks_that_other_repositories_share_are_not_touched(repository: Repository, tmp_path: Path) -> None:
    shared = tmp_path / "shared-hooks"
    repository.git("config", "core.hooksPath", str(shared))
    with pytest.raises(PlatformError) as caught:
        repository.install()
    assert caught.value.code is ErrorCode.FAILED_PRECONDITION
    assert not shared.exists()


def test_a_directory_without_git_is_refused_with_the_way_out(tmp_path: Path) -> None:
    for call in (lambda: anchors(tmp_path), lambda: install_anchor(tmp_path, tmp_path / "head.json")):
        with pytest.raises(PlatformError) as caught:
            call()
        assert caught.value.code is ErrorCode.FAILED_PRECONDITION
        assert "git init" in caught.value.hint
