"""Which deploys did harm, and when that was over: from what rollouts came to. Pure.

A failure belongs to the rollout that made the version that was taken back, however much was deployed since.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from .dora import Deploy
from .operation import Operation, OperationState
from .phase import Phase
from .rollout import Rollout
from .value import Value

DEPLOY, ROLLBACK = "deploy_service", "rollback_service"
TOOK_OVER = (OperationState.SUCCEEDED, OperationState.UNVERIFIED)
_ERRORS = "errors"


class Change(Value):
    """An operation that has ended, with its rollout."""

    operation: Operation
    rollout: Rollout

    @property
    def took_over(self) -> bool:
        return self.operation.state in TOOK_OVER and not self.rollout.unchanged

    @property
    def ended_at(self) -> datetime:
        return self.operation.finished_at or self.operation.updated_at


class Harm(Value):
    """What an incident says of the deploy that caused it. until: when it was resolved; None while it is open."""

    why: str
    until: datetime | None = None


def deploys(
    changes: Iterable[Change],
    committed: Mapping[str, tuple[datetime, ...] | None] | None = None,
    harms: Mapping[str, Harm] | None = None,
) -> tuple[Deploy, ...]:
    """The deploys among the changes of one service in one environment, oldest first.

    committed: by operation, as Deploy has it. harms: by the operation that caused an incident; they count beside what
    the rollouts themselves show.
    """
    ordered = sorted(changes, key=lambda change: change.ended_at)
    return tuple(
        _deploy(change, ordered[number + 1 :], (committed or {}).get(change.operation.id), (harms or {}))
        for number, change in enumerate(ordered)
        if change.operation.kind == DEPLOY and not change.rollout.unchanged
    )


def _deploy(
    change: Change, later: Sequence[Change], committed: tuple[datetime, ...] | None, harms: Mapping[str, Harm]
) -> Deploy:
    operation, rollout = change.operation, change.rollout
    failed, recovered_at = _failure(change, later)
    harm = harms.get(operation.id)
    if harm is not None:
        ends = [at for at in (recovered_at if failed else None, harm.until) if at is not None]
        open_still = harm.until is None or (failed and recovered_at is None)
        failed, recovered_at = failed or harm.why, None if open_still else max(ends)
    return Deploy(
        operation=operation.id,
        service=operation.service,
        environment=operation.environment,
        tenant=rollout.tenant,
        release=rollout.new.template.release if rollout.new else "",
        ended_at=change.ended_at,
        first=rollout.old is None,
        succeeded=change.took_over,
        reached_users=reached_users(rollout),
        reached_at=change.ended_at if change.took_over else rollout.moved_at or change.ended_at,
        failed=failed,
        recovered_at=recovered_at,
        self_aborted=not change.took_over and _at_step(rollout),
        fixes=str(operation.request.get("fixes") or ""),
        committed=committed,
    )


def reached_users(rollout: Rollout) -> bool:
    """Whether some request of a user went to the new version: a copy of one is not one."""
    if not rollout.moved:
        return rollout.phase is Phase.SUCCEEDED
    return not rollout.stepwise or rollout.shifted > 0 or bool(rollout.canary and rollout.canary.visitors)


def _at_step(rollout: Rollout) -> bool:
    return rollout.stepwise and rollout.moved and rollout.shifted < rollout.parts


def _failure(change: Change, later: Sequence[Change]) -> tuple[str, datetime | None]:
    """Why it failed, empty where it did not; and when what it had done was undone."""
    rollout = change.rollout
    if change.took_over:
        undoing = _undone_by(change, later)
        return (_why(undoing), undoing.ended_at) if undoing else ("", None)
    if not reached_users(rollout) or (_at_step(rollout) and not _users_saw_errors(rollout)):
        return "", None
    back = rollout.phase is Phase.ROLLED_BACK or (rollout.phase is Phase.FAILED and not rollout.stranded)
    return rollout.reason or "it was taken back", change.ended_at if back else None


def _why(undoing: Change) -> str:
    return undoing.operation.reason or str(undoing.operation.request.get("reason") or "") or "it was rolled back"


def _undone_by(change: Change, later: Sequence[Change]) -> Change | None:
    """The rollback that took back what the change had made live: none where another change came before it."""
    made = change.rollout.new
    for other in later:
        if not other.took_over:
            continue
        left = other.rollout.old
        same = left is not None and made is not None and left.name == made.name
        return other if same and other.operation.kind == ROLLBACK else None
    return None


def _users_saw_errors(rollout: Rollout) -> bool:
    """Of a canary at a step. Where nobody has counted, nothing says that users saw none."""
    if rollout.analysis is None:
        return True
    counted = next((c for c in rollout.analysis.judge.counted if c.name == _ERRORS), None)
    return counted is None or counted.whole.canary_errors > 0
