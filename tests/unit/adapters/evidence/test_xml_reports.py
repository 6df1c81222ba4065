from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from santiago_platform.adapters.evidence.files import read_report
from santiago_platform.adapters.evidence.xml_reports import read_xml
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.evidence import Coverage, EvidenceKind, SuiteResults

PYTEST = b"""<?xml version="1.0" encoding="utf-8"?>
<testsuites name="pytest tests"><testsuite name="pytest" errors="1" failures="1" skipped="1" tests="4" time="0.04">
<testcase classname="t" name="test_good" time="0.001" />
<testcase classname="t" name="test_bad"><failure message="assert 0">def</failure></testcase>
<testcase classname="t" name="test_skipped"><skipped type="pytest.skip" message="x"/></testcase>
<testcase classname="t" name="test_error"><error message="failed on setup">x</error>
<system-out>failure</system-out></testcase>
</testsuite></testsuites>"""
COVERAGE_PY = b"""<?xml version="1.0" ?>
<coverage version="7.6" timestamp="1" lines-valid="8" lines-covered="7" line-rate="0.875" branches-covered="1"
 branches-valid="4" branch-rate="0.25" complexity="0"><sources/><packages/></coverage>"""
GCOVR = b"""<?xml version='1.0' encoding='UTF-8'?>
<!DOCTYPE coverage SYSTEM 'http://cobertura.sourceforge.net/xml/coverage-04.dtd'>
<coverage line-rate="0.5" branch-rate="0.0" lines-covered="1" lines-valid="2"
 branches-covered="0" branches-valid="0"/>"""
LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE testsuite [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><testsuite name="&c;"/>"""
EXTERNAL = b"""<?xml version="1.0"?><!DOCTYPE testsuite [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<testsuite><testcase name="a">&x;</testcase></testsuite>"""
PARAMETER = b"""<?xml version="1.0"?><!DOCTYPE testsuite [<!ENTITY % p SYSTEM "http://127.0.0.1:1/x.dtd"> %p;]>
<testsuite/>"""


def suite(**counts: int) -> SuiteResults:
    return SuiteResults(**{"type": "tests", "tests": 0, **counts})  # type: ignore[arg-type]


def test_cases_are_counted_each_once_as_the_worst_that_it_is() -> None:
    parsed = read_report(PYTEST)
    assert parsed.kind is EvidenceKind.JUNIT
    assert parsed.findings == suite(tests=4, failures=1, errors=1, skipped=1)


def test_a_suite_that_says_it_failed_more_than_its_cases_show_is_believed() -> None:
    assert read_xml(b'<testsuite failures="3"><testcase/></testsuite>').findings == suite(tests=1, failures=3)


def test_words_of_a_case_that_look_like_outcomes_do_not_count() -> None:
    nested = b"<testsuite><testcase><system-out/></testcase><failure/></testsuite>"
    assert read_xml(nested).findings == suite(tests=1)


def test_namespaces_do_not_hide_a_failure() -> None:
    spaced = b'<x:testsuite xmlns:x="urn:x"><x:testcase><x:failure/></x:testcase></x:testsuite>'
    assert read_xml(spaced).findings == suite(tests=1, failures=1)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (COVERAGE_PY, (0.875, 0.25)),
        (GCOVR, (0.5, None)),
        (b'<coverage line-rate="0.9" branch-rate="0.8"/>', (0.9, 0.8)),
        (b'<coverage line-rate="0.9"/>', (0.9, None)),
        (b'<coverage lines-valid="0" lines-covered="0" line-rate="1"/>', (0.0, None)),
    ],
)
def test_coverage_is_by_counts_else_by_rates(content: bytes, expected: tuple[float, float | None]) -> None:
    found = read_xml(content).findings
    assert isinstance(found, Coverage)
    assert (found.line_ratio, found.branch_ratio) == expected


@pytest.mark.parametrize("bomb", [LAUGHS, EXTERNAL, PARAMETER])
def test_entities_are_neither_expanded_nor_fetched(bomb: bytes) -> None:
    with pytest.raises(PlatformError, match="entities") as raised:
        read_xml(bomb)
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT
    assert "root:" not in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [
        b'<coverage line-rate="nan"/>',
        b'<coverage line-rate="1.5"/>',
        b'<coverage line-rate="-1"/>',
        b'<coverage lines-valid="1" lines-covered="2"/>',
        b'<coverage lines-valid="x" lines-covered="2"/>',
        b"<coverage/>",
        b'<testsuite failures="many"/>',
        b"<testsuite><testcase></testsuite>",
        b"<testsuite/><testsuite/>",
        b"<html><testsuite/></html>",
        b"",
        b"\x00\x01",
        b'<?xml version="1.0" encoding="utf-99"?><testsuite/>',
    ],
)
def test_what_is_not_wholly_a_report_is_refused_in_words(content: bytes) -> None:
    with pytest.raises(PlatformError) as raised:
        read_xml(content)
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT


@given(st.binary(max_size=300) | st.text(alphabet="<>/testsuiacr &;![]\"'=", max_size=80).map(str.encode))
def test_whatever_comes_is_read_or_refused(content: bytes) -> None:
    code = None
    try:
        read_report(content)
    except PlatformError as exc:
        code = exc.code
    assert code in (None, ErrorCode.INVALID_ARGUMENT)


def test_depth_and_number_of_elements_cost_no_memory() -> None:
    deep: Any = b"<testsuite>" * 100_000 + b"</testsuite>" * 100_000
    tracemalloc.start()
    assert read_xml(deep).findings == suite()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60 << 20
