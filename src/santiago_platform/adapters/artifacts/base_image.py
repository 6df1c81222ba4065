"""The image that a release is laid over, out of an OCI layout in the workspace."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...domain.errors import ErrorCode, PlatformError
from .build import Base
from .oci import MANIFEST, Descriptor, ImageLayout

BASE_DIGEST = "org.opencontainers.image.base.digest"
BASE_NAME = "org.opencontainers.image.base.name"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def machine_platform() -> dict[str, str]:
    """This machine's, as an image's configuration says it."""
    machine = platform.machine()
    return {"architecture": _ARCHITECTURES.get(machine, machine), "os": "linux"}


@dataclass(frozen=True)
class BaseImage:
    """Without a layout: nothing, for this machine's own architecture. digest: as whoever made it knows it. name: of the
    image in a registry, as build.yaml says it."""

    layout: ImageLayout | None = None
    digest: str | None = None
    layers: tuple[Descriptor, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def platform(self) -> dict[str, str]:
        return machine_platform() | {key: self.config[key] for key in ("architecture", "os") if key in self.config}

    @property
    def annotations(self) -> dict[str, str]:
        """What the release's manifest says of it."""
        said = {BASE_DIGEST: self.digest or "", BASE_NAME: self.name}
        return {key: text for key, text in said.items() if text}

    @property
    def diff_ids(self) -> list[str]:
        return list(self.config.get("rootfs", {}).get("diff_ids", []))

    def copy_layers(self, into: ImageLayout) -> list[Descriptor]:
        """Needs `into.exclusive`. Raises PlatformError(DATA_CORRUPT) for a layer that is missing or was changed."""
        return [into.copy(layer, self.layout) for layer in self.layers] if self.layout is not None else []


def read_base(base: Base | None, root: Path) -> BaseImage:
    """Of a layout in the workspace `root`.

    Raises PlatformError(FAILED_PRECONDITION) where it is not an image layout within `root` with one such image.
    """
    if base is None or base.oci_layout is None:
        return BaseImage()
    path = (root / base.oci_layout).resolve()
    if not path.is_relative_to(root):
        raise _refused(base, "lies outside of the workspace")
    layout = ImageLayout(path)
    try:
        manifests = [d for d in layout.manifests() if d.get("mediaType") == MANIFEST and "artifactType" not in d]
        chosen = [d for d in manifests if base.digest in (None, d["digest"])]
        if len(chosen) != 1:
            raise _refused(base, f"holds {len(chosen)} images of {len(manifests)} that are meant; one is needed")
        return read_image(layout, chosen[0])
    except (KeyError, TypeError) as exc:
        raise _refused(base, "has no usable manifest") from exc


def read_image(layout: ImageLayout, entry: Descriptor) -> BaseImage:
    """Raises KeyError or TypeError for a manifest that is none of an image."""
    manifest = layout.read_json(entry)
    return BaseImage(layout, entry["digest"], tuple(manifest["layers"]), layout.read_json(manifest["config"]))


def _refused(base: Base, problem: str) -> PlatformError:
    return PlatformError(
        ErrorCode.FAILED_PRECONDITION,
        f"the base image {base.oci_layout!r} {problem}",
        "`base.oci_layout` is the path, from the workspace's root, of an OCI image layout "
        "(`skopeo copy ... oci:PATH`); `base.digest` picks one of several",
    )
