"""A gate that asks whether the release is whole, signed and described."""

from __future__ import annotations

from typing import Literal

from ..gate import Answer, Facts, Gate, Outcome, Unknown

REBUILD = "build the release anew; who changed it is worth knowing"


class SignatureGate(Gate):
    """Every byte of the release, its SBOM and its signature hold. signers: ids of keys; none means any."""

    type: Literal["signature"]
    signers: tuple[str, ...] = ()

    def answer(self, facts: Facts) -> Answer:
        assert facts.release is not None  # noqa: S101 - it is of the release
        release = facts.release
        evidence = (f"signed by {release.signed_by}", f"SBOM {release.sbom}")
        if isinstance(facts.damage, Unknown):
            return self.says(Outcome.UNKNOWN, facts.damage.reason, "try again", *evidence)
        if facts.damage:
            return self.says(Outcome.FAIL, facts.damage, REBUILD, *evidence)
        if self.signers and release.signed_by not in self.signers:
            reason = f"it is signed by {release.signed_by}, not by {' or '.join(self.signers)}"
            return self.says(Outcome.FAIL, reason, "build it where one of these keys is", *evidence)
        return self.says(Outcome.PASS, "every byte, the SBOM and the signature hold", "", *evidence)
