"""A backup of a workspace: one tar of what cannot be made again, taken while the platform runs.

    workspace/...      the files that people keep there, the ship's log, and of .santiago/ what is state
    repository.bundle  the git repository, where the workspace is the top of one
    manifest.json      form, time, and the SHA-256 of every file; last, so that a cut tar has none

The order makes it consistent. Rows come first, under a lock that keeps releases from being pruned meanwhile; then the
releases that rows name; then the ship's log, which may be ahead of the rows and never behind them, its head before
its lines. What services write meanwhile (volumes, homes) is taken as it is found, as after a loss of power.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Any

from ...domain.errors import ErrorCode, PlatformError
from ..file_lock import locked
from ..layout import Layout

FORM = 1
MANIFEST = "manifest.json"
BUNDLE = "repository.bundle"
HOLD = "workspace"
# Of .santiago: what is neither made anew by `up` nor read from elsewhere.
STATE = ("secrets.json", "keys", "owner.token", "service-ports.json", "flags", "volumes", "home", "evidence")
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BackedUp:
    """changed: files that services wrote to while they were read."""

    files: int
    size_bytes: int
    changed: tuple[str, ...]


def back_up(layout: Layout, target: Path, report: Report = lambda _: None) -> BackedUp:
    """Writes the backup of a workspace to the file `target` (0600), whole or not at all. Blocks.

    Raises PlatformError: CONFLICT where `target` exists, FAILED_PRECONDITION where there is nothing to back up,
    DATA_CORRUPT where the database is damaged, RESOURCE_EXHAUSTED where no space is left.
    """
    if target.exists() or target.is_symlink():
        raise PlatformError(ErrorCode.CONFLICT, f"{target} exists already", "name a file that does not exist yet")
    if not layout.database.exists():
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"the platform of {layout.root} was never started: there is no state to back up",
            "its git repository holds the rest",
        )
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="backup-", dir=layout.state) as scratch, locked(Path(scratch)):
        try:
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                    writer = _Writer(tar, partial.absolute())
                    _write(layout, Path(scratch), writer, report)
                file.flush()
                os.fsync(file.fileno())
            partial.rename(target)
        except sqlite3.Error as exc:
            raise _damaged(layout.database, exc) from exc
        except OSError as exc:
            if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise PlatformError(
                ErrorCode.RESOURCE_EXHAUSTED, f"no space is left for {target}", "free some, or name another disk"
            ) from exc
        finally:
            partial.unlink(missing_ok=True)
    return BackedUp(len(writer.digests), target.stat().st_size, tuple(writer.changed))


def _write(layout: Layout, scratch: Path, writer: _Writer, report: Report) -> None:
    report("the database and the releases")
    releases = scratch / "releases"
    if layout.releases.is_dir():
        with locked(layout.releases, shared=True):
            _copy_database(layout.database, scratch / "platform.db")
            shutil.copytree(layout.releases, releases, copy_function=_link)
    else:
        _copy_database(layout.database, scratch / "platform.db")
    writer.add_file(scratch / "platform.db", _in_state("platform.db"))
    if releases.is_dir():
        writer.add_tree(releases, _in_state("releases"))
    report("keys, volumes, the ship's log and the workspace's own files")
    for name in STATE:
        place = layout.state / name
        if place.is_dir():
            writer.add_tree(place, _in_state(name))
        elif place.is_file():
            writer.add_file(place, _in_state(name))
    head = layout.ship_log / "head.json"
    if head.exists():  # read before the lines, so that they are never behind it
        writer.add_file(head, _in_workspace(head.relative_to(layout.root)))
    if layout.ship_log.is_dir():
        writer.add_tree(layout.ship_log, _in_workspace(layout.ship_log.relative_to(layout.root)))
    git = _Repository(layout.root)
    for path in git.files():
        writer.add_file(layout.root / path, _in_workspace(path))
    about: dict[str, Any] = {"form": FORM, "workspace": str(layout.root), "at": int(time.time()), "head": ""}
    if git.bundle(scratch / BUNDLE):
        writer.add_file(scratch / BUNDLE, BUNDLE)
        about["head"] = git.head
    writer.add_manifest(about)


def _link(source: str, target: str) -> None:
    """A hard link: blobs never change, and the index is replaced whole."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _copy_database(source: Path, target: Path) -> None:
    """By SQLite's online backup: one moment's rows, while the daemon writes on."""
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(sqlite3.connect(source, timeout=30)) as rows, closing(sqlite3.connect(target)) as copy:
        rows.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, not three
        found = copy.execute("PRAGMA quick_check").fetchone()[0]
    if found != "ok":
        raise _damaged(source, found)


def _in_state(name: str) -> str:
    return f"{HOLD}/.santiago/{name}"


def _in_workspace(path: PurePath) -> str:
    return f"{HOLD}/{path}"


