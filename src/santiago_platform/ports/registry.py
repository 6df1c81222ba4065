from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..domain.proof import Claim, Observation
from ..domain.release import Release


class Registry(Protocol):
    """Where releases are kept for other machines: an OCI registry."""

    async def push(self, release: Release, repository: str) -> list[Claim]:
        """Uploads the release's image under its own digest and the tag `release.tag`, and its score, SBOM and
        signature as what refers to it. Idempotent: what is there is left as it is.

        repository: HOST[:PORT]/PATH. Returns what should be so now, for `observe`. Raises PlatformError: NOT_FOUND
        (the release), DATA_CORRUPT, UNAVAILABLE, PERMISSION_DENIED where the registry wants other credentials.
        """

    async def observe(self, claims: Sequence[Claim]) -> list[Observation]:
        """Asks the registry itself, anew. Never raises PlatformError: who does not answer is observed as None."""
