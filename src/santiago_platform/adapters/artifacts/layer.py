"""A layer: the files of a release as one tar, the same bytes for the same files; and its safe way back."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Protocol

from ...domain.errors import ErrorCode, PlatformError

WORKING_DIRECTORY = "app"  # where the files lie in an image
FILE_LIMIT = 100_000
SIZE_LIMIT_BYTES = 4 * 1024**3
_CHUNK_BYTES = 1024 * 1024


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A regular file of a layer. path: relative, with `/`."""

    path: str
    sha256: str
    size_bytes: int


def pack(source: Path, outputs: Iterable[str], into: BinaryIO, *, mtime: int) -> list[PackedFile]:
    """Writes what `outputs` (paths or globs below `source`) match as a tar: sorted, owned by root, with modes 0755
    or 0644 and `mtime` (Unix seconds) everywhere. Returns its files.

    Raises PlatformError(FAILED_PRECONDITION) for an output that matches nothing, a link out of the tree, a name
    that is not UTF-8, anything but files, folders and links, and for too many or too large files.
    """
    packed: list[PackedFile] = []
    total = 0
    with tarfile.open(fileobj=into, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(_member(".", tarfile.DIRTYPE, mtime))
        for path in _collect(source, outputs):
            name = path.relative_to(source).as_posix()
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode):
                member = _member(name, tarfile.SYMTYPE, mtime)
                member.linkname = _inner_target(path, source, name)
                tar.addfile(member)
            elif stat.S_ISDIR(status.st_mode):
                tar.addfile(_member(name, tarfile.DIRTYPE, mtime))
            elif stat.S_ISREG(status.st_mode):
                total += status.st_size
                if len(packed) >= FILE_LIMIT or total > SIZE_LIMIT_BYTES:
                    raise _refused(f"more than {FILE_LIMIT} files or {SIZE_LIMIT_BYTES >> 30} GiB", "narrow `outputs`")
                member = _member(name, tarfile.REGTYPE, mtime)
                member.mode = 0o755 if status.st_mode & 0o111 else 0o644
                member.size = status.st_size
                with path.open("rb") as file:
                    hashing = HashingReader(file)
                    tar.addfile(member, hashing)
                packed.append(PackedFile(name, hashing.sha256, status.st_size))
            else:
                raise _refused(f"{name!r} is neither a file, a folder nor a link", "let the build remove it")
    if not packed:
        raise _refused("the release would have no files", "check `outputs` in build.yaml")
    return packed


def extract(source: Readable, into: Path, *, prefix: str, read_only: bool = False) -> None:
    """Extracts the members below `prefix` of a tar stream into the existing, empty folder `into`.

    Nothing is ever written outside of `into`, whatever the tar holds. read_only: modes 0444, 0555, synced to disk,
    and links out of the tree are refused; otherwise such a link is made and nothing follows it.
    Raises PlatformError(DATA_CORRUPT) for members that no honest layer has.
    """
    links: list[tuple[Path, str]] = []
    folders: dict[Path, float] = {into: 0.0}
    try:
        with tarfile.open(fileobj=source, mode="r|") as tar:  # type: ignore[call-overload] # it only reads
            for member in tar:
                relative = _below(member.name, prefix)
                if relative is None:
                    continue
                target = into / relative
                if member.isdir():
                    _make_folder(target, folders)
                    folders[target] = member.mtime
                    continue
                if target == into:
                    raise _corrupt("its root is not a folder")
                _make_folder(target.parent, folders)
                if member.issym():
                    links.append((target, member.linkname))
                elif member.isreg():
                    content = tar.extractfile(member)
                    assert content is not None  # noqa: S101 - it is regular
                    _write(target, content, member, read_only)
                else:
                    raise _corrupt(f"it holds {member.name!r}, which is neither file, folder nor link")
        # Links last: nothing is written through one.
        for target, linkname in links:
            if read_only and _leaves(target.relative_to(into), linkname):
                raise _corrupt(f"its link {target.name!r} leads out of the release")
            target.symlink_to(linkname)
    except (tarfile.TarError, FileExistsError, NotADirectoryError, IsADirectoryError, EOFError) as exc:
        raise _corrupt("it is not a well-formed tar") from exc
    if read_only:
        _seal(folders)


