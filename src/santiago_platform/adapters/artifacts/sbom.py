"""The software bill of materials of a release: CycloneDX 1.6, the same bytes for the same release."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path, PurePosixPath
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from .layer import PackedFile

MEDIA_TYPE = "application/vnd.cyclonedx+json"
LOCK_LIMIT_BYTES = 16 * 1024 * 1024
_PINNED = re.compile(r"^\s*(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[^\]]*\])?\s*==\s*(?P<version>[^\s;\\#,]+)")

Package = tuple[str, str, str]  # kind of the package URL, name, version


def bill_of_materials(
    service: str, commit: str, digest: str, committed_at: datetime, files: Iterable[PackedFile], root: Path
) -> bytes:
    """JSON. digest: of the manifest that it describes. files: of its layer. root: where they lie, for lock files.

    A lock file that cannot be read is named in the property `santiago:unread`.
    """
    release = Component(
        type=ComponentType.APPLICATION,
        name=service,
        version=commit,
        bom_ref="release",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest.removeprefix("sha256:"))],
    )
    packages: set[Package] = set()
    unread: list[Property] = []
    contents: list[Component] = []
    for file in files:
        contents.append(
            Component(
                type=ComponentType.FILE,
                name=file.path,
                bom_ref=f"file:{file.path}",
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=file.sha256)],
            )
        )
        reader = _reader(PurePosixPath(file.path).name)
        if reader is None:
            continue
        try:
            if file.size_bytes > LOCK_LIMIT_BYTES:
                raise ValueError("too large")
            packages.update(reader((root / file.path).read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            unread.append(Property(name="santiago:unread", value=file.path))
    libraries = [_library(*package) for package in packages]
    bom = Bom(
        serial_number=uuid5(NAMESPACE_URL, digest),
        components=[*contents, *libraries],
        metadata=BomMetaData(timestamp=committed_at, properties=unread, component=release),
    )
    bom.register_dependency(release, bom.components)
    return JsonV1Dot6(bom).output_as_string().encode()


def _reader(name: str) -> Callable[[str], Iterator[Package]] | None:
    """By the name of a lock file, what reads the packages in it."""
    if re.fullmatch(r"requirements[\w.-]*\.(txt|lock)", name):
        return _requirements
    if name == "package-lock.json":
        return _package_lock
    kind = {"uv.lock": "pypi", "poetry.lock": "pypi", "pdm.lock": "pypi", "Cargo.lock": "cargo"}.get(name)
    return (lambda text: _toml_lock(text, kind)) if kind else None


def _requirements(text: str) -> Iterator[Package]:
    for line in text.splitlines():
        if match := _PINNED.match(line):
            yield "pypi", match["name"], match["version"]


def _package_lock(text: str) -> Iterator[Package]:
    for path, package in json.loads(text).get("packages", {}).items():
        name = package.get("name") or path.rpartition("node_modules/")[2]
        if path and "version" in package and not package.get("link"):
            yield "npm", str(name), str(package["version"])


def _toml_lock(text: str, kind: str) -> Iterator[Package]:
    for package in tomllib.loads(text).get("package", []):
        if "version" in package:
            yield kind, str(package["name"]), str(package["version"])


def _library(kind: str, name: str, version: str) -> Component:
    namespace, _, plain = name.rpartition("/")
    url = PackageURL(type=kind, namespace=namespace or None, name=plain, version=version)
    return Component(type=ComponentType.LIBRARY, name=name, version=version, purl=url, bom_ref=url.to_string())
