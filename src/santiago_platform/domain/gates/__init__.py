"""The gates. A new one is a file here and its line in `AnyGate`."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import isabstract
from typing import Annotated, get_args

from pydantic import Field

from ..gate import Gate
from .approval import ApprovalGate
from .error_budget import ErrorBudgetGate
from .evidence import CoverageGate, ScanGate, TestsGate
from .freeze import FreezeGate
from .incident import IncidentGate
from .promotion import PromotionGate
from .signature import SignatureGate
from .webhook import WebhookGate

AnyGate = Annotated[
    TestsGate
    | CoverageGate
    | ScanGate
    | SignatureGate
    | IncidentGate
    | ErrorBudgetGate
    | FreezeGate
    | PromotionGate
    | WebhookGate
    | ApprovalGate,
    Field(discriminator="type"),
]


def registry(gates: Iterable[type[Gate]]) -> dict[str, type[Gate]]:
    """By type. Raises TypeError for a gate that does not answer, ValueError for a type that two gates have."""
    by_type: dict[str, type[Gate]] = {}
    for gate in gates:
        if isabstract(gate):
            raise TypeError(f"{gate.__name__} has no {', '.join(sorted(gate.__abstractmethods__))}")
        (name,) = get_args(gate.model_fields["type"].annotation)
        if name in by_type:
            raise ValueError(f"{gate.__name__} and {by_type[name].__name__} are both of type {name}")
        by_type[name] = gate
    return by_type


GATES = registry(get_args(get_args(AnyGate)[0]))
