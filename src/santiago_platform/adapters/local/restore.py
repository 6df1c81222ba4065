"""A workspace out of a backup: laid beside its place, checked whole, and only then moved there."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ...domain.environment import Addresses
from ...domain.errors import ErrorCode, PlatformError
from ...domain.ship_log import Verification
from ..layout import Layout
from ..ship_log.log_directory import verify_directory
from ..workspace.workspace import FileWorkspace
from .backup import BUNDLE, FORM, HOLD, MANIFEST, run_git
from .port_registry import PortRegistry

MANIFEST_LIMIT_BYTES = 64 << 20
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Restored:
    """workspace: whose backup it is. ship_log: None where it had none. addresses: of the new workspace. moved: its
    ports that differ from those in the backup, by key in santiago.yaml. repository: whether git's came with it."""

    workspace: str
    files: int
    ship_log: Verification | None
    addresses: Addresses | None
    moved: dict[str, int]
    repository: bool


def restore(backup: Path, directory: Path) -> Restored:
    """Makes the workspace `directory` of a backup. It is not there yet, or empty. Blocks.

    Where the backup's ports are another workspace's or in use, it gets free ones, written to its santiago.yaml.
    Raises PlatformError: FAILED_PRECONDITION where `directory` holds something, or a newer version made the backup;
    NOT_FOUND where there is no backup; DATA_CORRUPT where a byte of it was changed. Then `directory` is as before.
    """
    directory = directory.absolute()
    if directory.is_symlink() or (directory.exists() and (not directory.is_dir() or any(directory.iterdir()))):
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"{directory} is not an empty folder: a backup is never restored over something",
            "name a folder that does not exist yet",
        )
    if not backup.is_file():
        raise PlatformError(ErrorCode.NOT_FOUND, f"there is no backup {backup}", "`santiago backup FILE` makes one")
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{directory.name}.restoring-", dir=directory.parent))
    try:
        manifest = _extract(backup, scratch)
        root = scratch / HOLD
        (root / ".santiago").chmod(0o700)
        repository = (scratch / BUNDLE).exists()
        if repository:
            _clone(scratch / BUNDLE, root, manifest["head"])
        said = {"from": manifest["workspace"], "backed_up_at": manifest["at"]}
        Layout(root).restored.write_text(json.dumps(said))
        root.rename(directory)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    layout = Layout.of(directory)
    addresses, moved = _claim_ports(layout)
    return Restored(
        workspace=manifest["workspace"],
        files=len(manifest["sha256"]),
        ship_log=_verify_log(layout),
        addresses=addresses,
        moved=moved,
        repository=repository,
    )


def _extract(backup: Path, target: Path) -> dict[str, Any]:
    """Lays everything below `target`, and checks it against the manifest, which is returned."""
    found: dict[str, str] = {}
    manifest: dict[str, Any] | None = None
    folders: list[tuple[Path, tarfile.TarInfo]] = []
    try:
        with tarfile.open(backup, "r:") as tar:
            for member in tar:
                if member.name == MANIFEST:
                    manifest = _manifest(tar, member)
                    continue
                place = _place(target, member.name)
                if member.isdir():
                    place.mkdir(mode=0o700, exist_ok=True)
                    folders.append((place, member))
                elif member.issym():
                    place.symlink_to(member.linkname)
                    _own(place, member)
                elif member.isreg():
                    found[member.name] = _lay_file(tar, member, place)
                else:
                    raise _corrupt(f"{member.name} is neither a file, a folder nor a link")
    except (tarfile.TarError, EOFError, FileExistsError, ValueError) as exc:
        raise _corrupt(f"it cannot be read as a backup: {exc}") from exc
    if manifest is None:
        raise _corrupt("it has no manifest: it was cut off")
    _compare(manifest["sha256"], found)
    for place, member in folders:  # last, since what lies in them had to be written
        _own(place, member)
        place.chmod(member.mode & 0o777)
    return manifest


def _place(target: Path, name: str) -> Path:
    """Where a member belongs, its folder made. Nothing leaves the target, by its name or through a link."""
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or name.startswith("/"):
        raise _corrupt(f"{name!r:.200} would lie outside of the workspace")
    folder = target
    for part in parts[:-1]:
        folder /= part
        if folder.is_symlink():
            raise _corrupt(f"{name!r:.200} would lie behind a link")
        folder.mkdir(exist_ok=True)
    return folder / parts[-1]


