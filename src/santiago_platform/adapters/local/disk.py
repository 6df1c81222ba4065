"""The disk that holds the workspace's state."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from ...domain.disk import DiskSpace
from ...domain.environment import Retention
from ..layout import Layout
from .retention import remove_unused


def space_at(place: Path) -> DiskSpace:
    """Of the file system of `place`, or of the nearest folder above it that exists."""
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    return DiskSpace(free_bytes=usage.free, total_bytes=usage.total)


class LocalDisk:
    """Implements ports.disk.Disk. space: `space_at`, or what stands in for it. now: Unix seconds."""

    def __init__(
        self,
        layout: Layout,
        *,
        space: Callable[[Path], DiskSpace] = space_at,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._layout = layout
        self._space = space
        self._now = now

    def space(self) -> DiskSpace:
        return self._space(self._layout.state)

    async def tidy(self, retention: Retention, releases: Collection[str]) -> Sequence[str]:
        return await asyncio.to_thread(remove_unused, self._layout, retention, releases, self._now())
