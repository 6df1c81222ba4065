"""A plan as callers see it: bounded, and in full where it says what would be asked for."""

from __future__ import annotations

from typing import Any

from ..domain.plan import Plan
from ..domain.value import Value


class Advice(Value):
    """What an advisor made of words.

    id: of the operation. tool, arguments: the typed request, whole, as one may send it. confidence: 0 to 1, its own
    word for it. by: who planned. tried: who could not, and why. cost_usd: of asking, all tries.
    """

    id: str
    tool: str
    arguments: dict[str, Any]
    rationale: str
    assumptions: tuple[str, ...] = ()
    risks: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    confidence: float
    by: str
    tried: tuple[str, ...] = ()
    cost_usd: str


class PlanView(Value):
    """changes: what would be different. way_back: how it is undone. risk: of itself. hash: to name in an approval.
    advice: of a request in words."""

    changes: tuple[str, ...]
    way_back: str
    risk: str = ""
    hash: str = ""
    advice: Advice | None = None


def view_of(plan: Plan, advice: Advice | None = None) -> PlanView:
    return PlanView(changes=plan.changes, way_back=plan.way_back, risk=plan.risk, hash=plan.hash, advice=advice)
