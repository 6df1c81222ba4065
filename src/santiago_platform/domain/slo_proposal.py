"""An objective for a service that has none, from what it has shown: one that it can keep, and that says something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from .counters import Histogram
from .value import Value

STEPS = (0.9999, 0.9995, 0.999, 0.995, 0.99, 0.98, 0.95, 0.9)
MIN_EVENTS = 1_000
_USED_RATIO = 0.5  # of the budget, by what it has shown: the other half is for what it has not
_LATENCY_TARGET = 0.95


class Shown(Value):
    """What was counted of a service. within: of whole answers, by edge in seconds; the last edge holds them all."""

    requests: Annotated[int, Field(ge=0)]
    errors: Annotated[int, Field(ge=0)]
    within: Histogram = ()


class Proposal(Value):
    """indicator: as `indicatorRef` has it. reason: in words."""

    indicator: str
    target: float
    reason: str


def propose(shown: Shown) -> tuple[Proposal, ...]:
    """Availability first. Empty where fewer than 1,000 requests were seen: then nothing is known that could be kept.

    The target is the highest of the usual steps of which at most half the budget would have been spent.
    """
    if shown.requests < MIN_EVENTS:
        return ()
    found = []
    failed = shown.errors / shown.requests
    target = next((step for step in STEPS if _keeps(step, failed, shown.requests)), None)
    if target is not None:
        reason = f"{1 - failed:.4%} of {shown.requests} requests were answered without an error"
        found.append(Proposal(indicator="availability", target=target, reason=reason))
    measured = shown.within[-1][1] if shown.within else 0
    for edge, count in shown.within[:-1] if measured >= MIN_EVENTS else ():
        slow = 1 - count / measured
        if slow <= (1 - _LATENCY_TARGET) * _USED_RATIO:
            name = f"latency-{edge * 1000:.0f}ms"
            reason = f"{1 - slow:.4%} of {measured} answers took at most {edge * 1000:.0f} ms"
            found.append(Proposal(indicator=name, target=_LATENCY_TARGET, reason=reason))
            break
    return tuple(found)


def _keeps(step: float, failed: float, requests: int) -> bool:
    """A target of which not even one request could fail is not known to be kept by so few requests."""
    budget = 1 - step
    return failed <= budget * _USED_RATIO and requests * budget >= 1


_DOCUMENT = """\
# {reason}.
apiVersion: openslo/v1
kind: SLO
metadata:
  name: {indicator}
  labels: {{environment: {environment}}}
spec:
  service: {service}
  indicatorRef: {indicator}
  timeWindow: [{{duration: 28d, isRolling: true}}]
  budgetingMethod: Occurrences
  objectives: [{{target: {target}}}]
"""


def openslo(service: str, environment: str, proposals: Sequence[Proposal]) -> str:
    """As `services/NAME/slo.yaml` takes them. Empty without any."""
    documents = (_DOCUMENT.format(service=service, environment=environment, **dict(p)) for p in proposals)
    return "---\n".join(documents)
