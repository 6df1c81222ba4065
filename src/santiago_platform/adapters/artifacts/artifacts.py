"""Releases in an OCI layout on this machine: built once from a commit, described, signed, verified."""

from __future__ import annotations

import asyncio
import errno
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from ...domain.errors import ErrorCode, PlatformError
from ...domain.release import Release
from ...ports.clock import Clock
from ..file_lock import locked, locked_if_free
from ..git import Git, GitError
from ..layout import Layout
from ..workspace.score import is_name, read_score
from ..workspace.text_file import decode
from ..workspace.workspace import build_path, score_path
from ..workspace.yaml_document import LIMIT_BYTES, NAME_RULE
from .base_image import BaseImage, read_base
from .base_registry import BaseImages
from .build import Base, Build, read_build, run_build
from .image import ImageStore
from .layer import PackedFile, extract, pack, remove_tree
from .single_flight import SingleFlight

T = TypeVar("T")

COMMITS_KEPT = 10_000  # answers about what lies between two commits: of more deploys than a report looks at


class LocalArtifacts:
    """Implements ports.artifacts.Artifacts.

    A build works in a private folder of its own, and stores all of its result at once; a folder that a killed
    build left is removed by the next build.
    """

    def __init__(self, layout: Layout, clock: Clock, *, auth_file: Callable[[], Path | None] = lambda: None) -> None:
        """auth_file: of the credentials for registries that base images come from."""
        self._layout = layout
        self._clock = clock
        self._git = Git(layout.root)
        self._images = ImageStore(layout)
        self._bases = BaseImages(layout.state / "bases", auth_file)
        self._committed: dict[tuple[str, str | None, str], tuple[datetime, ...]] = {}  # of commits, which never change
        self._builds: SingleFlight[Release] = SingleFlight()

    async def resolve(self, git_ref: str) -> str:
        return await self._git.resolve(git_ref)

    async def committed(self, service: str, after: str | None, commit: str) -> tuple[datetime, ...] | None:
        asked = (service, after, commit)
        if asked not in self._committed:
            found = await self._git.committed(f"services/{service}", after, commit)
            if found is None:
                return None  # it may be fetched yet
            while len(self._committed) >= COMMITS_KEPT:
                self._committed.pop(next(iter(self._committed)))
            self._committed[asked] = found
        return self._committed[asked]

    async def build(self, service: str, commit: str) -> Release:
        if not is_name(service):
            raise PlatformError(ErrorCode.INVALID_ARGUMENT, f"{service!r:.60} cannot name a service", NAME_RULE)
        full = await self._git.resolve(commit)
        return await self._builds.run((service, full), lambda: self._build(service, full))

    async def get(self, digest: str) -> Release:
        return await _blocking(self._images.get, digest)

    async def list(self, service: str | None = None) -> list[Release]:
        return await _blocking(self._images.releases, service)

    async def verify(self, digest: str) -> None:
        await _blocking(self._images.verify, digest)

    async def unpack(self, digest: str) -> Path:
        return await _blocking(self._images.unpack, digest)

    async def has_base(self, service: str, commit: str) -> bool:
        try:
            text = await self._git.text(commit, build_path(service), limit_bytes=LIMIT_BYTES)
            return read_build(text, build_path(service)).base is not None
        except (GitError, PlatformError):
            return False

    async def export(self, digest: str, into: Path, *, referrers: bool = False) -> None:
        await _blocking(partial(self._images.export, digest, into, referrers=referrers))

    async def remove(self, digest: str) -> None:
        await _blocking(self._images.remove, digest)

    async def _build(self, service: str, commit: str) -> Release:
        known = await _blocking(self._images.find, service, commit)
        if known is not None:
            return known
        if not await self._git.exists(commit, score_path(service)):
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                f"{score_path(service)} is not in commit {commit[:12]}",
                "commit the service's folder: a release is built from what is committed",
            )
        async with self._folder() as folder:
            committed_at = await self._git.committed_at(commit)
            archive, source = folder / "source.tar", folder / "source"
            await self._git.archive(commit, f"services/{service}", archive)
            definition = await _blocking(_open_snapshot, archive, source, service, commit)
            below = await self._base(definition.build.base)
            await run_build(
                definition.build,
                source,
                scratch=folder,
                epoch=int(committed_at.timestamp()),
                subject=f"{service} at {commit[:12]}",
            )
            return await _blocking(self._store, folder, definition, below, service, commit, committed_at)

    async def _base(self, base: Base | None) -> BaseImage:
        if base is not None and base.image is not None:
            return await self._bases.fetch(base.image)
        return await _blocking(read_base, base, self._layout.root)

    def _store(
        self, folder: Path, definition: _Definition, below: BaseImage, service: str, commit: str, committed_at: datetime
    ) -> Release:
        layer = folder / "layer.tar"
        with layer.open("wb") as file:
            files: list[PackedFile] = pack(
                folder / "source", definition.build.outputs, file, mtime=int(committed_at.timestamp())
            )
        return self._images.store(
            service=service,
            commit=commit,
            committed_at=committed_at,
            built_at=self._clock.now(),
            score=definition.score,
            jobs=tuple(job.job(name) for name, job in definition.build.jobs.items()),
            layer=layer,
            files=files,
            root=folder / "source",
            below=below,
        )

    @asynccontextmanager
    async def _folder(self) -> AsyncIterator[Path]:
        """A private folder for one build, locked as long as the build lives."""
        folder, lock = await _blocking(_make_folder, self._layout)
        with lock:  # until it is gone: another build would take it for a left-over, and remove it at the same time
            try:
                yield folder
            finally:
                await _blocking(remove_tree, folder)


