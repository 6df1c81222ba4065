"""Evidence: what tests, coverage and scans found of one release, and who attested it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from .identity import Name, Principal
from .release import Digest
from .value import Value

ABSENT = "absent"  # in place of a file that is not there

Count = Annotated[int, Field(ge=0)]
Ratio = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class EvidenceKind(StrEnum):
    """The formats that are read."""

    JUNIT = "junit"  # test results, XML
    COBERTURA = "cobertura"  # coverage, XML
    SARIF = "sarif"  # scan results, JSON, version 2.1.0
    TRIVY = "trivy"  # scan results, Trivy's own JSON


class SuiteResults(Value):
    """tests: all that are named, those that were skipped too. failures and errors: as JUnit tells them apart."""

    type: Literal["tests"]
    tests: Count
    failures: Count = 0
    errors: Count = 0
    skipped: Count = 0

    def __str__(self) -> str:
        return f"{self.tests} tests, {self.failures} failures, {self.errors} errors, {self.skipped} skipped"


class Coverage(Value):
    """branch_ratio: None where no branches were counted."""

    type: Literal["coverage"]
    line_ratio: Ratio
    branch_ratio: Ratio | None = None

    def __str__(self) -> str:
        branches = "" if self.branch_ratio is None else f", {self.branch_ratio:.1%} of branches"
        return f"{self.line_ratio:.1%} of lines{branches}"


class ScanResults(Value):
    """Findings by severity; unrated: without one that is known. completed: the scanner says that it ran to its end."""

    type: Literal["scan"]
    critical: Count = 0
    high: Count = 0
    medium: Count = 0
    low: Count = 0
    unrated: Count = 0
    completed: bool = True

    def __str__(self) -> str:
        counts = ", ".join(f"{getattr(self, name)} {name}" for name in ("critical", "high", "medium", "low", "unrated"))
        return counts if self.completed else f"{counts}; the scan did not complete"


# `type` has no default, since what equals its default is not stored.
Findings = Annotated[SuiteResults | Coverage | ScanResults, Field(discriminator="type")]


class Attestation(Value):
    """One file that was attested.

    release: the digest that it is about, and no other. name: tells suites or scanners apart; a newer file of the
    same type and name takes the older one's place. sha256: of the file, 64 hex digits. principal: as it was then.
    """

    id: str
    release: Digest
    service: Name
    kind: EvidenceKind
    name: Name = "default"
    sha256: str
    size_bytes: Count
    principal: Principal
    at: datetime
    findings: Findings


class Inspected(Value):
    """An attestation as it is found when a gate looks. doubt: why it does not count, in words; empty where it does."""

    attestation: Attestation
    doubt: str = ""

    def __str__(self) -> str:
        e = self.attestation
        who = f"attested by {e.principal.name} ({e.principal.role}) at {e.at:%Y-%m-%d %H:%M:%S}Z"
        return f"{e.kind} {e.name}: {e.findings}; {who}; sha256 {e.sha256[:12]}"


def kept_as(size_bytes: int, sha256: str) -> str:
    """What must be read back of a file, as canonical text."""
    return f"{size_bytes} bytes, sha256 {sha256}"


def newest(attestations: Iterable[Attestation]) -> tuple[Attestation, ...]:
    """The last one of each type and name, in their order. attestations: oldest first."""
    last = {(a.findings.type, a.name): a for a in attestations}
    return tuple(last[key] for key in sorted(last))
