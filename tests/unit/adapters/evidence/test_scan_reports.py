from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from santiago_platform.adapters.evidence.scan_reports import read_json
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.evidence import EvidenceKind, ScanResults


def sarif(*results: dict[str, Any], rules: list[dict[str, Any]] | None = None, **run: Any) -> bytes:
    tool = {"driver": {"name": "scanner", "rules": rules or []}}
    report = {"version": "2.1.0", "runs": [{"tool": tool, "results": list(results), **run}]}
    return json.dumps(report).encode()


def scan(**counts: Any) -> ScanResults:
    return ScanResults(type="scan", **counts)


@pytest.mark.parametrize(
    ("result", "rules", "expected"),
    [
        ({"ruleId": "a"}, [], {"medium": 1}),
        ({"ruleId": "a", "level": "error"}, [], {"high": 1}),
        ({"ruleId": "a", "level": "note"}, [], {"low": 1}),
        ({"ruleId": "a", "level": "none"}, [], {"unrated": 1}),
        ({"ruleId": "a"}, [{"id": "a", "defaultConfiguration": {"level": "error"}}], {"high": 1}),
        ({"ruleId": "a/1"}, [{"id": "a", "properties": {"security-severity": "9.8"}}], {"critical": 1}),
        ({"ruleIndex": 0}, [{"id": "a", "properties": {"security-severity": "7.0"}}], {"high": 1}),
        ({"rule": {"id": "a"}}, [{"id": "a", "properties": {"security-severity": "6.9"}}], {"medium": 1}),
        ({"properties": {"security-severity": 0.1}, "level": "error"}, [], {"low": 1}),
        ({"level": "error", "kind": "pass"}, [], {}),
        ({"level": "error", "baselineState": "absent"}, [], {}),
        ({"level": "error", "suppressions": [{"kind": "external"}]}, [], {}),
        ({"level": "error", "suppressions": [{"kind": "external", "status": "rejected"}]}, [], {"high": 1}),
    ],
)
def test_findings_of_sarif_are_counted_by_severity(
    result: dict[str, Any], rules: list[dict[str, Any]], expected: dict[str, int]
) -> None:
    parsed = read_json(sarif(result, rules=rules))
    assert parsed.kind is EvidenceKind.SARIF
    assert parsed.findings == scan(**expected)


@pytest.mark.parametrize("run", [{"invocations": [{"executionSuccessful": False}]}, {"results": None}])
def test_a_scan_that_did_not_run_to_its_end_is_not_clean(run: dict[str, Any]) -> None:
    assert read_json(sarif(**run)).findings == scan(completed=False)


def test_findings_of_trivy_are_counted_by_severity() -> None:
    results = [
        {
            "Target": "alpine",
            "Vulnerabilities": [{"Severity": "CRITICAL"}, {"Severity": "LOW"}, {"Severity": "UNKNOWN"}],
        },
        {"Misconfigurations": [{"Severity": "HIGH", "Status": "FAIL"}, {"Severity": "HIGH", "Status": "PASS"}]},
        {"Secrets": [{"Severity": "HIGH"}], "Licenses": [{"Severity": "MEDIUM"}]},
        {"Target": "clean", "Vulnerabilities": None},
    ]
    parsed = read_json(json.dumps({"SchemaVersion": 2, "Results": results}).encode())
    assert parsed.kind is EvidenceKind.TRIVY
    assert parsed.findings == scan(critical=1, high=2, medium=1, low=1, unrated=1)
    assert read_json(b'{"SchemaVersion": 2}').findings == scan()


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b"[]",
        b"{",
        b'{"runs": []}',
        b'{"version": "2.1.0", "runs": []}',
        b'{"version": "1.0.0", "runs": [{"tool": {"driver": {}}}]}',
        b'{"version": "2.1.0", "runs": [{"results": []}]}',
        sarif({"properties": {"security-severity": "x"}}),
        b'{"SchemaVersion": 2, "Results": [{"Vulnerabilities": 7}]}',
        b'{"runs": ' + b"[" * 100_000,
    ],
)
def test_what_is_no_scan_report_is_refused_in_words(content: bytes) -> None:
    with pytest.raises(PlatformError, match="this is not JSON that can be evidence") as raised:
        read_json(content)
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "bomb", [b'{"runs":[' + b"[]," * 2_000_000 + b"[]]}", b'{"SchemaVersion":' + b"{}," * 2_000_000]
)
def test_a_file_of_very_many_values_is_refused_before_it_is_read(bomb: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(PlatformError, match="more than 1000000 values"):
        read_json(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_many_mistakes_cost_no_more_than_one() -> None:
    wrong = b'{"version": "2.1.0", "runs": [{"tool": {"driver": {}}, "results": [' + b"1," * 400_000 + b"1]}]}"
    tracemalloc.start()
    with pytest.raises(PlatformError, match="Result"):
        read_json(wrong)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20