class _Writer:
    """Adds files to a tar and takes their digests on the way. No name twice; sockets and pipes are passed over.

    skipped: the backup itself, which may lie within what is backed up.
    """

    def __init__(self, tar: tarfile.TarFile, skipped: Path) -> None:
        self.digests: dict[str, str] = {}
        self.changed: list[str] = []
        self._tar = tar
        self._skipped = skipped
        self._names: set[str] = set()

    def add_tree(self, place: Path, name: str) -> None:
        self._add_folder(place, name)
        for folder, folders, files in os.walk(place):
            inside = PurePosixPath(name, PurePosixPath(Path(folder).relative_to(place)))
            for child in sorted(folders):
                path = Path(folder, child)
                (self.add_file if path.is_symlink() else self._add_folder)(path, str(inside / child))
            for child in sorted(files):
                if not child.endswith(".lock"):
                    self.add_file(Path(folder, child), str(inside / child))

    def _add_folder(self, place: Path, name: str) -> None:
        with suppress(FileNotFoundError):
            if name not in self._names:
                self._names.add(name)
                self._tar.addfile(self._tar.gettarinfo(place, name))

    def add_file(self, place: Path, name: str) -> None:
        """A file that is gone meanwhile is passed over."""
        if name in self._names or place.absolute() == self._skipped:
            return
        with suppress(FileNotFoundError):
            if stat.S_ISLNK(place.lstat().st_mode):
                self._tar.addfile(self._tar.gettarinfo(place, name))
            elif stat.S_ISREG(place.lstat().st_mode):
                with place.open("rb") as content:
                    self._add_content(content, name)
            else:
                return
            self._names.add(name)

    def _add_content(self, content: IO[bytes], name: str) -> None:
        """As many bytes as there were at first: a file may grow, or be cut, while it is read."""
        about = self._tar.gettarinfo(arcname=name, fileobj=content)
        about.type, about.linkname = tarfile.REGTYPE, ""
        about.size = os.fstat(content.fileno()).st_size
        reader = _Exactly(content, about.size)
        self._tar.addfile(about, reader)
        self.digests[name] = reader.sha256
        if reader.short:
            self.changed.append(name)

    def add_manifest(self, about: dict[str, Any]) -> None:
        text = json.dumps({**about, "sha256": self.digests}, indent=1).encode()
        member = tarfile.TarInfo(MANIFEST)
        member.size, member.mode, member.mtime = len(text), 0o600, about["at"]
        self._tar.addfile(member, io.BytesIO(text))


class _Exactly(io.RawIOBase):
    """`size` bytes of a file, and zeros in place of what it lost meanwhile."""

    def __init__(self, content: IO[bytes], size: int) -> None:
        self._content, self._left = content, size
        self._hash = hashlib.sha256()
        self.short = False

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        found = self._content.read(wanted)
        self.short = self.short or len(found) < wanted
        found += bytes(wanted - len(found))
        self._left -= wanted
        self._hash.update(found)
        return found

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


class _Repository:
    """The git repository of a workspace, where there is one and the workspace is its top folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        top = self._git("rev-parse", "--show-toplevel")
        self.known = top is not None and Path(os.fsdecode(top.rstrip(b"\n"))) == root
        head = self._git("symbolic-ref", "--quiet", "HEAD") or self._git("rev-parse", "--verify", "--quiet", "HEAD")
        self.head = head.decode().strip() if head else ""

    def files(self) -> Iterator[PurePosixPath]:
        """Of the working tree, without what git ignores; without git all but .santiago."""
        listed = self._git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
        if listed is not None:
            for name in sorted(set(listed.split(b"\0")) - {b""}):
                yield PurePosixPath(os.fsdecode(name))
            return
        for folder, folders, files in os.walk(self._root):
            if Path(folder) == self._root:
                folders[:] = [name for name in folders if name != ".santiago"]
            yield from (PurePosixPath(Path(folder, name).relative_to(self._root)) for name in sorted(files))

    def bundle(self, target: Path) -> bool:
        """Whether there was a commit to write to `target`. Raises PlatformError(FAILED_PRECONDITION)."""
        if not self.known or self._git("rev-parse", "--verify", "--quiet", "HEAD") is None:
            return False
        if self._git("bundle", "create", "--quiet", str(target), "HEAD", "--all") is None:
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION, f"git cannot bundle {self._root}", "`git fsck` checks the repository"
            )
        return True

    def _git(self, *words: str) -> bytes | None:
        return run_git(self._root, *words)


def run_git(root: Path, *words: str) -> bytes | None:
    """What git wrote to stdout; None where it failed, or is not there."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {"LC_ALL": "C"}
    command = ["git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", *words]
    try:
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def _damaged(path: Path, why: object) -> PlatformError:
    return PlatformError(
        ErrorCode.DATA_CORRUPT,
        f"{path} is damaged and was not backed up: {why}",
        "keep the last backup that you have; what is deployed keeps running",
    )
