from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Protocol

from ..domain.release import Release


class Artifacts(Protocol):
    """Builds, keeps and verifies releases: an OCI layout on disk or a registry."""

    async def resolve(self, git_ref: str) -> str:
        """The full commit hash of a git ref of the workspace. Raises NOT_FOUND; INVALID_ARGUMENT for a ref that
        could be taken for an option."""

    async def committed(self, service: str, after: str | None, commit: str) -> tuple[datetime, ...] | None:
        """When the commits of a service's folder were made that `commit` has and `after` has not, at most 1,000, newest
        first. after: None means that there was nothing before: the newest one alone. None where the repository does not
        have both."""

    async def build(self, service: str, commit: str) -> Release:
        """Snapshots the source at `commit`, runs the build once, stores, describes (SBOM) and signs the result.

        Idempotent: a release that exists for the service and commit is returned. A call that was killed leaves
        nothing that the next one trusts. Raises FAILED_PRECONDITION with the build's last output lines in
        `message` where the build fails, or the definition of the service is missing at that commit.
        """

    async def get(self, digest: str) -> Release:
        """By digest, or by the unique beginning of one (12 or more hex digits). Raises NOT_FOUND."""

    async def unpack(self, digest: str) -> Path:
        """A read-only directory with the release's files, every byte and the signature verified on the first
        unpacking in this place. Raises DATA_CORRUPT where a byte was changed or the signature does not hold."""

    async def has_base(self, service: str, commit: str) -> bool:
        """Whether the release of a service at a commit has a base image; builds nothing. False where its definition is
        missing or wrong, which the build tells."""

    async def export(self, digest: str, into: Path, *, referrers: bool = False) -> None:
        """Makes the existing, empty folder `into` an OCI image layout with the release's image, every byte and the
        signature verified. referrers: and, after it, its score, SBOM and signature. Raises NOT_FOUND, DATA_CORRUPT."""

    async def verify(self, digest: str) -> None:
        """Checks every byte of the stored release and its signature. Raises DATA_CORRUPT, NOT_FOUND."""

    async def list(self, service: str | None = None) -> list[Release]:
        """Newest first."""

    async def remove(self, digest: str) -> None:
        """Forgets a release and frees what no other one shares. Unknown is no error."""
