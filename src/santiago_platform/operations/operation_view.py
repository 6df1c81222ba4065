"""An operation as callers see it: bounded, with what to do next."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import WithJsonSchema

from ..domain.change_request import ChangeRequest, Wants
from ..domain.operation import Operation, OperationState
from ..domain.phase import Phase
from ..domain.proof import Verdict
from ..domain.rollout import Rollout
from ..domain.value import Value
from ..domain.way_back import way_back
from ..ports.store import Snapshot
from .plan_view import Advice, PlanView, view_of

DETAIL_LINES = 20
EVIDENCE_LINES = 12


class ProofView(Value):
    """verdict: MATCH, DRIFT or UNVERIFIABLE. evidence: one line for each thing that was looked at, and notes."""

    verdict: Verdict
    evidence: tuple[str, ...]


class OperationView(Value):
    """next: what the caller may do now. detail: the last log lines of what failed (untrusted text).
    gates: what each answered. way_back: where to, how fast, and whether it was rehearsed. plan: of a request in words,
    and of what waits for somebody, with the hash to name.
    """

    id: str
    kind: str
    state: str
    phase: str
    progress: float
    service: str
    environment: str
    by: str
    release: str = ""
    version: str = ""
    previous_version: str = ""
    reason: str = ""
    detail: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()
    way_back: str = ""
    proof: ProofView | None = None
    started_at: datetime
    finished_at: datetime | None = None
    seconds: float | None = None
    next: str = ""
    plan: Annotated[PlanView | None, WithJsonSchema({"type": "object"})] = None


def view(snapshot: Snapshot, operation: Operation) -> OperationView:
    rollout = snapshot.rollout_of(operation.id)
    waited = snapshot.change_request(operation.id) if operation.state in _PLANNED else None
    shown = render(operation, rollout, view_of(waited.plan, _advice(waited)) if waited else None)
    if rollout is None or rollout.old is None or not rollout.phase.finished:
        return shown
    deployment = snapshot.deployment(operation.service, operation.environment)
    pair = (deployment.previous, deployment.live) if deployment else (None, None)
    still = all(a and b and a.name == b.name for a, b in zip(pair, (rollout.old, rollout.new), strict=True))
    warm_until = deployment.warm_until if deployment else None
    return shown.model_copy(update={"way_back": way_back(rollout, warm_until) if still else ""})


_PLANNED = (OperationState.AWAITING, OperationState.REJECTED, OperationState.VOID)


def _advice(request: ChangeRequest) -> Advice | None:
    return Advice.model_validate(request.advice) if request.advice else None


def render(operation: Operation, rollout: Rollout | None, plan: PlanView | None = None) -> OperationView:
    proof = operation.proof
    seconds = (operation.finished_at - operation.created_at).total_seconds() if operation.finished_at else None
    return OperationView(
        id=operation.id,
        kind=operation.kind,
        state=operation.state,
        phase=operation.phase,
        progress=operation.progress,
        service=operation.service,
        environment=operation.environment,
        by=operation.principal.name,
        release=rollout.new.template.release if rollout and rollout.new else "",
        version=rollout.new.name if rollout and rollout.new else "",
        previous_version=rollout.old.name if rollout and rollout.old else "",
        reason=operation.reason[:2000],
        detail=tuple(line[:400] for line in operation.detail[-DETAIL_LINES:]),
        gates=tuple(str(answer)[:400] for answer in operation.gates),
        way_back=way_back(rollout) if rollout else plan.way_back if plan else "",
        plan=plan,
        proof=ProofView(
            verdict=proof.verdict,
            evidence=(
                *(
                    f"{e.verdict}: {e.subject} = {e.observed if e.observed is not None else e.detail or '?'}"
                    + ("" if e.verdict is Verdict.MATCH else f", expected {e.expected}")
                    + f" (asked {e.source})"
                    for e in proof.evidence[:EVIDENCE_LINES]
                ),
                *(f"note: {note}" for note in proof.notes[:EVIDENCE_LINES]),
            ),
        )
        if proof
        else None,
        started_at=operation.created_at,
        finished_at=operation.finished_at,
        seconds=round(seconds, 3) if seconds is not None else None,
        next=_next(operation, rollout),
    )


def _next(operation: Operation, rollout: Rollout | None) -> str:
    if operation.state is OperationState.PLANNED:
        held = [a for a in operation.gates if not a.passes and not a.pending]
        if held:
            return "it would be refused: " + "; ".join(f"{a.gate}: {a.hint or a.reason}" for a in held)[:2000]
        return "the same call without dry_run does it"
    if operation.state is OperationState.AWAITING:
        who = "you" if operation.phase == Wants.CONFIRMATION else "somebody who may"
        return f"manage_operation with action approve or reject, by {who}; the plan's hash says which plan was seen"
    if operation.state is OperationState.RUNNING:
        if rollout is None and operation.kind == "rollback_service":
            return "it begins by itself; manage_operation with action wait follows it; action abort ends it"
        if rollout is not None and rollout.phase is Phase.HOLDING:
            return "ready and held: manage_operation with action promote or abort"
        if rollout is not None and rollout.phase is Phase.ANALYSING:
            return "manage_operation with action wait follows it; promote goes on to the next step, abort takes it back"
        back = "; action abort takes it back" if rollout is not None or operation.kind == "configure_flag" else ""
        return f"manage_operation with action wait follows it{back}"
    if operation.state in (OperationState.SUCCEEDED, OperationState.UNVERIFIED):
        if rollout is not None and rollout.old is None:
            return "it is live; read_architecture has its URL"
        taken_back = rollout is not None or operation.kind == "configure_flag"
        return "manage_operation with action rollback takes it back" if taken_back else "it is done"
    return "read the reason and the detail; read_logs has the service's own words"
