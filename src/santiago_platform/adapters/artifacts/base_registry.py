"""Base images out of a registry, kept in the workspace: fetched once, every digest checked."""

from __future__ import annotations

import asyncio
import hashlib
import json
import platform
import tempfile
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...domain.errors import ErrorCode, PlatformError
from .base_image import BaseImage, machine_platform, read_image
from .image_reference import ImageReference
from .oci import CONFIG, INDEX, MANIFEST, Descriptor, ImageLayout, manifest_of, sha256
from .registry_session import RegistrySession

BASE_LIMIT_BYTES = 16 << 30
_ORIGINAL = "io.santiago.original.digest"
_DOCKER = "application/vnd.docker.distribution.manifest"
_ACCEPTED = f"{MANIFEST}, {INDEX}, {_DOCKER}.v2+json, {_DOCKER}.list.v2+json"
_DOCKER_LAYER, _OCI_LAYER = "application/vnd.docker.image.rootfs.diff.tar", "application/vnd.oci.image.layer.v1.tar"


class BaseImages:
    """The OCI layout of base images of one workspace."""

    def __init__(self, root: Path, auth_file: Callable[[], Path | None]) -> None:
        self._layout = ImageLayout(root)
        self._auth_file = auth_file

    async def fetch(self, image: str) -> BaseImage:
        """The image for this machine's architecture. A tag is looked up each time, a digest that is here never.

        Raises PlatformError: NOT_FOUND, UNAVAILABLE, PERMISSION_DENIED; DATA_CORRUPT where bytes are not what their
        digest says; FAILED_PRECONDITION where the image has nothing for this architecture.
        """
        named = ImageReference.parse(image)
        if named.digest and (known := await asyncio.to_thread(self._known, image, named.digest)):
            return known
        async with RegistrySession(named.repository, auth_file=self._auth_file()) as session:
            digest, manifest = await self._manifest(session, named.reference)
            if known := await asyncio.to_thread(self._known, image, digest):
                return known
            parts = {part["digest"]: part for part in (manifest["config"], *manifest["layers"])}
            if sum(int(part["size"]) for part in parts.values()) > BASE_LIMIT_BYTES:
                raise _unusable(image, "is larger than 16 GiB")
            with tempfile.TemporaryDirectory(dir=self._made(), prefix=".fetch-") as folder:
                for part in parts.values():
                    await _download(session, part, Path(folder))
                return await asyncio.to_thread(self._take_in, image, digest, manifest, Path(folder))

    def _made(self) -> Path:
        self._layout.root.mkdir(parents=True, mode=0o700, exist_ok=True)
        return self._layout.root

    def _known(self, image: str, digest: str) -> BaseImage | None:
        with self._layout.shared():
            entry = next((d for d in self._layout.manifests() if _original(d) == digest), None)
            return self._read(entry, image, digest) if entry else None

    async def _manifest(self, session: RegistrySession, reference: str) -> tuple[str, dict[str, Any]]:
        """The digest that `reference` names, of an index where it is one, and this machine's manifest."""
        digest, named = await _document(session, reference)
        if "manifests" in named:
            fitting = [entry for entry in named["manifests"] if _fits(entry)]
            if not fitting:
                raise _unusable(f"{session.repository}@{digest}", f"has nothing for {platform.machine()}")
            _, named = await _document(session, fitting[0]["digest"])
        return digest, named

    def _take_in(self, image: str, digest: str, manifest: dict[str, Any], folder: Path) -> BaseImage:
        layout = self._layout
        with layout.exclusive():
            for file in folder.iterdir():
                layout.adopt(file, "")
            config = {key: manifest["config"][key] for key in ("digest", "size")} | {"mediaType": CONFIG}
            layers = [
                {"mediaType": str(layer["mediaType"]).replace(_DOCKER_LAYER, _OCI_LAYER)}
                | {key: layer[key] for key in ("digest", "size")}
                for layer in manifest["layers"]
            ]
            entry = layout.put_manifest(manifest_of(config, layers)) | {"annotations": {_ORIGINAL: digest}}
            layout.replace_manifests([*(d for d in layout.manifests() if _original(d) != digest), entry])
            return self._read(entry, image, digest)

    def _read(self, entry: Descriptor, image: str, digest: str) -> BaseImage:
        return replace(read_image(self._layout, entry), digest=digest, name=image)


def _original(entry: Descriptor) -> str | None:
    """The digest under which the registry has it: a manifest of Docker's is another one here."""
    found: str | None = (entry.get("annotations") or {}).get(_ORIGINAL)
    return found


async def _document(session: RegistrySession, reference: str) -> tuple[str, dict[str, Any]]:
    content = await session.get(f"manifests/{reference}", _ACCEPTED)
    if content is None:
        raise PlatformError(
            ErrorCode.NOT_FOUND, f"there is no image {session.repository} {reference}", "check its name and tag"
        )
    digest = sha256(content)
    if reference.startswith("sha256:") and digest != reference:
        raise PlatformError(
            ErrorCode.DATA_CORRUPT, f"{session.repository} gave another manifest than {reference}", "ask its owner"
        )
    try:
        found: dict[str, Any] = json.loads(content)
        for part in found.get("manifests") or [found["config"], *found["layers"]]:
            ImageLayout(Path()).path(part["digest"])
            int(part.get("size", 0))
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise _unusable(f"{session.repository}@{digest}", "has no usable manifest") from exc
    return digest, found


def _fits(entry: dict[str, Any]) -> bool:
    said = entry.get("platform") or {}
    return all(said.get(key) == value for key, value in machine_platform().items())


async def _download(session: RegistrySession, part: Descriptor, folder: Path) -> None:
    """As a file named by its digest."""
    path = folder / str(part["digest"]).removeprefix("sha256:")
    left = int(part["size"])
    with path.open("xb") as file:
        async with aclosing(session.download(f"blobs/{part['digest']}")) as chunks:
            async for chunk in chunks:
                left -= len(chunk)
                if left < 0:
                    break
                await asyncio.to_thread(file.write, chunk)
    if left != 0 or await asyncio.to_thread(_digest_of, path) != part["digest"]:
        raise PlatformError(
            ErrorCode.DATA_CORRUPT, f"{session.repository} gave other bytes than {part['digest']}", "try again"
        )


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _unusable(image: str, problem: str) -> PlatformError:
    return PlatformError(
        ErrorCode.FAILED_PRECONDITION, f"the base image {image} {problem}", "choose another one in build.yaml"
    )
