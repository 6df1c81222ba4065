from __future__ import annotations

from typing import Protocol


class Postmortems(Protocol):
    """Keeps post-mortems where people read and go on writing them."""

    async def write(self, name: str, text: str, *, replaces: str = "") -> str:
        """Writes the draft `name` (`YYYY-MM-DD-ID.md`) and returns its path in the workspace.

        Idempotent: the same text again changes nothing. replaces: the SHA-256 of the draft that was written before and
        may be replaced. What somebody has changed since is left as it is, and the draft goes beside it (`...-2.md`).
        Raises PlatformError: INVALID_ARGUMENT for another name, RESOURCE_EXHAUSTED, UNAVAILABLE.
        """

    async def read(self, path: str) -> str | None:
        """The text at a path that `write` returned; None where it is gone."""