def _lay_file(tar: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> str:
    """Writes the file and returns the SHA-256 of what was written."""
    content = tar.extractfile(member)
    assert content is not None  # noqa: S101 - it is a regular file
    digest = hashlib.sha256()
    with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while chunk := content.read(CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
    _own(place, member)
    place.chmod(member.mode & 0o777)
    os.utime(place, (member.mtime, member.mtime))
    return digest.hexdigest()


def _own(place: Path, member: tarfile.TarInfo) -> None:
    """Root gives files back to whom they belonged; anybody else owns all that he restores."""
    if os.geteuid() == 0:
        os.chown(place, member.uid, member.gid, follow_symlinks=False)


def _manifest(tar: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any]:
    content = tar.extractfile(member) if member.isreg() and member.size <= MANIFEST_LIMIT_BYTES else None
    try:
        value = json.loads(content.read() if content is not None else b"")
        form, files = value["form"], value["sha256"]
        whole = isinstance(form, int) and isinstance(files, dict) and {"workspace", "at", "head"} <= value.keys()
    except (ValueError, KeyError, TypeError) as exc:
        raise _corrupt("its manifest cannot be read") from exc
    if not whole:
        raise _corrupt("its manifest is not whole")
    if form > FORM:
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"the backup has form {form}; this version of the platform knows {FORM}",
            "restore it with the version that made it, or a newer one",
        )
    return dict(value)


def _compare(wanted: dict[str, str], found: dict[str, str]) -> None:
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            raise _corrupt(f"{name} is missing in it")
        if name not in wanted:
            raise _corrupt(f"{name} is in it, and not in its manifest")
        if wanted[name] != found[name]:
            raise _corrupt(f"{name} was changed: its digest is not that of the manifest")


def _clone(bundle: Path, root: Path, head: str) -> None:
    """The repository with its branches and tags; the files stay as they were in the backup."""
    branch = head.removeprefix("refs/heads/") if head.startswith("refs/heads/") else ""
    steps = [
        ("init", "--quiet", "--initial-branch", branch or "main"),
        ("fetch", "--quiet", "--update-head-ok", str(bundle), "+refs/*:refs/*"),
        *([] if branch else [("fetch", "--quiet", str(bundle), "HEAD"), ("update-ref", "--no-deref", "HEAD", head)]),
        ("reset", "--quiet"),
    ]
    for words in steps:
        if run_git(root, *words) is None:
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                f"git {words[0]} failed: the repository in the backup cannot be restored",
                "is git on PATH? `git bundle verify` checks the repository.bundle in the backup, which is a tar",
            )


def _claim_ports(layout: Layout) -> tuple[Addresses | None, dict[str, int]]:
    """The backup's ports where they are free, else others. None where its settings cannot be read."""
    try:
        wanted = FileWorkspace(layout.root, {}).settings().addresses
    except PlatformError:
        return None, {}
    registry, moved = PortRegistry(layout.root), {}
    for purpose, key in (("server", "server_port"), ("ingress", "ingress_port")):
        try:
            registry.claim(purpose, port=getattr(wanted, key))
        except PlatformError as exc:
            if exc.code is not ErrorCode.CONFLICT:
                raise
            moved[key] = registry.claim(purpose)
    if moved:
        settings = layout.root / "santiago.yaml"
        before = settings.read_text()
        settings.write_text(_with_ports(before, moved))
        if FileWorkspace(layout.root, {}).settings().addresses != wanted.model_copy(update=moved):
            settings.write_text(before)  # written in a way that is not ours to edit
    return wanted.model_copy(update=moved), moved


def _with_ports(text: str, ports: dict[str, int]) -> str:
    """The text of santiago.yaml with other ports, and everything else as it stands."""
    missing = []
    for key, port in ports.items():
        text, count = re.subn(rf"(\b{key}\s*:\s*)\d+", rf"\g<1>{port}", text)
        if not count:
            missing.append(f"  {key}: {port}\n")
    if missing and re.search(r"^addresses:\s*(#.*)?$", text, re.MULTILINE):
        return re.sub(r"^(addresses:.*\n)", lambda found: found[0] + "".join(missing), text, flags=re.MULTILINE)
    return text + ("\naddresses:\n" + "".join(missing) if missing else "")


def _verify_log(layout: Layout) -> Verification | None:
    key = layout.keys / "ship-log.pub"
    if not layout.ship_log.is_dir():
        return None
    return verify_directory(layout.ship_log, bytes.fromhex(key.read_text()) if key.exists() else None)


def _corrupt(problem: str) -> PlatformError:
    return PlatformError(
        ErrorCode.DATA_CORRUPT,
        f"the backup was not restored: {problem}",
        "take another backup, or fetch this one again",
    )
