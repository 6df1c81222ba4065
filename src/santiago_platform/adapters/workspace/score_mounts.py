"""The `files` and `volumes` of a Score container: what it finds at which of its paths."""

from __future__ import annotations

import base64
import binascii
import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from ...domain.errors import ErrorCode, PlatformError
from ...domain.workload import File, Volume
from .score import Container, ContainerFile, ContainerVolume, Resource
from .yaml_document import Document, Path, nearest

E = TypeVar("E", ContainerFile, ContainerVolume)

_KERNELS = ("/proc", "/sys", "/dev")
_REFERENCE = re.compile(r"\$\{resources\.([^}]+)\}")
_VOLUME_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True)
class Mounts:
    """Resolves what is mounted into the containers of `document`.

    expand: a text of the file, with its path for errors. placeholders: what may stand in a file of the release, and
    what it stands for. Raises PlatformError: INVALID_ARGUMENT, UNSUPPORTED; both begin `WHERE:LINE: `.
    """

    document: Document
    resources: dict[str, Resource]
    expand: Callable[[str, Path], str]
    placeholders: Callable[[], tuple[tuple[str, str], ...]]

    def of(self, container: Container, at: Path) -> tuple[tuple[File, ...], tuple[Volume, ...]]:
        """Each by path."""
        files = [self._file(target, entry, path) for target, entry, path in _entries(container.files, (*at, "files"))]
        volumes = [self._volume(t, entry, path) for t, entry, path in _entries(container.volumes, (*at, "volumes"))]
        places = [*((file.path, at) for file, at in files), *((volume.path, at) for volume, at in volumes)]
        for (outer, _), (inner, path) in itertools.combinations(sorted(places, key=lambda found: found[0]), 2):
            if inner == outer or inner.startswith(f"{outer}/"):
                problem = "is there twice" if inner == outer else f"lies within {outer}, which is mounted too"
                raise self.document.error(path, f"{inner} {problem}", "choose another path for one of them")
        return (
            tuple(sorted((file for file, _ in files), key=lambda file: file.path)),
            tuple(sorted((volume for volume, _ in volumes), key=lambda volume: volume.path)),
        )

    def _file(self, target: str | None, entry: ContainerFile, at: Path) -> tuple[File, Path]:
        place, mode = self._place(target, at), int(entry.mode or "644", 8)
        if entry.content is not None:
            content = entry.content if entry.no_expand else self.expand(entry.content, (*at, "content"))
            return File(path=place, mode=mode, content=content), at
        if entry.binary_content is not None:
            try:
                base64.b64decode(entry.binary_content, validate=True)
            except (ValueError, binascii.Error) as exc:
                raise self.document.error(
                    (*at, "binaryContent"), "`binaryContent` is not base64", "`base64 -w0 FILE` writes it"
                ) from exc
            return File(path=place, mode=mode, content_base64=entry.binary_content), at
        source = (entry.source or "").removeprefix("./")
        if source.startswith("/") or not _plain(source.split("/")):
            raise self.document.error(
                (*at, "source"),
                f"the source {entry.source!r:.100} is no path within the service's folder",
                "put the file beside score.yaml, and name it relative to that",
            )
        placeholders = None if entry.no_expand else self.placeholders()
        return File(path=place, mode=mode, source=source, placeholders=placeholders), at

    def _volume(self, target: str | None, entry: ContainerVolume, at: Path) -> tuple[Volume, Path]:
        place = self._place(target, at)
        subpath = (entry.path or "").strip("/")
        if subpath and not _plain(subpath.split("/")):
            raise self.document.error(
                (*at, "path"), f"the path {entry.path!r:.100} leads out of the volume", "write it without `..`"
            )
        name = self._volume_name(entry.source, (*at, "source"))
        return Volume(path=place, name=name, subpath=subpath, read_only=entry.read_only), at

    def _volume_name(self, source: str, at: Path) -> str:
        reference = _REFERENCE.fullmatch(source)
        name = reference[1] if reference else source
        resource = self.resources.get(name)
        if resource is None and (reference or not _VOLUME_NAME.fullmatch(name)):
            volumes = [known for known, other in self.resources.items() if other.type == "volume"]
            raise self.document.error(
                at,
                f"there is no volume {source!r:.100}",
                nearest(name, volumes) or "add it to resources: NAME: {type: volume}, and write ${resources.NAME}",
            )
        if resource is not None:
            where: Path = ("resources", name)
            if resource.type != "volume":
                raise self._unsupported(
                    (*where, "type"), f"a resource of type {resource.type!r} is no volume", "write `type: volume`"
                )
            for key, value in (("id", resource.id), ("params", resource.params)):
                if value:
                    raise self._unsupported(
                        (*where, key),
                        f"a volume takes no `{key}`",
                        "it is a directory of the service's own: nobody else shares it, and it has no size",
                    )
        return name

    def _place(self, target: str | None, at: Path) -> str:
        """The absolute path at which something is mounted."""
        if not target:
            raise self.document.error(at, "`target` is missing", "write the absolute path that the program opens")
        place = target.rstrip("/")
        if not target.startswith("/") or not _plain(place[1:].split("/")):
            raise self.document.error(
                at, f"{target!r:.100} is no absolute path", "begin it with `/`, without `.`, `..` and `//` in it"
            )
        if any(place == top or place.startswith(f"{top}/") for top in _KERNELS):
            raise self._unsupported(at, f"{place} belongs to the kernel", "choose another path")
        return place

    def _unsupported(self, path: Path, problem: str, hint: str) -> PlatformError:
        return self.document.error(path, problem, hint, ErrorCode.UNSUPPORTED)


def _entries(entries: dict[str, E] | tuple[E, ...], at: Path) -> Iterable[tuple[str | None, E, Path]]:
    """Written as a map, by target, or as a list of things that have one."""
    if isinstance(entries, dict):
        return [(target, entry, (*at, target)) for target, entry in entries.items()]
    return [(entry.target, entry, (*at, i)) for i, entry in enumerate(entries)]


def _plain(parts: list[str]) -> bool:
    """Whether a path of these parts stays where it seems to be, and can be shown in one line."""
    return all(part not in ("", ".", "..") and part.isprintable() for part in parts)
