"""An operation: one thing that was asked for, followed from the request to its proof."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from .gate import Answer
from .identity import Principal
from .proof import Proof
from .value import Value


class OperationState(StrEnum):
    PLANNED = "planned"  # a dry run: what would be done; nothing is stored
    AWAITING = "awaiting"  # planned, and somebody has to say yes first
    RUNNING = "running"
    SUCCEEDED = "succeeded"  # done, and read back: the proof is MATCH
    UNVERIFIED = "unverified"  # done as far as is known, but it could not be read back
    ROLLED_BACK = "rolled_back"  # undone: the state before it is live again
    FAILED = "failed"
    REJECTED = "rejected"  # somebody said no; nothing was changed
    VOID = "void"  # what it was bound to has moved, or nobody answered in time; nothing was changed

    @property
    def finished(self) -> bool:
        """What was only planned has not even begun."""
        return self not in (OperationState.PLANNED, OperationState.AWAITING, OperationState.RUNNING)


class Operation(Value):
    """kind: the tool that was called. request: its typed arguments. log_entry: its entry in the ship's log.

    tenant: whose the service is; empty in old rows, whose caller was of it. progress: 0 to 1. reason: why it ended as
    it did, in words. gates: what they answered before it began, or once its release was built.
    logged: its log entry is completed.
    """

    id: str
    kind: str
    principal: Principal
    service: str
    environment: str
    tenant: str = ""
    request: dict[str, Any]
    state: OperationState = OperationState.RUNNING
    phase: str = "pending"
    progress: float = 0.0
    reason: str = ""
    detail: tuple[str, ...] = ()
    gates: tuple[Answer, ...] = ()
    proof: Proof | None = None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None = None
    log_entry: int = 0
    logged: bool = False

    @property
    def of_tenant(self) -> str:
        return self.tenant or self.principal.tenant
