from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from ..domain.disk import DiskSpace
from ..domain.environment import Retention


class Disk(Protocol):
    """The disk that holds a workspace's state: how full it is, and what on it nothing uses any more."""

    def space(self) -> DiskSpace:
        """Looked at afresh, in microseconds: it may be asked before every change."""

    async def tidy(self, retention: Retention, releases: Collection[str]) -> Sequence[str]:
        """Removes what nothing uses and nobody is going to read, and says in words what it was.

        releases: digests of those that exist. Removed are logs of units that are gone, as `retention` says;
        unpacked files of releases that are gone, unless something runs in them; copies of the platform's programs
        that neither its units nor its processes name; left-overs of writes that a crash cut off. Never what runs,
        keys, rows, releases, volumes or the ship's log. A call removes a bounded number of things: call again where
        it removed some. Idempotent; a cancelled call leaves nothing half removed at its place.
        """
