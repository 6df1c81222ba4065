"""Proof of effect: what was claimed, what was seen, and whether they agree."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

from .value import Value


class Verdict(StrEnum):
    MATCH = "MATCH"
    DRIFT = "DRIFT"
    UNVERIFIABLE = "UNVERIFIABLE"


class Claim(Value):
    """What should be so. subject: what is looked at; expected: canonical text of the desired state."""

    subject: str
    expected: str


class Observation(Value):
    """What a probe saw. value None: the probe could not look; `source` says who was asked."""

    subject: str
    value: str | None
    source: str
    detail: str = ""


class Evidence(Value):
    """A claim held against the observations of its subject."""

    subject: str
    expected: str
    observed: str | None
    source: str
    verdict: Verdict
    detail: str = ""


class Proof(Value):
    """notes: what a reader should know and no claim is about, such as a limit that the kernel does not enforce."""

    verdict: Verdict
    evidence: tuple[Evidence, ...]
    at: datetime
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """One line for people: the verdict and what decided it."""
        if self.verdict is Verdict.MATCH:
            return f"MATCH ({len(self.evidence)} observations agree)"
        worst = [e for e in self.evidence if e.verdict is self.verdict]
        said = "; ".join(f"{e.subject}: expected {e.expected}, saw {e.observed} ({e.source})" for e in worst[:3])
        return f"{self.verdict} ({said})" if said else f"{self.verdict} (nothing was claimed)"


def prove(claims: Iterable[Claim], observations: Iterable[Observation], at: datetime) -> Proof:
    """Holds every claim against every observation of its subject.

    One observation that differs is DRIFT. Otherwise a claim that nobody could look at, or an empty set of
    claims, is UNVERIFIABLE: what was not read back is not called done.
    """
    seen: dict[str, list[Observation]] = {}
    for observation in observations:
        seen.setdefault(observation.subject, []).append(observation)
    evidence: list[Evidence] = []
    for claim in claims:
        for o in seen.get(claim.subject) or [Observation(subject=claim.subject, value=None, source="nobody")]:
            if o.value is None:
                verdict = Verdict.UNVERIFIABLE
            else:
                verdict = Verdict.MATCH if o.value == claim.expected else Verdict.DRIFT
            evidence.append(
                Evidence(
                    subject=claim.subject,
                    expected=claim.expected,
                    observed=o.value,
                    source=o.source,
                    verdict=verdict,
                    detail=o.detail,
                )
            )
    verdicts = {e.verdict for e in evidence}
    if Verdict.DRIFT in verdicts:
        overall = Verdict.DRIFT
    elif Verdict.UNVERIFIABLE in verdicts or not evidence:
        overall = Verdict.UNVERIFIABLE
    else:
        overall = Verdict.MATCH
    return Proof(verdict=overall, evidence=tuple(evidence), at=at)
