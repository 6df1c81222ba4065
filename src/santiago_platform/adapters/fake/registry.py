from __future__ import annotations

from collections.abc import Sequence

from ...domain.proof import Claim, Observation
from ...domain.release import Release
from ...ports.artifacts import Artifacts


class FakeRegistry:
    """Images in a dictionary. sabotaged: says done, does nothing."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts
        self.images: dict[str, str] = {}
        self.sabotaged = False

    async def push(self, release: Release, repository: str) -> list[Claim]:
        await self._artifacts.get(release.digest)
        subject = f"image {repository}:{release.tag}"
        if not self.sabotaged:
            self.images[subject] = release.digest
        return [Claim(subject=subject, expected=release.digest)]

    async def observe(self, claims: Sequence[Claim]) -> list[Observation]:
        return [
            Observation(subject=claim.subject, value=self.images.get(claim.subject, "none"), source="the fake registry")
            for claim in claims
        ]