class HashingReader:
    """Reads on behalf of another, and knows the SHA-256 of what has been read so far."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        return data

    def drain(self) -> None:
        while self.read(_CHUNK_BYTES):
            pass

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def remove_tree(path: Path) -> None:
    """Removes a tree that may be read-only. One that is gone is no error."""
    if not path.is_dir():
        return
    path.chmod(0o700)
    for folder, children, _ in os.walk(path):
        for child in children:
            if not (inner := Path(folder, child)).is_symlink():
                inner.chmod(0o700)
    shutil.rmtree(path)


def _collect(source: Path, outputs: Iterable[str]) -> list[Path]:
    found: set[Path] = set()
    for output in outputs:
        try:
            matches = [source] if PurePosixPath(output) == PurePosixPath(".") else list(source.glob(output))
        except (ValueError, NotImplementedError) as exc:
            raise _refused(f"{output!r} is not a usable pattern: {exc}", "check `outputs` in build.yaml") from exc
        if not matches:
            raise _refused(f"the output {output!r} is not there", "`outputs` in build.yaml says what the build makes")
        for match in matches:
            folders = [p for p in match.parents if p != source and p.is_relative_to(source)]
            if any(folder.is_symlink() for folder in folders):
                raise _refused(f"the output {output!r} lies behind a link", "name the folder that the link leads to")
            found.update(folders, _walk(match))
    found.discard(source)
    return sorted(found, key=lambda p: p.relative_to(source).as_posix().encode(errors="surrogateescape"))


def _walk(top: Path) -> Iterator[Path]:
    yield top
    if top.is_symlink() or not top.is_dir():
        return
    for entry in os.scandir(top):
        yield from _walk(Path(entry.path))


def _member(name: str, kind: bytes, mtime: int) -> tarfile.TarInfo:
    try:
        name.encode()
    except UnicodeEncodeError as exc:
        raise _refused(
            f"the name {name.encode(errors='backslashreplace').decode()!r} is not UTF-8", "rename it"
        ) from exc
    member = tarfile.TarInfo(f"{WORKING_DIRECTORY}/{name}" if name != "." else WORKING_DIRECTORY)
    member.type = kind
    member.mode = {tarfile.DIRTYPE: 0o755, tarfile.SYMTYPE: 0o777}.get(kind, 0o644)
    member.mtime = mtime
    return member


def _inner_target(path: Path, source: Path, name: str) -> str:
    target = os.readlink(path)
    inside = path.resolve().is_relative_to(source.resolve())
    if not inside or _leaves(PurePosixPath(name), target):
        raise _refused(
            f"the link {name!r} leads to {target!r}, out of the release", "let the build copy what it leads to"
        )
    return target


def _leaves(link: PurePosixPath | Path, target: str) -> bool:
    """Whether a relative link, read as text, climbs above the tree, or is absolute."""
    if target.startswith("/"):
        return True
    depth = len(link.parts) - 1
    for part in PurePosixPath(target).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False


def _below(name: str, prefix: str) -> PurePosixPath | None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise _corrupt(f"it holds {name!r}, a path out of the release")
    try:
        return path.relative_to(prefix)
    except ValueError:
        return None


def _make_folder(path: Path, folders: dict[Path, float]) -> None:
    """Makes it with what is above it, unless `folders` has it; within it nobody else makes anything."""
    if path not in folders:
        _make_folder(path.parent, folders)
        path.mkdir(mode=0o700)
        folders[path] = 0.0


def _write(target: Path, content: IO[bytes], member: tarfile.TarInfo, read_only: bool) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(content, file, _CHUNK_BYTES)
        file.flush()
        executable = bool(member.mode & 0o111)
        os.fchmod(descriptor, (0o555 if executable else 0o444) if read_only else (0o755 if executable else 0o644))
        if read_only:
            os.fsync(descriptor)
    os.utime(target, (member.mtime, member.mtime))


def _seal(folders: dict[Path, float]) -> None:
    for folder in sorted(folders, key=lambda p: len(p.parts), reverse=True):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.utime(folder, (folders[folder], folders[folder]))
        folder.chmod(0o555)


def _refused(problem: str, hint: str) -> PlatformError:
    return PlatformError(ErrorCode.FAILED_PRECONDITION, f"the build's outputs: {problem}", hint)


def _corrupt(problem: str) -> PlatformError:
    return PlatformError(
        ErrorCode.DATA_CORRUPT,
        f"the layer is not what a build stores: {problem}",
        "remove the release and build it again",
    )
