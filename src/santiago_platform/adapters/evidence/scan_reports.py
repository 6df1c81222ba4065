"""SARIF and Trivy's JSON: findings of scanners, counted by severity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...domain.errors import ErrorCode, PlatformError
from ...domain.evidence import EvidenceKind, ScanResults
from ...ports.evidence import Parsed

SEVERITIES = frozenset({"critical", "high", "medium", "low"})


class _Part(BaseModel):
    """Only what is used is named; the rest is passed over."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)


class _Configuration(_Part):
    level: str = "warning"


class _Rule(_Part):
    id: str = ""
    configuration: _Configuration = Field(_Configuration(), alias="defaultConfiguration")
    properties: dict[str, Any] = {}


class _Component(_Part):
    rules: list[_Rule] = []


class _Tool(_Part):
    driver: _Component
    extensions: list[_Component] = []


class _RuleReference(_Part):
    id: str = ""


class _Suppression(_Part):
    status: str = "accepted"


class _Result(_Part):
    rule_id: str = Field("", alias="ruleId")
    rule_index: int = Field(-1, alias="ruleIndex")
    rule: _RuleReference = _RuleReference()
    kind: str = "fail"
    level: str | None = None
    baseline: str = Field("", alias="baselineState")
    suppressions: list[_Suppression] | None = None
    properties: dict[str, Any] = {}

    @property
    def counts(self) -> bool:
        """Whether it is a finding that is there and that nobody has accepted."""
        accepted = any(suppression.status == "accepted" for suppression in self.suppressions or ())
        return self.kind in ("fail", "open", "review") and self.baseline != "absent" and not accepted


class _Invocation(_Part):
    successful: bool = Field(True, alias="executionSuccessful")


class _Run(_Part):
    tool: _Tool
    results: list[_Result] | None = None
    invocations: list[_Invocation] = []

    def severities(self) -> Iterator[str]:
        driver = self.tool.driver.rules
        rules = {rule.id: rule for part in (self.tool.driver, *self.tool.extensions) for rule in part.rules}
        for result in self.results or ():
            if result.counts:
                name = result.rule_id or result.rule.id
                rule = rules.get(name) or rules.get(name.rpartition("/")[0])
                if rule is None and not name and 0 <= result.rule_index < len(driver):
                    rule = driver[result.rule_index]
                yield _severity(result, rule or _Rule())

    @property
    def completed(self) -> bool:
        """Without `results` nothing was scanned."""
        return self.results is not None and all(invocation.successful for invocation in self.invocations)


class _Sarif(_Part):
    version: str
    runs: list[_Run]


def _severity(result: _Result, rule: _Rule) -> str:
    """By `security-severity`, a CVSS score, as GitHub's code scanning reads it; else by the level."""
    score = result.properties.get("security-severity", rule.properties.get("security-severity"))
    if score is not None:
        value = float(score)
        steps = (("critical", 9.0), ("high", 7.0), ("medium", 4.0))
        return next((name for name, least in steps if value >= least), "low")
    levels = {"error": "high", "warning": "medium", "note": "low"}
    return levels.get(result.level or rule.configuration.level, "unrated")


class _TrivyFinding(_Part):
    severity: str = Field("", alias="Severity")
    status: str = Field("", alias="Status")


class _TrivyResult(_Part):
    vulnerabilities: list[_TrivyFinding] | None = Field(None, alias="Vulnerabilities")
    misconfigurations: list[_TrivyFinding] | None = Field(None, alias="Misconfigurations")
    secrets: list[_TrivyFinding] | None = Field(None, alias="Secrets")
    licenses: list[_TrivyFinding] | None = Field(None, alias="Licenses")

    def severities(self) -> Iterator[str]:
        failed = [m for m in self.misconfigurations or () if m.status != "PASS"]
        for finding in (*(self.vulnerabilities or ()), *failed, *(self.secrets or ()), *(self.licenses or ())):
            yield finding.severity.lower()


class _Trivy(_Part):
    schema_version: int = Field(alias="SchemaVersion")
    results: list[_TrivyResult] | None = Field(None, alias="Results")


class _Either(_Part):
    """Enough of both to tell them apart."""

    runs: list[Any] | None = None
    schema_version: int | None = Field(None, alias="SchemaVersion")


def read_json(content: bytes) -> Parsed:
    """Raises PlatformError(INVALID_ARGUMENT) for what is neither SARIF 2.1.0 nor Trivy's JSON."""
    try:
        either = _Either.model_validate_json(content)
        if either.runs is not None:
            return Parsed(kind=EvidenceKind.SARIF, findings=_sarif(_Sarif.model_validate_json(content)))
        if either.schema_version is not None:
            return Parsed(kind=EvidenceKind.TRIVY, findings=_trivy(_Trivy.model_validate_json(content)))
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:100]
        raise _refused(f"{where or 'its start'}: {first['msg'][:200]}") from exc
    except (ValueError, TypeError) as exc:
        raise _refused(f"a security-severity is no number: {str(exc)[:100]}") from exc
    raise _refused("it has neither `runs` nor `SchemaVersion`")


def _sarif(report: _Sarif) -> ScanResults:
    if not report.version.startswith("2.1."):
        raise _refused(f"it is SARIF {report.version[:20]}, and 2.1.0 is read")
    if not report.runs:
        raise _refused("it has no run: nothing was scanned")
    completed = all(run.completed for run in report.runs)
    return _counted((s for run in report.runs for s in run.severities()), completed)


def _trivy(report: _Trivy) -> ScanResults:
    return _counted((s for result in report.results or () for s in result.severities()), True)


def _counted(severities: Iterator[str], completed: bool) -> ScanResults:
    counts = Counter(s if s in SEVERITIES else "unrated" for s in severities)
    return ScanResults(type="scan", **counts, completed=completed)


def _refused(why: str) -> PlatformError:
    hint = "SARIF 2.1.0 and what `trivy --format json` writes are read"
    return PlatformError(ErrorCode.INVALID_ARGUMENT, f"this is not JSON that can be evidence: {why}", hint)
