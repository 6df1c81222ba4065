"""An OCI image layout on disk: blobs by digest, and an index that says which manifests count.

Source: https://github.com/opencontainers/image-spec, image-layout.md, manifest.md (1.1: `subject`, referrers).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...domain.errors import ErrorCode, PlatformError
from ..file_lock import locked
from .layer import HashingReader

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
EMPTY = "application/vnd.oci.empty.v1+json"
JSON_LIMIT_BYTES = 4 * 1024 * 1024  # of manifests, as registries have it
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_INCOMING = ".incoming-"
_CHUNK_BYTES = 1024 * 1024

Descriptor = dict[str, Any]


class ImageLayout:
    """Readers take `shared`, writers `exclusive`; the index is replaced atomically, after all that it names.

    So what a killed writer leaves is never referred to, and the next `sweep` frees it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Holds the layout alone among all processes, made ready for writing. Blocks."""
        for folder in (self.root, self._blobs.parent, self._blobs):
            folder.mkdir(mode=0o700, exist_ok=True)
        with locked(self.root):
            for left_over in self.root.glob(f"{_INCOMING}*"):
                left_over.unlink()
            if not (self.root / "oci-layout").exists():
                self._replace(self.root / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            yield

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Keeps writers out while it is held. Blocks."""
        if not self.root.is_dir():
            yield
            return
        with locked(self.root, shared=True):
            yield

    def manifests(self) -> list[Descriptor]:
        """The descriptors in the index. Raises PlatformError(DATA_CORRUPT) where it cannot be read."""
        try:
            with (self.root / "index.json").open("rb") as file:
                index = json.load(file)
            return [dict(d) for d in index["manifests"] if _DIGEST.fullmatch(d["digest"])]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise _corrupt(f"{self.root.name}/index.json cannot be read", "restore it from a backup") from exc

    def replace_manifests(self, manifests: list[Descriptor]) -> None:
        """Makes these the index. Needs `exclusive`."""
        self._replace(
            self.root / "index.json", canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
        )

    def put(self, content: bytes, media_type: str) -> Descriptor:
        """Stores a blob. Needs `exclusive`."""
        digest = sha256(content)
        if not self._holds(digest, len(content)):
            self._replace(self.path(digest), content)
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def put_manifest(self, manifest: dict[str, Any]) -> Descriptor:
        """Stores a manifest as a blob; it counts once the index names it. Needs `exclusive`."""
        return self.put(canonical(manifest), MANIFEST)

    def adopt(self, file: Path, media_type: str) -> Descriptor:
        """Moves a file of the same file system in as a blob. Needs `exclusive`."""
        with file.open("rb") as stream:
            reader = HashingReader(stream)
            reader.drain()
            size = stream.tell()
            os.fsync(stream.fileno())
        digest = f"sha256:{reader.sha256}"
        file.chmod(0o600)
        file.replace(self.path(digest))
        sync_folder(self._blobs)
        return {"mediaType": media_type, "digest": digest, "size": size}

    def copy(self, descriptor: Descriptor, source: ImageLayout) -> Descriptor:
        """Copies a blob of another layout, checked. Needs `exclusive`. Raises PlatformError(DATA_CORRUPT)."""
        handle, name = tempfile.mkstemp(prefix=_INCOMING, dir=self.root)
        with os.fdopen(handle, "wb") as file, source.open(descriptor) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                file.write(chunk)
        confirm(descriptor, stream)
        return self.adopt(Path(name), descriptor["mediaType"])

    def link(self, descriptor: Descriptor, source: ImageLayout) -> None:
        """Takes in a blob of another layout, which was checked, without a copy where it can. Needs `exclusive`."""
        try:
            os.link(source.path(descriptor["digest"]), self.path(descriptor["digest"]))
        except FileExistsError:
            return
        except OSError:  # another file system, or one without links
            self.copy(descriptor, source)

    def path(self, digest: str) -> Path:
        """Where the blob lies. Raises PlatformError(DATA_CORRUPT) for what is no digest: it could be a path."""
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise _corrupt(f"{digest!r:.80} is not a digest")
        return self._blobs / digest.removeprefix("sha256:")

    def check(self, descriptor: Descriptor) -> None:
        """Reads the whole blob. Raises PlatformError(DATA_CORRUPT) where it is missing or any byte differs."""
        with self.open(descriptor) as stream:
            stream.drain()
            confirm(descriptor, stream)

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[HashingReader]:
        """The blob as a stream; call `confirm` once it is read. Raises PlatformError(DATA_CORRUPT) where missing."""
        path = self.path(descriptor["digest"])
        try:
            file = path.open("rb")
        except OSError as exc:
            raise _corrupt(f"blob {descriptor['digest']} is missing", internal=str(exc)) from exc
        with file:
            yield HashingReader(file)

    def read(self, descriptor: Descriptor) -> bytes:
        """A small blob, checked. Raises PlatformError(DATA_CORRUPT)."""
        with self.open(descriptor) as stream:
            content = stream.read(JSON_LIMIT_BYTES)
            stream.drain()
            confirm(descriptor, stream)
        return content

    def read_json(self, descriptor: Descriptor) -> dict[str, Any]:
        """A small JSON object, checked. Raises PlatformError(DATA_CORRUPT)."""
        try:
            value = json.loads(self.read(descriptor))
        except ValueError as exc:
            raise _corrupt(f"blob {descriptor['digest']} is not JSON") from exc
        if not isinstance(value, dict):
            raise _corrupt(f"blob {descriptor['digest']} is not a JSON object")
        return value

    def sweep(self) -> None:
        """Removes the blobs that no manifest of the index refers to. Needs `exclusive`.

        Where a manifest cannot be read nothing is removed: it is unknown what it needs.
        """
        used: set[str] = set()
        try:
            for descriptor in self.manifests():
                manifest = self.read_json(descriptor)
                parts = [descriptor, manifest["config"], *manifest["layers"]]
                used |= {self.path(part["digest"]).name for part in parts}
        except (PlatformError, KeyError, TypeError):
            return
        for blob in self._blobs.iterdir():
            if blob.name not in used:
                blob.unlink()

    @property
    def _blobs(self) -> Path:
        return self.root / "blobs" / "sha256"

    def _holds(self, digest: str, size: int) -> bool:
        try:
            self.check({"digest": digest, "size": size})
        except PlatformError:
            return False
        return True

    def _replace(self, path: Path, content: bytes) -> None:
        """Whole or not at all, also when the power fails."""
        descriptor, name = tempfile.mkstemp(prefix=_INCOMING, dir=self.root)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def confirm(descriptor: Descriptor, stream: HashingReader) -> None:
    """Raises PlatformError(DATA_CORRUPT) unless all that was read has the descriptor's digest."""
    if f"sha256:{stream.sha256}" != descriptor["digest"]:
        raise _corrupt(f"blob {descriptor['digest']} was changed: its bytes are those of sha256:{stream.sha256}")


def manifest_of(
    config: Descriptor, layers: list[Descriptor], annotations: dict[str, str] | None = None
) -> dict[str, Any]:
    """Of an image, or of an artifact that is none."""
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
    return manifest | ({"annotations": annotations} if annotations else {})


def canonical(value: Any) -> bytes:
    """JSON in one way only, so that equal values have equal digests."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256(content: bytes) -> str:
    """As a digest: `sha256:` and 64 hex digits."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def sync_folder(folder: Path) -> None:
    """Makes the names in it durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _corrupt(problem: str, hint: str = "remove the release and build it again", internal: str = "") -> PlatformError:
    return PlatformError(ErrorCode.DATA_CORRUPT, problem, hint, internal=internal)
