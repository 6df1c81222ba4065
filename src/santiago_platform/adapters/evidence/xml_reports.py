"""JUnit and Cobertura: XML of strangers, read without a tree, so that memory stays that of the file.

Entities are refused, external ones too; a document type is passed over, since Cobertura's files have one.
"""

from __future__ import annotations

from typing import Protocol
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser
from pydantic import ValidationError

from ...domain.errors import ErrorCode, PlatformError
from ...domain.evidence import Coverage, EvidenceKind, SuiteResults
from ...ports.evidence import Parsed


class _Report(Protocol):
    def start(self, tag: str, attributes: dict[str, str]) -> None: ...

    def end(self, tag: str) -> None: ...

    def result(self) -> Parsed: ...


class _JUnit:
    """Counts test cases. Where a suite says that it has more failures than its cases show, it is believed.

    Source: https://github.com/testmoapp/junitxml, since there is no schema of the format's authors.
    """

    def __init__(self) -> None:
        self._tests = 0
        self._counts = {"error": 0, "failure": 0, "skipped": 0}
        self._claimed = {"error": 0, "failure": 0}
        self._case: set[str] | None = None  # what the open test case has in it

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "testcase":
            self._case = set()
        elif self._case is not None:
            self._case.add(tag)
        elif tag in ("testsuite", "testsuites"):
            for name, attribute in (("error", "errors"), ("failure", "failures")):
                self._claimed[name] = max(self._claimed[name], int(attributes.get(attribute) or 0))

    def end(self, tag: str) -> None:
        if tag == "testcase" and self._case is not None:
            self._tests += 1
            for name in self._counts:  # a case counts once, as the worst that it is
                if name in self._case:
                    self._counts[name] += 1
                    break
            self._case = None

    def result(self) -> Parsed:
        found = SuiteResults(
            type="tests",
            tests=self._tests,
            failures=max(self._counts["failure"], self._claimed["failure"]),
            errors=max(self._counts["error"], self._claimed["error"]),
            skipped=self._counts["skipped"],
        )
        return Parsed(kind=EvidenceKind.JUNIT, findings=found)


class _Cobertura:
    """Takes the totals of the root. Source: http://cobertura.sourceforge.net/xml/coverage-04.dtd"""

    def __init__(self) -> None:
        self._root: dict[str, str] | None = None

    def start(self, _tag: str, attributes: dict[str, str]) -> None:
        if self._root is None:
            self._root = attributes

    def end(self, tag: str) -> None:
        pass

    def result(self) -> Parsed:
        lines = self._ratio("lines", "line-rate")
        found = Coverage(type="coverage", line_ratio=lines or 0.0, branch_ratio=self._ratio("branches", "branch-rate"))
        return Parsed(kind=EvidenceKind.COBERTURA, findings=found)

    def _ratio(self, what: str, rate: str) -> float | None:
        """By the counts, which are exact, else by the rate; None where there is nothing to cover."""
        root = self._root or {}
        if f"{what}-valid" in root and f"{what}-covered" in root:
            valid, covered = int(root[f"{what}-valid"]), int(root[f"{what}-covered"])
            return covered / valid if valid else None
        if rate in root:
            return float(root[rate])
        if what == "lines":
            raise ValueError("it has no line-rate")
        return None


REPORTS: dict[str, type[_Report]] = {"testsuites": _JUnit, "testsuite": _JUnit, "coverage": _Cobertura}


class _Target:
    """What the parser tells of: the root's tag decides which report it is."""

    def __init__(self) -> None:
        self._report: _Report | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = tag.rpartition("}")[2]
        if self._report is None:
            if tag not in REPORTS:
                raise ValueError(f"its root is {tag[:60]!r}, not one of {', '.join(REPORTS)}")
            self._report = REPORTS[tag]()
        self._report.start(tag, attributes)

    def end(self, tag: str) -> None:
        if self._report is not None:
            self._report.end(tag.rpartition("}")[2])

    def data(self, _text: str) -> None:
        pass

    def close(self) -> Parsed:
        if self._report is None:
            raise ValueError("it is empty")
        return self._report.result()


def read_xml(content: bytes) -> Parsed:
    """Raises PlatformError(INVALID_ARGUMENT) for what is not wholly a report of a known kind."""
    try:
        parser = DefusedXMLParser(target=_Target(), forbid_entities=True, forbid_external=True)
        parser.feed(content)
        parsed: Parsed = parser.close()  # type: ignore[assignment]  # what the target gives
    except DefusedXmlException as exc:
        raise _refused("it has entities, which are neither expanded nor fetched") from exc
    except ValidationError as exc:
        raise _refused(f"its numbers make no sense: {exc.errors(include_url=False)[0]['msg']}") from exc
    except (ParseError, ValueError, LookupError, OverflowError) as exc:
        raise _refused(str(exc)[:200]) from exc
    return parsed


def _refused(why: str) -> PlatformError:
    hint = "JUnit begins with testsuites or testsuite, Cobertura with coverage"
    return PlatformError(ErrorCode.INVALID_ARGUMENT, f"this is not XML that can be evidence: {why}", hint)
