from __future__ import annotations

from collections.abc import Collection, Sequence

from ...domain.disk import DiskSpace
from ...domain.environment import Retention


class FakeDisk:
    """As full as `free_bytes` says; `left_over` is what the next `tidy` removes."""

    def __init__(self, free_bytes: int = 100 << 30, total_bytes: int = 200 << 30) -> None:
        self.free_bytes = free_bytes
        self.total_bytes = total_bytes
        self.left_over: list[str] = []
        self.tidied: list[tuple[Retention, frozenset[str]]] = []

    def space(self) -> DiskSpace:
        return DiskSpace(free_bytes=self.free_bytes, total_bytes=self.total_bytes)

    async def tidy(self, retention: Retention, releases: Collection[str]) -> Sequence[str]:
        self.tidied.append((retention, frozenset(releases)))
        removed, self.left_over = self.left_over, []
        return removed
