"""The image that a release is laid over, out of an OCI layout in the workspace."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...domain.errors import ErrorCode, PlatformError
from .build import Base
from .oci import MANIFEST, Descriptor, ImageLayout

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class BaseImage:
    """Without a layout: nothing, for this machine's own architecture."""

    layout: ImageLayout | None = None
    digest: str | None = None
    layers: tuple[Descriptor, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def platform(self) -> dict[str, str]:
        machine = platform.machine()
        return {
            "architecture": self.config.get("architecture", _ARCHITECTURES.get(machine, machine)),
            "os": self.config.get("os", "linux"),
        }

    @property
    def diff_ids(self) -> list[str]:
        return list(self.config.get("rootfs", {}).get("diff_ids", []))

    def copy_layers(self, into: ImageLayout) -> list[Descriptor]:
        """Needs `into.exclusive`. Raises PlatformError(DATA_CORRUPT) for a layer that is missing or was changed."""
        return [into.copy(layer, self.layout) for layer in self.layers] if self.layout is not None else []


def read_base(base: Base | None, root: Path) -> BaseImage:
    """Raises PlatformError(FAILED_PRECONDITION) where it is not an image layout within `root` with one such image."""
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
        manifest = layout.read_json(chosen[0])
        return BaseImage(layout, chosen[0]["digest"], tuple(manifest["layers"]), layout.read_json(manifest["config"]))
    except (KeyError, TypeError) as exc:
        raise _refused(base, "has no usable manifest") from exc


def _refused(base: Base, problem: str) -> PlatformError:
    return PlatformError(
        ErrorCode.FAILED_PRECONDITION,
        f"the base image {base.oci_layout!r} {problem}",
        "`base.oci_layout` is the path, from the workspace's root, of an OCI image layout "
        "(`skopeo copy ... oci:PATH`); `base.digest` picks one of several",
    )
