"""Gates that ask what was attested of the release: tests, coverage and scans."""

from __future__ import annotations

from abc import abstractmethod
from datetime import timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ..evidence import Coverage, Findings, Inspected, Ratio, ScanResults, SuiteResults
from ..gate import Answer, Facts, Gate, Outcome
from ..identity import Name

Limit = Annotated[int, Field(ge=0)]
UPLOAD = "role qa or pipeline uploads it: `santiago evidence add RELEASE FILE`"


class EvidenceGate(Gate):
    """names: of evidence that must be there; none means any, and all that is there must be good.

    max_age_days: older evidence does not count.
    """

    findings: ClassVar[str]

    names: tuple[Name, ...] = ()
    max_age_days: Annotated[float, Field(gt=0, le=3650)] | None = None

    def answer(self, facts: Facts) -> Answer:
        found = {i.attestation.name: i for i in facts.evidence if i.attestation.findings.type == self.findings}
        missing = [name for name in self.names if name not in found]
        if missing or not found:
            named = f" named {', '.join(missing)}" if missing else ""
            return self.says(
                Outcome.FAIL, f"no evidence of {self.findings}{named} is attested for this release", UPLOAD
            )
        wanted = [found[name] for name in sorted(self.names or found)]
        problems = [f"{i.attestation.name}: {problem}" for i in wanted if (problem := self._problem(i, facts))]
        if problems:
            return self.says(Outcome.FAIL, "; ".join(problems), UPLOAD, *wanted)
        said = "; ".join(f"{i.attestation.name}: {i.attestation.findings}" for i in wanted)
        return self.says(Outcome.PASS, said, "", *wanted)

    def _problem(self, inspected: Inspected, facts: Facts) -> str:
        """Why this evidence does not do; empty where it does."""
        age = (facts.now - inspected.attestation.at) / timedelta(days=1)
        if inspected.doubt:
            return f"does not count: {inspected.doubt}"
        if self.max_age_days is not None and age > self.max_age_days:
            return f"is {age:.1f} days old, older than {self.max_age_days:g}"
        return self.shortfall(inspected.attestation.findings)

    @abstractmethod
    def shortfall(self, findings: Findings) -> str:
        """What is not as the gate wants it; empty where all is."""


class TestsGate(EvidenceGate):
    """Test results, as JUnit XML. max_failures: errors count as failures. max_skipped: None means any number."""

    __test__ = False  # it is no class of tests

    findings: ClassVar[str] = "tests"

    type: Literal["tests"]
    min_tests: Annotated[int, Field(ge=1)] = 1
    max_failures: Limit = 0
    max_skipped: Limit | None = None

    def shortfall(self, findings: Findings) -> str:
        assert isinstance(findings, SuiteResults)  # noqa: S101 - by its type
        ran, failed = findings.tests - findings.skipped, findings.failures + findings.errors
        if ran < self.min_tests:
            return f"{ran} tests ran, {self.min_tests} must"
        if failed > self.max_failures:
            return f"{failed} of {ran} tests failed, {self.max_failures} may"
        if self.max_skipped is not None and findings.skipped > self.max_skipped:
            return f"{findings.skipped} tests were skipped, {self.max_skipped} may be"
        return ""


class CoverageGate(EvidenceGate):
    """Coverage, as Cobertura XML. Ratios of what is covered, 0 to 1; where a branch ratio is wanted, one without
    branches does not do."""

    findings: ClassVar[str] = "coverage"

    type: Literal["coverage"]
    min_line_ratio: Ratio = 0.8
    min_branch_ratio: Ratio | None = None

    def shortfall(self, findings: Findings) -> str:
        assert isinstance(findings, Coverage)  # noqa: S101 - by its type
        if findings.line_ratio < self.min_line_ratio:
            return f"{findings.line_ratio:.2%} of lines are covered, {self.min_line_ratio:.2%} must be"
        if self.min_branch_ratio is not None:
            if findings.branch_ratio is None:
                return f"no branches were counted, and {self.min_branch_ratio:.2%} of them must be covered"
            if findings.branch_ratio < self.min_branch_ratio:
                return f"{findings.branch_ratio:.2%} of branches are covered, {self.min_branch_ratio:.2%} must be"
        return ""


class ScanGate(EvidenceGate):
    """Scan results, as SARIF or Trivy's JSON. max_SEVERITY: findings of that severity; None means any number."""

    findings: ClassVar[str] = "scan"

    type: Literal["scan"]
    max_critical: Limit | None = 0
    max_high: Limit | None = 0
    max_medium: Limit | None = None
    max_low: Limit | None = None
    max_unrated: Limit | None = None

    def shortfall(self, findings: Findings) -> str:
        assert isinstance(findings, ScanResults)  # noqa: S101 - by its type
        if not findings.completed:
            return "the scan did not run to its end"
        limits = {name: getattr(self, f"max_{name}") for name in ("critical", "high", "medium", "low", "unrated")}
        over = [
            f"{found} {name}, {limit} may be"
            for name, limit in limits.items()
            if limit is not None and (found := getattr(findings, name)) > limit
        ]
        return "; ".join(over)
