from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..domain.report import Report


class Reports(Protocol):
    """Keeps reports as files that people read: Markdown, HTML, and charts where they can be drawn."""

    async def exists(self, name: str) -> bool:
        """Whether a whole report of that name is kept."""

    async def keep(self, report: Report) -> Sequence[str]:
        """Writes it over the one of its name, all of it or nothing. Returns its files, relative to the workspace.

        Charts are left out, and the report says so, where nothing here draws them.
        May take some seconds. Raises PlatformError: RESOURCE_EXHAUSTED, FAILED_PRECONDITION where it cannot be written,
        or where something else is in its place.
        """
