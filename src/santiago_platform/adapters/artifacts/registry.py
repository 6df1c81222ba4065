"""Releases in a registry: pushed with what refers to them, and read back.

Source: https://github.com/opencontainers/distribution-spec, spec.md (1.1): pushing manifests with a subject, and the
referrers tag for registries that do not know of it.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from ...domain.errors import ErrorCode, PlatformError
from ...domain.proof import Claim, Observation
from ...domain.release import Release
from ...ports.artifacts import Artifacts
from .oci import INDEX, MANIFEST, Descriptor, ImageLayout, canonical, sha256
from .registry_session import RegistrySession

_CHUNK_BYTES = 1 << 20
_SUBJECT = re.compile(r"(image|referrers) ([^\s@]+)(?:@(sha256:[0-9a-f]{64})|:([\w.-]+))")


class OciRegistry:
    """Implements ports.registry.Registry.

    scratch: an existing private folder of the releases' file system. auth_file: of the moment.
    """

    def __init__(self, artifacts: Artifacts, scratch: Path, auth_file: Callable[[], Path | None]) -> None:
        self._artifacts = artifacts
        self._scratch = scratch
        self._auth_file = auth_file

    async def push(self, release: Release, repository: str) -> list[Claim]:
        with tempfile.TemporaryDirectory(dir=self._scratch, prefix=".push-") as folder:
            await self._artifacts.export(release.digest, Path(folder), referrers=True)
            layout = ImageLayout(Path(folder))
            image, *referrers = layout.manifests()
            async with RegistrySession(repository, auth_file=self._auth_file(), actions="pull,push") as session:
                await _push_manifest(session, layout, image, release.tag)
                for referrer in referrers:
                    known = await _push_manifest(session, layout, referrer, referrer["digest"])
                    if not known:
                        await _note_referrer(session, image, referrer)
        return [
            Claim(subject=f"image {repository}:{release.tag}", expected=image["digest"]),
            Claim(subject=f"referrers {repository}@{image['digest']}", expected=_types(referrers)),
        ]

    async def observe(self, claims: Sequence[Claim]) -> list[Observation]:
        return [await self._observe(claim.subject) for claim in claims]

    async def _observe(self, subject: str) -> Observation:
        match = _SUBJECT.fullmatch(subject)
        if match is None:
            return Observation(subject=subject, value=None, source="nobody", detail="unknown kind of subject")
        kind, repository, digest, tag = match.groups()
        reference = digest or tag
        source = f"registry {repository.partition('/')[0]}"
        try:
            async with RegistrySession(repository, auth_file=self._auth_file()) as session:
                if kind == "referrers":
                    value = _types(await _referrers(session, reference))
                else:
                    content = await session.get(f"manifests/{reference}", MANIFEST)
                    value = sha256(content) if content is not None else "none"
        except PlatformError as exc:
            return Observation(subject=subject, value=None, source=source, detail=exc.message)
        return Observation(subject=subject, value=value, source=source)


async def _push_manifest(session: RegistrySession, layout: ImageLayout, entry: Descriptor, reference: str) -> bool:
    """A manifest after all that it names. Returns whether the registry keeps account of subjects by itself."""
    manifest = layout.read_json(entry)
    for part in (manifest["config"], *manifest["layers"]):
        if not await session.exists(f"blobs/{part['digest']}"):
            path = layout.path(part["digest"])
            await session.upload(part["digest"], part["size"], lambda path=path: _chunks(path))  # type: ignore[misc]
    headers = await session.put(f"manifests/{reference}", layout.read(entry), MANIFEST)
    return "oci-subject" in headers


async def _note_referrer(session: RegistrySession, subject: Descriptor, referrer: Descriptor) -> None:
    """In the index under the subject's tag. Two that push at once may lose one's entry: pushing again mends it."""
    tag = _referrers_tag(subject["digest"])
    known = await _listed(session, f"manifests/{tag}")
    if all(entry.get("digest") != referrer["digest"] for entry in known):
        added = {key: referrer[key] for key in ("mediaType", "digest", "size", "artifactType")}
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*known, added]}
        await session.put(f"manifests/{tag}", canonical(index), INDEX)


async def _referrers(session: RegistrySession, digest: str) -> list[Descriptor]:
    return await _listed(session, f"referrers/{digest}") or await _listed(
        session, f"manifests/{_referrers_tag(digest)}"
    )


def _referrers_tag(digest: str) -> str:
    return digest.replace(":", "-")


async def _listed(session: RegistrySession, path: str) -> list[Descriptor]:
    """The entries of an index; none where there is no index."""
    content = await session.get(path, INDEX)
    try:
        found: Any = json.loads(content)["manifests"] if content is not None else []
        return [dict(entry) for entry in found]
    except (ValueError, KeyError, TypeError) as exc:
        raise PlatformError(
            ErrorCode.UNAVAILABLE, f"{session.repository}: {path} is no index", "see the log of the registry"
        ) from exc


def _types(referrers: Sequence[Descriptor]) -> str:
    return ", ".join(sorted({str(entry.get("artifactType")) for entry in referrers})) or "none"


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            yield chunk
