from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Protocol, TypeVar

from ..domain.alert import Alert
from ..domain.budget import Charge, Spent
from ..domain.change_request import ChangeRequest
from ..domain.delivery import Delivery, DeliveryState
from ..domain.deployment import Deployment
from ..domain.evidence import Attestation
from ..domain.flag import FlagFile
from ..domain.identity import Role, Token
from ..domain.incident import Incident
from ..domain.job import JobRun
from ..domain.live_period import LivePeriod
from ..domain.mailbox import Mail
from ..domain.monitoring import Monitoring
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
        since: datetime | None = None,
        limit: int = 50,
    ) -> Sequence[Operation]:
        """Newest first. running: those that wait for somebody do not. unlogged: finished, and its log entry not
        completed yet. since: begun at that time, or later."""

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

    def mail(
        self, tenant: str, mailbox: Role, *, unread: bool, before: str | None = None, limit: int = 50
    ) -> Sequence[Mail]:
        """In one mailbox, newest first. before: the id of a mail in it: those that are older; none where it is gone."""

    def mail_of_id(self, mail_id: str) -> Sequence[Mail]:
        """One for each mailbox that it lies in."""

    def mail_of_key(self, tenant: str, key: str, *, since: datetime) -> Sequence[Mail]:
        """Newest first, one for each mailbox."""

    def mail_sent(self, tenant: str, sender: str, since: datetime) -> int:
        """How many mails a sender has sent; what went to a team counts once."""

    def unread_mail(self, tenant: str, mailbox: Role) -> int:
        """How many in a mailbox are not acknowledged."""

    def alerts(self) -> Sequence[Alert]:
        """All of them, by service, environment and name."""

    def monitoring(self, service: str, environment: str) -> Monitoring | None: ...

    def monitorings(self) -> Sequence[Monitoring]:
        """By service and environment."""

    def deliveries(self, *, state: DeliveryState, due: datetime | None = None, limit: int = 50) -> Sequence[Delivery]:
        """Those that are to be tried first come first. due: at that time, or before."""

    def incident(self, incident_id: str) -> Incident | None: ...

    def newest_incident(self, service: str, environment: str, cause: str) -> Incident | None: ...

    def incidents(
        self,
        *,
        tenant: str | None = None,
        service: str | None = None,
        environment: str | None = None,
        open: bool | None = None,
        unfinished: bool | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> Sequence[Incident]:
        """Newest first. unfinished: something is left to do about it. before: the id of one: those that are older; none
        where it is gone."""


class Transaction(Snapshot, Protocol):
    """A snapshot that can be changed. All of a unit is stored, or nothing."""

    def save_operation(self, operation: Operation) -> None: ...

    def prune_operations(self, *, keep: int, limit: int) -> int:
        """Removes operations that have ended (none that waits) and whose log entries are complete, beyond the `keep`
        newest of them, with their rollouts, journals and inboxes; at most `limit`. Returns how many: call again where
        it was all of them."""

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

    def add_mail(self, mail: Mail) -> None:
        """Twice the same id in one mailbox is once: the first one stays as it is."""

    def save_mail(self, mail: Mail) -> None:
        """What lies in a mailbox already, as it is now."""

    def prune_mail(self, before: datetime, *, limit: int) -> int:
        """Removes mail that is older, read or not, at most `limit`; and deliveries that are as old. Returns how many
        mails."""

    def save_alert(self, alert: Alert) -> None: ...

    def remove_alert(self, alert: Alert) -> None:
        """The one of its service, environment and name. An unknown one is no error."""

    def save_monitoring(self, monitoring: Monitoring) -> None: ...

    def add_delivery(self, delivery: Delivery) -> None:
        """Twice the same id is once: the first one stays as it is."""

    def save_delivery(self, delivery: Delivery) -> None: ...

    def save_incident(self, incident: Incident) -> None: ...


class Store(Protocol):
    """Holds the platform's rows durably. Units must not block and must not keep the transaction."""

    async def read(self, view: Callable[[Snapshot], T]) -> T: ...

    async def write(self, unit: Callable[[Transaction], T]) -> T:
        """Runs `unit` alone among writers and returns its value once it is durable. An exception of the unit
        undoes it alone and is raised here. Raises RESOURCE_EXHAUSTED where the disk is full, UNAVAILABLE when closed.
        """

    async def close(self) -> None: ...
