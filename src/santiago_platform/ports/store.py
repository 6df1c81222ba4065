from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Protocol, TypeVar

from ..domain.budget import Charge, Spent
from ..domain.change_request import ChangeRequest
from ..domain.deployment import Deployment
from ..domain.evidence import Attestation
from ..domain.flag import FlagFile
from ..domain.identity import Token
from ..domain.job import JobRun
from ..domain.live_period import LivePeriod
from ..domain.operation import Operation
from ..domain.phase import Phase
from ..domain.rollout import Message, Rollout
from ..domain.session import Session
from ..domain.value import Value

T = TypeVar("T")


class Step(Value):
    """A line of a rollout's journal: append-only."""

    rollout_id: str
    epoch: int
    phase: Phase
    reason: str = ""
    at: datetime

    @classmethod
    def of(cls, rollout: Rollout) -> Step:
        return cls(
            rollout_id=rollout.id,
            epoch=rollout.epoch,
            phase=rollout.phase,
            reason=rollout.reason,
            at=rollout.phase_since,
        )


class Snapshot(Protocol):
    """A consistent view of the rows. Values are immutable; a change is a saved copy."""

    def operation(self, operation_id: str) -> Operation | None: ...

    def operations(
        self,
        *,
        tenant: str | None = None,
        service: str | None = None,
        environment: str | None = None,
        running: bool | None = None,
        unlogged: bool | None = None,
        limit: int = 50,
    ) -> Sequence[Operation]:
        """Newest first. running: not ended yet, those that wait for somebody included. unlogged: finished, and its log
        entry not completed yet."""

    def rollout(self, rollout_id: str) -> Rollout | None: ...

    def rollout_of(self, operation_id: str) -> Rollout | None: ...

    def active_rollout(self, service: str, environment: str) -> Rollout | None: ...

    def active_rollouts(self) -> Sequence[Rollout]: ...

    def journal(self, rollout_id: str) -> Sequence[Step]: ...

    def messages(self, rollout_id: str) -> Sequence[Message]:
        """Those that wait in the rollout's inbox, oldest first."""

    def deployment(self, service: str, environment: str) -> Deployment | None: ...

    def deployments(self, *, tenant: str | None = None) -> Sequence[Deployment]: ...

    def live_periods(self, service: str, environment: str) -> Sequence[LivePeriod]:
        """Oldest first."""

    def job_run(self, run_id: str) -> JobRun | None: ...

    def job_runs(
        self,
        *,
        service: str | None = None,
        environment: str | None = None,
        job: str | None = None,
        rollout_id: str | None = None,
        unfinished: bool | None = None,
        limit: int = 50,
    ) -> Sequence[JobRun]:
        """Newest first."""

    def token(self, token_id: str) -> Token | None: ...

    def tokens(self) -> Sequence[Token]: ...

    def session(self, session_id: str) -> Session | None: ...

    def sessions(self, *, tenant: str | None = None, name: str | None = None, limit: int = 50) -> Sequence[Session]:
        """Of a principal, by its name, or of all; newest first."""

    def attestations(self, release: str) -> Sequence[Attestation]:
        """Of exactly that release, oldest first."""

    def flags(self) -> FlagFile | None:
        """The flags of which the ship's log knows how they came about; None before there were any."""

    def change_request(self, operation_id: str) -> ChangeRequest | None: ...

    def change_requests(
        self,
        *,
        open: bool | None = None,
        release: str | None = None,
        environment: str | None = None,
        limit: int = 50,
    ) -> Sequence[ChangeRequest]:
        """Newest first. open: nobody has decided it yet, and nothing has ended it."""

    def charge(self, charge_id: str) -> Charge | None: ...

    def charges(self, *, day: date | None = None, unsettled: bool | None = None, limit: int = 50) -> Sequence[Charge]:
        """Of the AI budget's ledger, newest first."""

    def spent(self, day: date) -> Spent:
        """What all charges of a day amount to, exactly."""


class Transaction(Snapshot, Protocol):
    """A snapshot that can be changed. All of a unit is stored, or nothing."""

    def save_operation(self, operation: Operation) -> None: ...

    def prune_operations(self, *, keep: int, limit: int) -> int:
        """Removes operations that have ended and whose log entries are complete, beyond the `keep` newest of them, with
        their rollouts, journals and inboxes; at most `limit`. Returns how many: call again where it was all of them."""

    def add_rollout(self, rollout: Rollout) -> None:
        """Stores it and the journal's first line. Raises PlatformError(CONFLICT) where the service has an active
        rollout in that environment: held by the database, not by a look beforehand."""

    def save_rollout(self, rollout: Rollout) -> None:
        """Stores it and a journal line. Raises PlatformError(CONFLICT) unless its epoch is exactly one above the
        stored one: the writer lags behind."""

    def add_message(self, rollout_id: str, message: Message) -> None:
        """Twice the same message id to one rollout is once, also when it was removed in between."""

    def remove_messages(self, rollout_id: str, message_ids: Sequence[str]) -> None: ...

    def save_deployment(self, deployment: Deployment) -> None: ...

    def save_live_period(self, period: LivePeriod) -> None:
        """Of a service and environment the newest PERIODS_KEPT stay."""

    def forget_live_periods(self, release: str) -> None:
        """Those of its versions, everywhere. An unknown one is no error."""

    def save_job_run(self, run: JobRun) -> None: ...

    def forget_job_runs(self, run_ids: Sequence[str]) -> None:
        """Unknown ones are no error."""

    def save_token(self, token: Token) -> None: ...

    def save_flags(self, file: FlagFile) -> None: ...

    def save_session(self, session: Session) -> None: ...

    def forget_sessions(self, *, expired_before: datetime) -> None: ...

    def add_attestation(self, attestation: Attestation) -> None:
        """Attestations are never changed: one whose id is there already stays as it is."""

    def save_change_request(self, request: ChangeRequest) -> None: ...

    def save_charge(self, charge: Charge) -> None: ...


class Store(Protocol):
    """Holds the platform's rows durably. Units must not block and must not keep the transaction."""

    async def read(self, view: Callable[[Snapshot], T]) -> T: ...

    async def write(self, unit: Callable[[Transaction], T]) -> T:
        """Runs `unit` alone among writers and returns its value once it is durable. An exception of the unit
        undoes it alone and is raised here. Raises RESOURCE_EXHAUSTED where the disk is full, UNAVAILABLE when closed.
        """

    async def close(self) -> None: ...
