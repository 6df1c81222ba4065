"""Free space: when it is little, and when it is too little to change anything."""

from __future__ import annotations

from enum import StrEnum

from .environment import DiskLimits
from .value import Value

RECOVERED = 1.25  # of a limit must be free before it counts as left behind, so that a disk at its limit is told once


class DiskLevel(StrEnum):
    ENOUGH = "enough"
    LOW = "low"  # told to whoever looks
    FULL = "full"  # nothing is changed any more; what is left keeps the ship's log and the database writable


class DiskSpace(Value):
    """Of the file system that holds a workspace's state, as an ordinary user may fill it."""

    free_bytes: int
    total_bytes: int

    def level(self, limits: DiskLimits) -> DiskLevel:
        if self.free_bytes < limits.stop_bytes:
            return DiskLevel.FULL
        return DiskLevel.LOW if self.free_bytes < limits.warn_bytes else DiskLevel.ENOUGH

    def told(self, before: DiskLevel, limits: DiskLimits) -> DiskLevel:
        """The level to tell, when `before` was told last: it rises at once, and falls a good way below the limit."""
        raised = DiskLimits(warn_bytes=_above(limits.warn_bytes), stop_bytes=_above(limits.stop_bytes))
        now, cautious = self.level(limits), self.level(raised)
        order = list(DiskLevel)
        return max(now, min(before, cautious, key=order.index), key=order.index)

    def __str__(self) -> str:
        return f"{size_text(self.free_bytes)} free of {size_text(self.total_bytes)}"


def size_text(count: int) -> str:
    """Bytes as people read them: `512.0 MiB`."""
    size, units = float(count), ["bytes", "KiB", "MiB", "GiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.0f} {units[0]}" if units[0] == "bytes" else f"{size:.1f} {units[0]}"


def _above(limit: int) -> int:
    return int(limit * RECOVERED)
