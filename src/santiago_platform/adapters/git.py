"""Git, as releases need it: which commit a ref names, and a folder as it stood at a commit."""

from __future__ import annotations

import asyncio
import os
import re
from datetime import UTC, datetime
from pathlib import Path

from ..domain.errors import ErrorCode, PlatformError

REF_LIMIT = 200
COMMITS_AT_MOST = 1000  # between two deploys
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
# What a user configured must not change the bytes of a snapshot, nor run anything.
_OPTIONS = (
    "-c", "core.autocrlf=false", "-c", "core.attributesFile=/dev/null", "-c", "core.hooksPath=/dev/null",
    "-c", "core.fsmonitor=false", "-c", "core.quotePath=false",
)  # fmt: skip


class GitError(Exception):
    """A git command that failed, with what it wrote to stderr."""


class Git:
    """The repository that holds `root`, which may be a folder within it. Paths are relative to `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def resolve(self, ref: str) -> str:
        """The full commit hash that `ref` names.

        Raises PlatformError: INVALID_ARGUMENT for what cannot be a ref, NOT_FOUND, FAILED_PRECONDITION where
        there is no repository or no git.
        """
        if not ref or ref.startswith("-") or len(ref) > REF_LIMIT or not ref.isprintable():
            raise PlatformError(
                ErrorCode.INVALID_ARGUMENT, f"{ref[:REF_LIMIT]!r} is not a git ref", "give a branch, a tag or a commit"
            )
        try:
            out = await self.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        except GitError as exc:
            await self._require_repository()
            raise PlatformError(
                ErrorCode.NOT_FOUND,
                f"git knows no commit {ref!r}",
                "`git log` and `git branch -a` list what there is; has it been committed and fetched?",
                internal=str(exc),
            ) from exc
        commit = out.decode(errors="replace").strip()
        if not _COMMIT.fullmatch(commit):
            raise PlatformError(ErrorCode.INVALID_ARGUMENT, f"{ref!r} does not name one commit", "give its hash")
        return commit

    async def committed_at(self, commit: str) -> datetime:
        """Raises PlatformError(FAILED_PRECONDITION) for a commit with a date that no calendar has."""
        try:
            return datetime.fromtimestamp(int(await self.run("show", "--no-patch", "--format=%ct", commit)), UTC)
        except (GitError, ValueError, OverflowError, OSError) as exc:
            raise _failed(f"the date of commit {commit[:12]} cannot be read", exc) from exc

    async def committed(self, path: str, after: str | None, commit: str) -> tuple[datetime, ...] | None:
        """When the commits that touched `path` were made, of those that `commit` has and `after` has not: newest first,
        at most COMMITS_AT_MOST; without `after`, the newest one. None where the repository does not have both."""
        named = [commit, f"^{after}"] if after is not None else [commit]
        if not all(_COMMIT.fullmatch(name.removeprefix("^")) for name in named):
            return None
        most = COMMITS_AT_MOST if after is not None else 1
        try:
            out = await self.run("log", "--format=%ct", f"--max-count={most}", *named, "--", path)
            return tuple(datetime.fromtimestamp(int(line), UTC) for line in out.split())
        except (GitError, ValueError, OverflowError, OSError):
            return None

    async def exists(self, commit: str, path: str) -> bool:
        try:
            await self.run("cat-file", "-e", f"{commit}:./{path}")
        except GitError:
            return False
        return True

    async def text(self, commit: str, path: str, *, limit_bytes: int) -> str:
        """A file as it stood at `commit`. Raises GitError where it was not there, is too large or is no UTF-8."""
        name = f"{commit}:./{path}"
        if int(await self.run("cat-file", "-s", name)) > limit_bytes:
            raise GitError(f"{path} has more than {limit_bytes} bytes")
        try:
            return (await self.run("cat-file", "blob", name)).decode()
        except UnicodeDecodeError as exc:
            raise GitError(f"{path} is not UTF-8") from exc

    async def archive(self, commit: str, path: str, into: Path) -> None:
        """Writes `path` as it stood at `commit` to the tar file `into`; member names begin with `path`.

        Raises PlatformError(FAILED_PRECONDITION) where git cannot, say because the disk is full.
        """
        try:
            await self.run("archive", "--format=tar", f"--output={into}", commit, path)
        except GitError as exc:
            raise _failed(f"{path} of commit {commit[:12]} cannot be read", exc) from exc

    async def run(self, *arguments: str) -> bytes:
        """What the command wrote to stdout. Raises GitError where it failed, PlatformError where there is no git."""
        # Variables such as GIT_DIR would lead it to another repository.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
        environment |= {
            "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_LITERAL_PATHSPECS": "1", "GIT_OPTIONAL_LOCKS": "0",
        }  # fmt: skip
        try:
            process = await asyncio.create_subprocess_exec(
                "git",
                *_OPTIONS,
                *arguments,
                cwd=self._root,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except FileNotFoundError as exc:
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION, "git is not on PATH", "install it (Debian, Ubuntu: apt-get install git)"
            ) from exc
        try:
            out, err = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if process.returncode != 0:
            raise GitError(err.decode(errors="replace").strip())
        return out

    async def _require_repository(self) -> None:
        try:
            await self.run("rev-parse", "--git-dir")
        except GitError as exc:
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                f"{self._root} is not in a git repository that this user may read: {exc}",
                "`git init`, then commit: releases are built from commits, never from the working tree",
            ) from exc


def _failed(problem: str, exc: Exception) -> PlatformError:
    return PlatformError(
        ErrorCode.FAILED_PRECONDITION, f"{problem}: {exc}", "`git fsck` checks the repository, `df` the disk"
    )
