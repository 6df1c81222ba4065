"""A rollout as somebody watches it: where it is, how the judge finds it, and what it went through."""

from __future__ import annotations

from datetime import datetime
from itertools import groupby

from ..domain.identity import Principal
from ..domain.judge import Judgement
from ..domain.phase import Phase
from ..domain.rollout import Rollout, weights_of
from ..domain.strategy import Strategy
from ..domain.value import Value
from ..ports import Ports
from ..ports.store import Snapshot
from .manage_operation import OperationCommand, manage_operation

STEPS_SHOWN = 20


class StepView(Value):
    phase: Phase
    reason: str
    at: datetime


class RolloutView(Value):
    """step: of the canary, from 1; steps: how many it has, 0 where it goes by none. weights: of the traffic in percent,
    by version, as they are wanted now. judgement: of a canary that is being judged. notes: what was settled before.
    needs_somebody: only a person's word takes it on. journal: newest first, STEPS_SHOWN at most.
    """

    strategy: Strategy
    phase: Phase
    old: str
    new: str
    step: int
    steps: int
    weights: dict[str, float]
    judgement: Judgement | None
    dry_runs: tuple[str, ...]
    notes: tuple[str, ...]
    needs_somebody: bool
    going_back: bool
    journal: tuple[StepView, ...]


async def read_rollout(ports: Ports, principal: Principal, operation_id: str) -> RolloutView | None:
    """None where the operation rolls nothing out. Raises PlatformError: NOT_FOUND, PERMISSION_DENIED."""
    await manage_operation(ports, principal, OperationCommand(action="status", operation=operation_id))

    def look(view: Snapshot) -> RolloutView | None:
        rollout = view.rollout_of(operation_id)
        return _view(view, rollout) if rollout is not None else None

    return await ports.store.read(look)


def _view(view: Snapshot, rollout: Rollout) -> RolloutView:
    judge = rollout.analysis.judge if rollout.analysis is not None else None
    weights = weights_of(rollout)
    total = sum(weights.values())
    # Of each phase in a row what was said last, with the time since when it is that.
    phases = groupby(sorted(view.journal(rollout.id), key=lambda step: step.epoch), key=lambda step: step.phase)
    journal = [list(steps)[-1] for _, steps in phases][::-1]
    return RolloutView(
        strategy=rollout.strategy,
        phase=rollout.phase,
        old=rollout.old.name if rollout.old else "",
        new=rollout.new.name if rollout.new else "",
        step=rollout.step + 1 if rollout.stepwise else 0,
        steps=len(rollout.canary.steps) if rollout.stepwise and rollout.canary else 0,
        weights={version: round(100 * weight / total, 1) for version, weight in weights.items()} if total else {},
        judgement=judge.judgement() if judge is not None and rollout.stepwise else None,
        dry_runs=judge.dry_runs() if judge is not None else (),
        notes=rollout.analysis.notes if rollout.analysis is not None else (),
        needs_somebody=rollout.phase is Phase.HOLDING or rollout.needs_somebody,
        going_back=rollout.phase.going_back,
        journal=tuple(StepView(phase=s.phase, reason=s.reason[:400], at=s.at) for s in journal[:STEPS_SHOWN]),
    )
