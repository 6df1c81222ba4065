"""Releases as OCI images: the manifest that names one, what refers to it, and the way back to its files."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ...domain.errors import ErrorCode, PlatformError
from ...domain.job import Job
from ...domain.release import Release
from ..file_lock import locked
from ..layout import Layout
from .base_image import BASE_DIGEST, BaseImage
from .layer import WORKING_DIRECTORY, PackedFile, extract, remove_tree
from .oci import CONFIG, EMPTY, LAYER, Descriptor, ImageLayout, canonical, confirm, manifest_of, sha256, sync_folder
from .sbom import MEDIA_TYPE as SBOM
from .sbom import bill_of_materials
from .signature import ENVELOPE, ReleaseKey, statement

SCORE = "application/vnd.score.v1b1+yaml"
JOBS = "application/vnd.santiago.jobs.v1+json"
PREFIX_DIGITS = 12

REVISION = "org.opencontainers.image.revision"
CREATED = "org.opencontainers.image.created"
REFERENCE = "org.opencontainers.image.ref.name"
SERVICE = "io.santiago.service"
SCORE_DIGEST = "io.santiago.score.digest"
JOBS_DIGEST = "io.santiago.jobs.digest"  # of a release without jobs there is none
# In the index alone: the digest of a release must not depend on when and with which key it was built.
BUILT = "io.santiago.built"
SBOM_DIGEST = "io.santiago.sbom.digest"
SIGNED_BY = "io.santiago.signed-by"
SUBJECT = "io.santiago.subject.digest"

_TEMPORARY = ".temporary-"
_JOBS = TypeAdapter(tuple[Job, ...])


class ImageStore:
    """All calls block. The index names each release's manifest, then what refers to it: score, SBOM, signature."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._oci = ImageLayout(layout.releases)
        self._key = ReleaseKey(layout.keys)

    def store(
        self,
        *,
        service: str,
        commit: str,
        committed_at: datetime,
        built_at: datetime,
        score: str,
        jobs: tuple[Job, ...],
        layer: Path,
        files: list[PackedFile],
        root: Path,
        below: BaseImage,
    ) -> Release:
        """Takes in a built layer. The release that is already there for the service and commit comes first."""
        oci = self._oci
        with oci.exclusive():
            known = self.find(service, commit)
            if known is not None:
                return known
            layers = [*below.copy_layers(oci), oci.adopt(layer, LAYER)]
            config = oci.put(canonical(_config(below, layers[-1], service, commit, committed_at)), CONFIG)
            text = oci.put(score.encode(), SCORE)
            defined = [oci.put(_JOBS.dump_json(jobs, exclude_defaults=True), JOBS)] if jobs else []
            annotations = {
                SERVICE: service,
                REVISION: commit,
                CREATED: committed_at.isoformat(),
                SCORE_DIGEST: text["digest"],
            } | below.annotations
            annotations |= {JOBS_DIGEST: defined[0]["digest"]} if defined else {}
            image = oci.put_manifest(manifest_of(config, layers, annotations))
            bom = oci.put(bill_of_materials(service, commit, image["digest"], committed_at, files, root), SBOM)
            said = statement(service, commit, image["digest"], committed_at, built_at, bom["digest"])
            envelope = oci.put(self._key.sign(canonical(said)), ENVELOPE)
            named = {
                REFERENCE: f"{service}-{commit[:PREFIX_DIGITS]}",
                BUILT: built_at.isoformat(),
                SBOM_DIGEST: bom["digest"],
                SIGNED_BY: self._key.id,
            }
            entry = image | {"annotations": named}
            referrers = [self._attach(image, part) for part in (text, *defined, bom, envelope)]
            oci.replace_manifests([*oci.manifests(), entry, *referrers])
            return self._release(entry)

    def find(self, service: str, commit: str) -> Release | None:
        return next((r for r in self.releases(service) if r.commit == commit), None)

    def get(self, digest: str) -> Release:
        return self._release(self._entry(digest))

    def releases(self, service: str | None = None) -> list[Release]:
        releases = [self._release(d) for d in self._images()]
        wanted = [r for r in releases if service in (None, r.service)]
        return sorted(wanted, key=lambda r: (r.built_at, r.digest), reverse=True)

    def verify(self, digest: str) -> None:
        with self._oci.shared():
            self._verify(self._entry(digest))

    def unpack(self, digest: str) -> Path:
        entry = self._entry(digest)
        unpacked = self._layout.unpacked
        target: Path = unpacked / entry["digest"].removeprefix("sha256:")
        for folder in (self._layout.state, unpacked):
            folder.mkdir(mode=0o700, exist_ok=True)
        with locked(unpacked), self._oci.shared():
            if target.is_dir():
                return target
            self._discard_temporary()
            temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=unpacked))
            try:
                layer = self._verify(entry)["layers"][-1]
                with self._oci.open(layer) as stream:
                    extract(stream, temporary, prefix=WORKING_DIRECTORY, read_only=True)
                    stream.drain()
                    confirm(layer, stream)
                temporary.rename(target)
                sync_folder(unpacked)
            finally:
                remove_tree(temporary)
        return target

    def export(self, digest: str, into: Path, *, referrers: bool) -> None:
        """Its blobs are links where the file system is the same, else copies."""
        entry = self._entry(digest)
        target = ImageLayout(into)
        with self._oci.shared(), target.exclusive():
            image = self._verify(entry)
            said = [d for d in self._oci.manifests() if referrers and _annotations(d).get(SUBJECT) == entry["digest"]]
            for manifest in (image, *map(self._oci.read_json, said)):
                for part in (manifest["config"], *manifest["layers"]):
                    target.link(part, self._oci)
            for named in (entry, *said):
                target.link(named, self._oci)
            kept = ("mediaType", "digest", "size", "artifactType")
            target.replace_manifests([{key: d[key] for key in kept if key in d} for d in (entry, *said)])

    def remove(self, digest: str) -> None:
        if all(entry["digest"] != digest for entry in self._images()):
            return
        with self._oci.exclusive():
            kept = [d for d in self._oci.manifests() if digest not in (d["digest"], _annotations(d).get(SUBJECT))]
            self._oci.replace_manifests(kept)
            self._oci.sweep()
        unpacked = self._layout.unpacked
        target = unpacked / digest.removeprefix("sha256:")
        if target.is_dir():
            with locked(unpacked):
                # Renamed first: a folder that is half removed must not be taken for a release.
                target.rename(tempfile.mkdtemp(prefix=_TEMPORARY, dir=unpacked))
                self._discard_temporary()

    def _discard_temporary(self) -> None:
        for left_over in self._layout.unpacked.glob(f"{_TEMPORARY}*"):
            remove_tree(left_over)

    def _attach(self, subject: Descriptor, part: Descriptor) -> Descriptor:
        kind = part["mediaType"]
        manifest = manifest_of(self._oci.put(b"{}", EMPTY), [part]) | {"artifactType": kind, "subject": subject}
        entry = self._oci.put_manifest(manifest)
        return entry | {"artifactType": kind, "annotations": {SUBJECT: subject["digest"]}}

    def _attached(self, subject: Descriptor, kind: str) -> bytes:
        """The blob of that kind that refers to `subject`, checked."""
        for entry in self._oci.manifests():
            if entry.get("artifactType") == kind and _annotations(entry).get(SUBJECT) == subject["digest"]:
                manifest = self._oci.read_json(entry)
                if manifest.get("subject", {}).get("digest") == subject["digest"]:
                    return self._oci.read(manifest["layers"][0])
        raise _corrupt(f"release {subject['digest']} has no {kind}")

    def _verify(self, entry: Descriptor) -> dict[str, Any]:
        """Checks every blob and the signature. Returns the manifest."""
        manifest = self._oci.read_json(entry)
        release = self._release(entry)
        try:
            for part in (manifest["config"], *manifest["layers"]):
                self._oci.check(part)
            if self._attached(entry, SCORE) != release.score.encode():
                raise _corrupt(f"release {release.digest} has another score.yaml attached")
            if release.jobs and _JOBS.validate_json(self._attached(entry, JOBS)) != release.jobs:
                raise _corrupt(f"release {release.digest} has other jobs attached")
            if sha256(self._attached(entry, SBOM)) != release.sbom:
                raise _corrupt(f"release {release.digest} has another SBOM attached")
            said, signer = self._key.open(self._attached(entry, ENVELOPE))
        except (KeyError, TypeError, IndexError, AttributeError) as exc:
            raise _corrupt(f"release {entry['digest']} is not complete", repr(exc)) from exc
        expected = statement(
            release.service, release.commit, release.digest, release.committed_at, release.built_at, release.sbom
        )
        if (said, signer) != (expected, release.signed_by):
            raise _corrupt(f"the index says of release {release.digest} what its signature does not")
        return manifest

    def _images(self) -> list[Descriptor]:
        return [d for d in self._oci.manifests() if "artifactType" not in d]

    def _entry(self, digest: str) -> Descriptor:
        """The release's place in the index."""
        digits = digest.removeprefix("sha256:")
        found = [d for d in self._images() if d["digest"].removeprefix("sha256:").startswith(digits)]
        if len(digits) < PREFIX_DIGITS or len(found) != 1:
            raise PlatformError(
                ErrorCode.NOT_FOUND,
                f"{digest[:80]} names several releases" if len(found) > 1 else f"there is no release {digest[:80]}",
                f"give the digest, or its first {PREFIX_DIGITS} or more hex digits, as a release shows it",
            )
        return found[0]

    def _release(self, entry: Descriptor) -> Release:
        manifest = self._oci.read_json(entry)
        try:
            said, named = manifest["annotations"], entry["annotations"]
            return Release(
                digest=entry["digest"],
                service=said[SERVICE],
                commit=said[REVISION],
                committed_at=datetime.fromisoformat(said[CREATED]),
                built_at=datetime.fromisoformat(named[BUILT]),
                score=self._oci.read({"digest": said[SCORE_DIGEST]}).decode(),
                local_only=BASE_DIGEST not in said,
                sbom=named[SBOM_DIGEST],
                signed_by=named[SIGNED_BY],
                jobs=self._jobs(said.get(JOBS_DIGEST)),
                size_bytes=sum(part["size"] for part in (entry, manifest["config"], *manifest["layers"])),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise _corrupt(f"blob {entry['digest']} is not the manifest of a release", repr(exc)) from exc

    def _jobs(self, digest: str | None) -> tuple[Job, ...]:
        return () if digest is None else _JOBS.validate_json(self._oci.read({"digest": digest}))


def _config(below: BaseImage, layer: Descriptor, service: str, commit: str, committed_at: datetime) -> dict[str, Any]:
    runtime = below.config.get("config") or {}
    labels = (runtime.get("Labels") or {}) | {SERVICE: service, REVISION: commit}
    return {
        **below.platform,
        "created": committed_at.isoformat(),
        "config": runtime | {"Labels": labels, "WorkingDir": f"/{WORKING_DIRECTORY}"},
        # The layer is not compressed, so its digest is that of its content.
        "rootfs": {"type": "layers", "diff_ids": [*below.diff_ids, layer["digest"]]},
    }


def _annotations(entry: Descriptor) -> dict[str, str]:
    found = entry.get("annotations")
    return found if isinstance(found, dict) else {}


def _corrupt(problem: str, internal: str = "") -> PlatformError:
    return PlatformError(ErrorCode.DATA_CORRUPT, problem, "remove the release and build it again", internal=internal)
