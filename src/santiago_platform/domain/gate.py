"""A gate: a condition that a release must meet before it is deployed to an environment.

A gate is a value of santiago.yaml that answers by itself, from facts that were gathered: pure, and the same for the
same facts. Each type is a file in `gates/`. Only `fail` and `unknown` hold a release up; `not_applicable` does where
the gate is `required`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from .evidence import Inspected
from .identity import Name, Role
from .live_period import LivePeriod
from .release import Release
from .value import Value


class Outcome(StrEnum):
    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    UNKNOWN = "unknown"  # it would apply, and the data do not suffice
    NOT_APPLICABLE = "not_applicable"  # there is nothing yet that it could ask about


class Answer(Value):
    """gate: its name. evidence: what the answer rests on, a line each. hint: what to do where it does not pass.

    required: not_applicable does not pass either. exception: it passes although its rule says no, and why that is so;
    whoever shows the answer shows this, loudly. pending: unknown only because it is asked later; it holds nothing up
    until then. awaits: the role whose approval alone is missing.
    """

    gate: str
    outcome: Outcome
    reason: str
    evidence: tuple[str, ...] = ()
    hint: str = ""
    required: bool = False
    exception: str = ""
    pending: bool = False
    awaits: Role | None = None

    @property
    def passes(self) -> bool:
        match self.outcome:
            case Outcome.PASS:
                return True
            case Outcome.NOT_APPLICABLE:
                return not self.required
            case Outcome.FAIL | Outcome.UNKNOWN:
                return False

    def __str__(self) -> str:
        required = ", and it is required" if self.outcome is Outcome.NOT_APPLICABLE and self.required else ""
        exception = f" [EXCEPTION: {self.exception}]" if self.exception else ""
        return f"{self.outcome} {self.gate}: {self.reason}{required}{exception}"


def may_pass(answers: Iterable[Answer]) -> bool:
    """Whether a release may go on: no answer holds it up. Without gates it may."""
    return all(answer.passes for answer in answers)


class Unknown(Value):
    """In place of a fact that could not be had. reason: why, in words."""

    reason: str


class Incident(Value):
    """page: its severity is one that wakes somebody."""

    id: str
    title: str
    page: bool
    opened_at: datetime


class Budget(Value):
    """The error budget of a service's tightest SLO, in an environment. remaining_ratio: at most 1; negative when
    overspent. met: the SLO holds over its period. None: the data do not suffice."""

    remaining_ratio: float | None = None
    met: bool | None = None


class Approval(Value):
    by: Name
    at: datetime
    reason: str = ""


class Reply(Value):
    """What a webhook answered."""

    passed: bool
    reason: str = ""


class Facts(Value):
    """What gates may ask. Gathered for one release, one environment and one moment; only what its gates need is there.

    release: None while it is not built yet. first: nothing of the service is live in the environment.
    fixes: the incident that the release is said to fix. damage: why the release's bytes, SBOM or signature do not hold;
    empty where they do. evidence: of this digest, the newest of each type and name.
    incidents: those that are open for the service and environment. budgets: by environment; None where it has no SLO.
    before: the environment that stands before this one in santiago.yaml. periods: when the digest was live, by
    environment, oldest first. replies: by URL. approvals: by role; None where nobody has approved.
    """

    now: datetime
    service: Name
    environment: Name
    release: Release | None = None
    first: bool = False
    fixes: str = ""
    damage: str | Unknown = Unknown(reason="nobody looked")
    evidence: tuple[Inspected, ...] = ()
    incidents: tuple[Incident, ...] | Unknown = Unknown(reason="nobody looked")
    budgets: Mapping[str, Budget | Unknown | None] = {}
    before: Name | None = None
    periods: Mapping[str, tuple[LivePeriod, ...]] = {}
    replies: Mapping[str, Reply | Unknown] = {}
    approvals: Mapping[str, Approval | Unknown | None] = {}


class Gate(Value, ABC):
    """What all types have. A type adds its `type`, a literal, its own settings, and its answer.

    name: in answers; else the type. required: not_applicable does not pass.
    of_release: it asks about the release itself, and can so be asked only once that is built.
    """

    of_release: ClassVar[bool] = True

    type: str
    name: Name | None = None
    required: bool = False

    @abstractmethod
    def answer(self, facts: Facts) -> Answer:
        """Pure; never raises for facts that were gathered for this gate."""

    @property
    def label(self) -> str:
        return self.name or self.type

    def says(self, outcome: Outcome, reason: str, hint: str = "", *evidence: object) -> Answer:
        """An answer of this gate."""
        return Answer(
            gate=self.label,
            outcome=outcome,
            reason=reason,
            hint="" if outcome is Outcome.PASS else hint,
            evidence=tuple(str(line) for line in evidence if line),
            required=self.required,
        )

    def excepted(self, answer: Answer, facts: Facts) -> Answer:
        """The answer of a gate that lets the fix of an incident pass: it says so, and what it would have said."""
        if answer.passes or not facts.fixes:
            return answer
        passed = {"outcome": Outcome.PASS, "hint": "", "exception": f"the fix of incident {facts.fixes}"}
        return answer.model_copy(update=passed)
