from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..domain.proof import Claim, Observation


class Probe(Protocol):
    """Looks whether a claim is so, by other ways than those that made it so. Reads only.

    Subjects that every platform answers (SERVICE/ENVIRONMENT is `S/E`):
      `route S/E`      canonical weights, as `weights_text` gives: asked of each live proxy
      `rules S/E`      what the route does besides its weights, as `rules_text` gives: asked of each live proxy
      `instances S/E VERSION`  how many live processes run that version: asked of the operating system
      `serves S/E`     the version(s) that answered real requests through the ingress, sorted, comma-separated;
                       `serves S/E h2c` where some of them may answer gRPC alone
      `flag KEY ENVIRONMENT`  what clients read of a feature flag, as `served_as` gives: asked over OFREP
      `evidence RELEASE SHA256`  the file that was attested of a release, as `kept_as` gives: read from where it is kept
    """

    async def observe(self, claims: Sequence[Claim]) -> list[Observation]:
        """One or more observations for each claim's subject. What could not be asked has value None and says why."""