def _make_folder(layout: Layout) -> tuple[Path, ExitStack]:
    """The folder, and its lock, held."""
    builds = layout.builds
    for parent in (layout.state, builds):
        parent.mkdir(mode=0o700, exist_ok=True)
    lock = ExitStack()
    with locked(builds):  # so that no other build takes the new folder for a left-over before it is locked
        for left_over in builds.iterdir():
            # What a killed build's own processes still write to is left to the next build.
            with locked_if_free(left_over) as free, suppress(OSError):
                if free:
                    remove_tree(left_over)
        folder = Path(tempfile.mkdtemp(dir=builds))
        lock.enter_context(locked(folder))
    return folder, lock


@dataclass(frozen=True)
class _Definition:
    score: str
    build: Build


def _open_snapshot(archive: Path, source: Path, service: str, commit: str) -> _Definition:
    """Extracts the service's folder, and reads its definition from the archive itself: no link is followed."""
    texts = {}
    with tarfile.open(archive) as tar:
        for path in (score_path(service), build_path(service)):
            where = f"{path} at {commit[:12]}"
            try:
                member = tar.getmember(path)
            except KeyError:
                continue
            content = tar.extractfile(member) if member.isreg() and member.size <= LIMIT_BYTES else None
            if content is None:
                raise PlatformError(
                    ErrorCode.INVALID_ARGUMENT,
                    f"{where}:1: is not a regular file of at most {LIMIT_BYTES // 1024} KiB",
                    "put the text itself there",
                )
            texts[path] = decode(content.read(), where)
    where = f"{score_path(service)} at {commit[:12]}"
    score = texts.get(score_path(service), "")
    workload, document = read_score(score, where)
    if workload.metadata.name != service:
        raise document.error(
            ("metadata", "name"),
            f"the workload is named {workload.metadata.name!r}, its folder {service!r}",
            f"write `name: {service}`, or rename the folder",
        )
    build = read_build(texts.get(build_path(service), ""), f"{build_path(service)} at {commit[:12]}")
    source.mkdir(mode=0o700)
    with archive.open("rb") as stream:
        extract(stream, source, prefix=f"services/{service}")
    archive.unlink()
    return _Definition(score, build)


async def _blocking(work: Callable[..., T], *arguments: object) -> T:
    """Runs `work` in a thread, and waits for its end also when it is cancelled: what it works on outlives it."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PlatformError(
                ErrorCode.RESOURCE_EXHAUSTED,
                "no space is left for releases",
                "free some; `releases` in santiago.yaml says how many are kept",
            ) from exc
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"a release cannot be read or written: {exc.strerror}: {exc.filename}",
            "check the owner and the modes of .santiago",
        ) from exc
    finally:
        await asyncio.wait({task})
