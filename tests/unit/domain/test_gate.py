"""Gates: what passes and what does not, for every type."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from santiago_platform.domain.evidence import (
    Attestation,
    Coverage,
    EvidenceKind,
    Findings,
    Inspected,
    ScanResults,
    SuiteResults,
    newest,
)
from santiago_platform.domain.gate import (
    Answer,
    Approval,
    Budget,
    Facts,
    Gate,
    Incident,
    Outcome,
    Reply,
    Unknown,
    may_pass,
)
from santiago_platform.domain.gates import GATES, AnyGate, registry
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.live_period import LivePeriod
from santiago_platform.domain.release import Release
from santiago_platform.testing.rows import live_period

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64
READ: TypeAdapter[Any] = TypeAdapter(AnyGate)
LEAST: dict[str, dict[str, Any]] = {  # what a type needs beside its name
    "freeze": {"start": "2026-01-01T00:00:00", "duration": "PT1H"},
    "webhook": {"url": "http://hook/"},
    "approval": {"role": "pm"},
}


def gate(type: str, **fields: Any) -> Gate:
    found: Gate = READ.validate_python({"type": type, **LEAST.get(type, {}), **fields})
    return found


def facts(**fields: Any) -> Facts:
    release = Release(
        digest=DIGEST,
        service="web",
        commit="c0ffee",
        committed_at=NOW,
        built_at=NOW,
        score="",
        local_only=True,
        sbom=DIGEST,
        signed_by="key-1",
        size_bytes=1,
    )
    return Facts(**{"now": NOW, "service": "web", "environment": "production", "release": release, **fields})


def inspected(findings: Findings, *, name: str = "default", age_days: float = 0, doubt: str = "") -> Inspected:
    attestation = Attestation(
        id=f"ev-{name}",
        release=DIGEST,
        service="web",
        kind=EvidenceKind.JUNIT,
        name=name,
        sha256="0" * 64,
        size_bytes=1,
        principal=Principal(name="ci", role=Role.PIPELINE),
        at=NOW - timedelta(days=age_days),
        findings=findings,
    )
    return Inspected(attestation=attestation, doubt=doubt)


def ran(total: int = 10, **fields: int) -> SuiteResults:
    return SuiteResults(type="tests", tests=total, **fields)


def coverage(lines: float, branches: float | None = None) -> Coverage:
    return Coverage(type="coverage", line_ratio=lines, branch_ratio=branches)


def scan(**fields: Any) -> ScanResults:
    return ScanResults(type="scan", **fields)


def incident(id: str = "inc-1", *, page: bool = True) -> Incident:
    return Incident(id=id, title="it burns", page=page, opened_at=NOW)


def period(minutes: float, *, ended: float | None = None, taken_back: bool = False) -> LivePeriod:
    """Of a release that became live `minutes` ago and left `ended` minutes ago."""
    until = None if ended is None else NOW - timedelta(minutes=ended)
    since = NOW - timedelta(minutes=minutes)
    return live_period(release=DIGEST, since=since, until=until, taken_back=taken_back, proven=True)


PASS, FAIL, UNKNOWN, NOT_APPLICABLE = Outcome.PASS, Outcome.FAIL, Outcome.UNKNOWN, Outcome.NOT_APPLICABLE
WEEK = {"start": "2026-11-20T00:00:00", "duration": "P7D"}


@pytest.mark.parametrize(
    ("asked", "known", "outcome"),
    [
        (gate("tests"), facts(), FAIL),
        (gate("tests"), facts(evidence=(inspected(ran()),)), PASS),
        (gate("tests"), facts(evidence=(inspected(ran(0)),)), FAIL),
        (gate("tests"), facts(evidence=(inspected(ran(3, skipped=3)),)), FAIL),
        (gate("tests"), facts(evidence=(inspected(ran(failures=1)),)), FAIL),
        (gate("tests"), facts(evidence=(inspected(ran(errors=1)),)), FAIL),
        (gate("tests", max_failures=2), facts(evidence=(inspected(ran(errors=1, failures=1)),)), PASS),
        (gate("tests", max_skipped=1), facts(evidence=(inspected(ran(skipped=2)),)), FAIL),
        (gate("tests", min_tests=11), facts(evidence=(inspected(ran()),)), FAIL),
        (gate("tests"), facts(evidence=(inspected(coverage(1.0)),)), FAIL),
        (gate("tests"), facts(evidence=(inspected(ran(), doubt="its file was changed"),)), FAIL),
        (gate("tests"), facts(evidence=(inspected(ran()), inspected(ran(failures=1), name="e2e"))), FAIL),
        (gate("tests", names=["e2e"]), facts(evidence=(inspected(ran()),)), FAIL),
        (gate("tests", names=["e2e"]), facts(evidence=(inspected(ran(), name="e2e"), inspected(ran(0)))), PASS),
        (gate("tests", max_age_days=1), facts(evidence=(inspected(ran(), age_days=1.1),)), FAIL),
        (gate("tests", max_age_days=1), facts(evidence=(inspected(ran(), age_days=0.9),)), PASS),
        (gate("coverage"), facts(), FAIL),
        (gate("coverage"), facts(evidence=(inspected(coverage(0.8)),)), PASS),
        (gate("coverage"), facts(evidence=(inspected(coverage(0.79)),)), FAIL),
        (gate("coverage", min_branch_ratio=0.5), facts(evidence=(inspected(coverage(1.0)),)), FAIL),
        (gate("coverage", min_branch_ratio=0.5), facts(evidence=(inspected(coverage(1.0, 0.4)),)), FAIL),
        (gate("coverage", min_branch_ratio=0.5), facts(evidence=(inspected(coverage(1.0, 0.5)),)), PASS),
        (gate("scan"), facts(), FAIL),
        (gate("scan"), facts(evidence=(inspected(scan(medium=9, low=9, unrated=9)),)), PASS),
        (gate("scan"), facts(evidence=(inspected(scan(high=1)),)), FAIL),
        (gate("scan"), facts(evidence=(inspected(scan(critical=1)),)), FAIL),
        (gate("scan", max_high=None), facts(evidence=(inspected(scan(high=1)),)), PASS),
        (gate("scan"), facts(evidence=(inspected(scan(completed=False)),)), FAIL),
        (gate("signature"), facts(damage=""), PASS),
        (gate("signature"), facts(damage="blob x was changed"), FAIL),
        (gate("signature"), facts(damage=Unknown(reason="the disk is away")), UNKNOWN),
        (gate("signature", signers=["key-1"]), facts(damage=""), PASS),
        (gate("signature", signers=["key-2"]), facts(damage=""), FAIL),
        (gate("incident"), facts(incidents=()), PASS),
        (gate("incident"), facts(incidents=(incident(page=False),)), PASS),
        (gate("incident"), facts(incidents=(incident(),)), FAIL),
        (gate("incident"), facts(incidents=(incident(),), fixes="inc-1"), PASS),
        (gate("incident"), facts(incidents=(incident(), incident("inc-2")), fixes="inc-1"), FAIL),
        (gate("incident"), facts(incidents=Unknown(reason="not kept")), UNKNOWN),
        (gate("error_budget"), facts(budgets={"production": None}), NOT_APPLICABLE),
        (gate("error_budget"), facts(budgets={"production": Budget(remaining_ratio=0.1)}), PASS),
        (gate("error_budget"), facts(budgets={"production": Budget(remaining_ratio=0.0)}), FAIL),
        (gate("error_budget"), facts(budgets={"production": Budget(remaining_ratio=-2.0)}), FAIL),
        (gate("error_budget"), facts(budgets={"production": Budget(remaining_ratio=-2.0)}, fixes="inc-1"), PASS),
        (
            gate("error_budget", except_fixes=False),
            facts(budgets={"production": Budget(remaining_ratio=-2.0)}, fixes="inc-1"),
            FAIL,
        ),
        (
            gate("error_budget", min_remaining_ratio=0.2),
            facts(budgets={"production": Budget(remaining_ratio=0.1)}),
            FAIL,
        ),
        (gate("error_budget"), facts(budgets={"production": Budget()}), UNKNOWN),
        (gate("error_budget"), facts(budgets={"production": Budget()}, first=True), NOT_APPLICABLE),
        (gate("error_budget"), facts(budgets={"production": Unknown(reason="not kept")}), UNKNOWN),
        (gate("freeze"), facts(), PASS),
        (gate("freeze", **WEEK), facts(), FAIL),
        (gate("freeze", **WEEK), facts(fixes="inc-1"), FAIL),
        (gate("freeze", **WEEK, except_fixes=True), facts(fixes="inc-1"), PASS),
        (gate("promotion"), facts(), NOT_APPLICABLE),
        (gate("promotion"), facts(before="staging"), FAIL),
        (gate("promotion"), facts(before="staging", periods={"staging": (period(9),)}), FAIL),
        (gate("promotion"), facts(before="staging", periods={"staging": (period(10),)}), PASS),
        (gate("promotion"), facts(before="staging", periods={"staging": (period(60, ended=45),)}), PASS),
        (gate("promotion"), facts(before="staging", periods={"staging": (period(60, ended=55), period(7))}), FAIL),
        (
            gate("promotion"),
            facts(before="staging", periods={"staging": (period(60, ended=5, taken_back=True),)}),
            FAIL,
        ),
        (gate("promotion", after="canary"), facts(before="staging", periods={"staging": (period(60),)}), FAIL),
        (
            gate("promotion"),
            facts(before="staging", periods={"staging": (period(60),)}, budgets={"staging": Budget(met=True)}),
            PASS,
        ),
        (
            gate("promotion"),
            facts(before="staging", periods={"staging": (period(60),)}, budgets={"staging": Budget(met=False)}),
            FAIL,
        ),
        (
            gate("promotion"),
            facts(before="staging", periods={"staging": (period(60),)}, budgets={"staging": Budget()}),
            UNKNOWN,
        ),
        (
            gate("promotion", slo=False),
            facts(before="staging", periods={"staging": (period(60),)}, budgets={"staging": Budget(met=False)}),
            PASS,
        ),
        (gate("webhook"), facts(), UNKNOWN),
        (gate("webhook"), facts(replies={"http://hook/": Reply(passed=True)}), PASS),
        (gate("webhook"), facts(replies={"http://hook/": Reply(passed=False, reason="moon")}), FAIL),
        (gate("webhook"), facts(replies={"http://hook/": Unknown(reason="late")}), UNKNOWN),
        (gate("approval"), facts(), UNKNOWN),
        (gate("approval"), facts(approvals={"pm": Approval(by="pam", at=NOW)}), PASS),
        (gate("approval"), facts(approvals={"qa": Approval(by="quinn", at=NOW)}), UNKNOWN),
        (gate("approval"), facts(approvals={"pm": Unknown(reason="not taken")}), UNKNOWN),
    ],
    ids=lambda value: value.type if isinstance(value, Gate) else "",
)
def test_a_gate_answers_by_its_facts(asked: Gate, known: Facts, outcome: Outcome) -> None:
    answer = asked.answer(known)
    assert answer.outcome is outcome, answer
    assert answer.gate == asked.type
    assert answer.reason
    assert answer.passes == (outcome in (PASS, NOT_APPLICABLE))
    assert bool(answer.hint) == (outcome is not PASS), "what does not pass says what to do"


def test_every_type_is_asked_above() -> None:
    (parametrize,) = test_a_gate_answers_by_its_facts.pytestmark
    assert {row[0].type for row in parametrize.args[1]} == set(GATES)


@given(
    st.sampled_from(sorted(GATES)),
    st.booleans(),
    st.sampled_from([None, Unknown(reason="gone"), Budget(), Budget(remaining_ratio=0.5, met=True)]),
    st.sampled_from([(), (incident(),), Unknown(reason="gone")]),
    st.lists(st.builds(inspected, st.just(ran()) | st.just(scan()), doubt=st.sampled_from(["", "bad"]))),
    st.booleans(),
)
def test_unknown_never_passes_and_not_applicable_does_unless_it_is_required(
    type: str, required: bool, budget: Any, incidents: Any, evidence: list[Inspected], first: bool
) -> None:
    known = facts(
        budgets={"production": budget, "staging": budget},
        incidents=incidents,
        evidence=tuple(evidence),
        first=first,
        before="staging",
        periods={"staging": (period(60),)},
    )
    answer = gate(type, required=required).answer(known)
    match answer.outcome:
        case Outcome.UNKNOWN | Outcome.FAIL:
            assert not answer.passes
        case Outcome.NOT_APPLICABLE:
            assert answer.passes is not required
        case Outcome.PASS:
            assert answer.passes
    assert may_pass([answer]) is answer.passes


@given(st.lists(st.sampled_from(list(Outcome))))
def test_all_must_pass(outcomes: list[Outcome]) -> None:
    answers = [Answer(gate="a", outcome=outcome, reason="x") for outcome in outcomes]
    assert may_pass(answers) is (not set(outcomes) & {FAIL, UNKNOWN})


@pytest.mark.parametrize("type", ["error_budget", "incident", "freeze"])
def test_an_exception_for_a_fix_is_loud_and_says_what_it_would_have_said(type: str) -> None:
    known = facts(fixes="inc-1", incidents=(incident(),), budgets={"production": Budget(remaining_ratio=-0.5)})
    options = {**WEEK, "except_fixes": True} if type == "freeze" else {}
    answer = gate(type, **options).answer(known)
    assert answer.passes
    assert "[EXCEPTION: the fix of incident inc-1]" in str(answer)
    without = gate(type, **options).answer(known.model_copy(update={"fixes": ""}))
    assert not without.passes
    assert answer.reason == without.reason


def test_a_pass_that_needs_no_exception_makes_none() -> None:
    known = facts(fixes="inc-1", incidents=(), budgets={"production": Budget(remaining_ratio=0.5)})
    assert [gate(type).answer(known).exception for type in ("error_budget", "incident")] == ["", ""]


def test_a_gate_that_does_not_answer_or_has_the_type_of_another_fails_at_import() -> None:
    class Silent(Gate):
        type: Literal["silent"]

    class Second(Gate):
        type: Literal["tests"]

        def answer(self, facts: Facts) -> Answer:
            return self.says(PASS, "whatever")

    with pytest.raises(TypeError, match="Silent has no answer"):
        registry([Silent])
    with pytest.raises(ValueError, match="both of type tests"):
        registry([GATES["tests"], Second])
    assert registry(GATES.values()) == GATES
    assert len(get_args(get_args(AnyGate)[0])) == len(GATES)


def test_of_evidence_the_newest_of_each_type_and_name_counts() -> None:
    rows = [
        inspected(ran(failures=1)),
        inspected(ran(), name="e2e"),
        inspected(coverage(0.5)),
        inspected(ran(2)),
    ]
    found = newest(row.attestation for row in rows)
    assert [(a.findings.type, a.name, str(a.findings)[:7]) for a in found] == [
        ("coverage", "default", "50.0% o"),
        ("tests", "default", "2 tests"),
        ("tests", "e2e", "10 test"),
    ]
