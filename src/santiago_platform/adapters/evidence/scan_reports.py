"""SARIF and Trivy's JSON: findings of scanners, counted by severity.

A file is a stranger's: the number of its values is bounded before it is read, and each finding is looked at by itself
and let go, so that neither many findings nor many mistakes in them fill the memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from ...domain.errors import ErrorCode, PlatformError
from ...domain.evidence import EvidenceKind, ScanResults
from ...ports.evidence import Parsed

VALUES = 1_000_000  # of one file: an empty object takes 64 bytes of memory and two of the file
SEVERITIES = frozenset({"critical", "high", "medium", "low"})
Items = list[Any]


class _Part(BaseModel):
    """Only what is used is named; the rest is passed over."""

    model_config = ConfigDict(extra="ignore")


class _Configuration(_Part):
    level: str = "warning"


_Standing = tuple[Any, str]  # (security-severity, level) of a rule
_PLAIN: _Standing = (None, "warning")


class _Rule(_Part):
    id: str = ""
    configuration: _Configuration = Field(_Configuration(), alias="defaultConfiguration")
    properties: dict[str, Any] = {}

    @property
    def standing(self) -> _Standing:
        return self.properties.get("security-severity"), self.configuration.level


class _Component(_Part):
    rules: Items = []


class _Tool(_Part):
    driver: _Component
    extensions: Items = []


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
    suppressions: Items | None = None
    properties: dict[str, Any] = {}

    @property
    def counts(self) -> bool:
        """Whether it is a finding that is there and that nobody has accepted."""
        statuses = (_Suppression.model_validate(one).status for one in self.suppressions or ())
        return self.kind in ("fail", "open", "review") and self.baseline != "absent" and "accepted" not in statuses


class _Invocation(_Part):
    successful: bool = Field(True, alias="executionSuccessful")


class _Run(_Part):
    tool: _Tool
    results: Items | None = None
    invocations: Items = []

    def severities(self) -> Iterator[str]:
        rules: dict[str, _Standing] = {}
        names: list[str] = []  # of the driver's rules, by index
        for component in (self.tool.driver, *map(_Component.model_validate, self.tool.extensions)):
            for rule in map(_Rule.model_validate, component.rules):
                rules[rule.id] = rule.standing
                if component is self.tool.driver:
                    names.append(rule.id)
        for result in map(_Result.model_validate, self.results or ()):
            if result.counts:
                name = result.rule_id or result.rule.id
                if not name and 0 <= result.rule_index < len(names):
                    name = names[result.rule_index]
                yield _severity(result, rules.get(name) or rules.get(name.rpartition("/")[0]) or _PLAIN)

    @property
    def completed(self) -> bool:
        """Without `results` nothing was scanned."""
        invocations = map(_Invocation.model_validate, self.invocations)
        return self.results is not None and all(invocation.successful for invocation in invocations)


class _Sarif(_Part):
    version: str
    runs: Items


def _severity(result: _Result, rule: _Standing) -> str:
    """By `security-severity`, a CVSS score, as GitHub's code scanning reads it; else by the level."""
    score = result.properties.get("security-severity", rule[0])
    if score is not None:
        value = float(score)
        steps = (("critical", 9.0), ("high", 7.0), ("medium", 4.0))
        return next((name for name, least in steps if value >= least), "low")
    levels = {"error": "high", "warning": "medium", "note": "low"}
    return levels.get(result.level or rule[1], "unrated")


class _TrivyFinding(_Part):
    severity: str = Field("", alias="Severity")
    status: str = Field("", alias="Status")


class _TrivyResult(_Part):
    vulnerabilities: Items | None = Field(None, alias="Vulnerabilities")
    misconfigurations: Items | None = Field(None, alias="Misconfigurations")
    secrets: Items | None = Field(None, alias="Secrets")
    licenses: Items | None = Field(None, alias="Licenses")

    def severities(self) -> Iterator[str]:
        for found in (self.vulnerabilities, self.misconfigurations, self.secrets, self.licenses):
            for finding in map(_TrivyFinding.model_validate, found or ()):
                if found is not self.misconfigurations or finding.status != "PASS":
                    yield finding.severity.lower()


class _Trivy(_Part):
    schema_version: Literal[2] = Field(alias="SchemaVersion")
    results: Items | None = Field(None, alias="Results")


def read_json(content: bytes) -> Parsed:
    """Raises PlatformError(INVALID_ARGUMENT) for what is neither SARIF 2.1.0 nor Trivy's JSON."""
    if sum(map(content.count, (b",", b"[", b"{"))) > VALUES:
        raise _refused(f"it has more than {VALUES} values")
    try:
        report = from_json(content, allow_inf_nan=False)
        if isinstance(report, dict) and "runs" in report:
            return Parsed(kind=EvidenceKind.SARIF, findings=_sarif(_Sarif.model_validate(report)))
        if isinstance(report, dict) and "SchemaVersion" in report:
            return Parsed(kind=EvidenceKind.TRIVY, findings=_trivy(_Trivy.model_validate(report)))
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:100]
        raise _refused(f"{exc.title.strip('_')} {where}: {first['msg'][:200]}") from exc
    except (ValueError, TypeError) as exc:
        raise _refused(str(exc)[:200]) from exc
    raise _refused("it has neither `runs` nor `SchemaVersion`")


def _sarif(report: _Sarif) -> ScanResults:
    if not report.version.startswith("2.1."):
        raise _refused(f"it is SARIF {report.version[:20]}, and 2.1.0 is read")
    if not report.runs:
        raise _refused("it has no run: nothing was scanned")
    counts: Counter[str] = Counter()
    completed = True
    for run in map(_Run.model_validate, report.runs):
        counts.update(run.severities())
        completed = completed and run.completed
    return _counted(counts, completed)


def _trivy(report: _Trivy) -> ScanResults:
    counts: Counter[str] = Counter()
    for result in map(_TrivyResult.model_validate, report.results or ()):
        counts.update(s if s in SEVERITIES else "unrated" for s in result.severities())
    return _counted(counts, True)


def _counted(counts: Counter[str], completed: bool) -> ScanResults:
    return ScanResults(type="scan", **counts, completed=completed)


def _refused(why: str) -> PlatformError:
    hint = "SARIF 2.1.0 and what `trivy --format json` writes are read"
    return PlatformError(ErrorCode.INVALID_ARGUMENT, f"this is not JSON that can be evidence: {why}", hint)
