from __future__ import annotations

from typing import Protocol

from ..domain.evidence import EvidenceKind, Findings
from ..domain.value import Value


class Parsed(Value):
    kind: EvidenceKind
    findings: Findings


class Evidence(Protocol):
    """Reads what tests, coverage and scans found, and keeps the files. All calls may take as long as the file asks."""

    async def parse(self, content: bytes, kind: EvidenceKind | None) -> Parsed:
        """What an uploaded file says. kind: None recognises it.

        The content is a stranger's: raises INVALID_ARGUMENT, in bounded time and memory, for whatever is not wholly
        of that kind; entities are neither expanded nor fetched.
        """

    async def keep(self, release: str, content: bytes) -> str:
        """Stores the file durably and returns its SHA-256, 64 hex digits. Idempotent. Raises RESOURCE_EXHAUSTED."""

    async def doubt(self, release: str, sha256: str) -> str:
        """Why the file that was kept is not what it was, in words; empty where every byte is the same."""

    async def forget(self, release: str) -> None:
        """Removes the files of a release. Idempotent."""
