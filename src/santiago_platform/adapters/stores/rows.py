"""Snapshots and transactions over a connection: values to rows, and back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

from ...domain.alert import Alert
from ...domain.budget import NANO, Charge, Settlement, Spent
from ...domain.change_request import ChangeRequest
from ...domain.delivery import Delivery, DeliveryState
from ...domain.deployment import Deployment
from ...domain.errors import ErrorCode, PlatformError
from ...domain.evidence import Attestation
from ...domain.flag import FlagFile
from ...domain.identity import Role, Token
from ...domain.job import JobRun
from ...domain.live_period import PERIODS_KEPT, LivePeriod
from ...domain.mailbox import Mail
from ...domain.monitoring import Monitoring
from ...domain.operation import Operation, OperationState
from ...domain.rollout import Message, Rollout
from ...domain.session import Session
from ...ports.store import Step
from . import statements as sql
from .document import document
from .incident_rows import IncidentRows

VALUES_KEPT = 256
FLAGS = "flags.json"  # the one row of its table
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_US = 2**63 - 1


class Rows(IncidentRows):
    """Implements ports.store.Snapshot, and Transaction where the connection may write."""

    def operation(self, operation_id: str) -> Operation | None:
        return self._one(Operation, sql.OPERATION, id=operation_id)

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
        named = {"tenant": tenant, "service": service, "environment": environment}
        given = {name: value for name, value in named.items() if value is not None}
        newest = sql.newest_operations(tuple(given), running, unlogged, since is not None)
        begun = {} if since is None else {"since_us": _microseconds(since)}
        return self._all(Operation, newest, **given, **begun, limit=limit)

    def rollout(self, rollout_id: str) -> Rollout | None:
        return self._one(Rollout, sql.ROLLOUT, id=rollout_id)

    def rollout_of(self, operation_id: str) -> Rollout | None:
        return self._one(Rollout, sql.ROLLOUT_OF, operation_id=operation_id)

    def active_rollout(self, service: str, environment: str) -> Rollout | None:
        return self._one(Rollout, sql.ACTIVE_ROLLOUT, service=service, environment=environment)

    def active_rollouts(self) -> Sequence[Rollout]:
        return self._all(Rollout, sql.ACTIVE_ROLLOUTS)

    def journal(self, rollout_id: str) -> Sequence[Step]:
        return self._all(Step, sql.JOURNAL, rollout_id=rollout_id)

    def messages(self, rollout_id: str) -> Sequence[Message]:
        return self._all(Message, sql.MESSAGES, rollout_id=rollout_id)

    def deployment(self, service: str, environment: str) -> Deployment | None:
        return self._one(Deployment, sql.DEPLOYMENT, service=service, environment=environment)

    def deployments(self, *, tenant: str | None = None) -> Sequence[Deployment]:
        if tenant is None:
            return self._all(Deployment, sql.DEPLOYMENTS)
        return self._all(Deployment, sql.DEPLOYMENTS_OF_TENANT, tenant=tenant)

    def live_periods(self, service: str, environment: str) -> Sequence[LivePeriod]:
        return self._all(LivePeriod, sql.LIVE_PERIODS, service=service, environment=environment)

    def job_run(self, run_id: str) -> JobRun | None:
        return self._one(JobRun, sql.JOB_RUN, id=run_id)

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
        named = {"service": service, "environment": environment, "job": job, "rollout_id": rollout_id}
        given = {name: value for name, value in named.items() if value is not None}
        return self._all(JobRun, sql.newest_job_runs(tuple(given), unfinished), **given, limit=limit)

    def token(self, token_id: str) -> Token | None:
        return self._one(Token, sql.TOKEN, id=token_id)

    def tokens(self) -> Sequence[Token]:
        return self._all(Token, sql.TOKENS)

    def session(self, session_id: str) -> Session | None:
        return self._one(Session, sql.SESSION, id=session_id)

    def sessions(self, *, tenant: str | None = None, name: str | None = None, limit: int = 50) -> Sequence[Session]:
        given = {key: value for key, value in (("tenant", tenant), ("name", name)) if value is not None}
        return self._all(Session, sql.newest_sessions(tuple(given)), **given, limit=limit)

    def attestations(self, release: str) -> Sequence[Attestation]:
        return self._all(Attestation, sql.ATTESTATIONS, release=release)

    def flags(self) -> FlagFile | None:
        return self._one(FlagFile, sql.FLAGS, name=FLAGS)

    def change_request(self, operation_id: str) -> ChangeRequest | None:
        return self._one(ChangeRequest, sql.CHANGE_REQUEST, id=operation_id)

    def change_requests(
        self,
        *,
        open: bool | None = None,
        release: str | None = None,
        environment: str | None = None,
        limit: int = 50,
    ) -> Sequence[ChangeRequest]:
        named = {"release": release, "environment": environment}
        given = {name: value for name, value in named.items() if value is not None}
        return self._all(ChangeRequest, sql.newest_change_requests(tuple(given), open), **given, limit=limit)

    def charge(self, charge_id: str) -> Charge | None:
        return self._one(Charge, sql.CHARGE, id=charge_id)

    def charges(self, *, day: date | None = None, unsettled: bool | None = None, limit: int = 50) -> Sequence[Charge]:
        given = {} if day is None else {"day": day.isoformat()}
        return self._all(Charge, sql.newest_charges(tuple(given), unsettled), **given, limit=limit)

    def spent(self, day: date) -> Spent:
        return Spent.of(
            (role, task, tenant, NANO * amount)
            for role, task, tenant, amount in self._execute(sql.SPENT, day=day.isoformat())
        )

    def mail(
        self, tenant: str, mailbox: Role, *, unread: bool, before: str | None = None, limit: int = 50
    ) -> Sequence[Mail]:
        where = {"tenant": tenant, "mailbox": mailbox, "unread": unread, "limit": limit}
        if before is None:
            return self._all(Mail, sql.MAIL, **where)
        return self._all(Mail, sql.MAIL_BEFORE, **where, before=before)

    def mail_of_id(self, mail_id: str) -> Sequence[Mail]:
        return self._all(Mail, sql.MAIL_OF_ID, id=mail_id)

    def mail_of_key(self, tenant: str, key: str, *, since: datetime) -> Sequence[Mail]:
        return self._all(Mail, sql.MAIL_OF_KEY, tenant=tenant, key=key, since_us=_microseconds(since))

    def mail_sent(self, tenant: str, sender: str, since: datetime) -> int:
        found = self._execute(sql.MAIL_SENT, tenant=tenant, sender=sender, since_us=_microseconds(since))
        return int(found.fetchone()[0])

    def unread_mail(self, tenant: str, mailbox: Role) -> int:
        return int(self._execute(sql.UNREAD_MAIL, tenant=tenant, mailbox=mailbox).fetchone()[0])

    def deliveries(self, *, state: DeliveryState, due: datetime | None = None, limit: int = 50) -> Sequence[Delivery]:
        due_us = _microseconds(due) if due is not None else _LATEST_US
        return self._all(Delivery, sql.DELIVERIES, state=state, due_us=due_us, limit=limit)

    def save_operation(self, operation: Operation) -> None:
        self._execute(
            sql.SAVE_OPERATION,
            id=operation.id,
            tenant=operation.of_tenant,
            service=operation.service,
            environment=operation.environment,
            running=operation.state is OperationState.RUNNING,
            unlogged=operation.state.finished and not operation.logged,
            created_at_us=_microseconds(operation.created_at),
            document=document(operation),
        )

    def prune_operations(self, *, keep: int, limit: int) -> int:
        ended = [id for (id,) in self._execute(sql.ENDED_OPERATIONS, keep=keep, limit=limit)]
        for id in ended:
            for statement in sql.REMOVE_OPERATION:
                self._execute(statement, id=id)
        return len(ended)

    def add_rollout(self, rollout: Rollout) -> None:
        with _one_active(rollout):
            self._execute(
                sql.ADD_ROLLOUT,
                id=rollout.id,
                operation_id=rollout.operation_id,
                service=rollout.service,
                environment=rollout.environment,
                active=not rollout.phase.finished,
                epoch=rollout.epoch,
                document=document(rollout),
            )
        self._add_step(rollout)

    def save_rollout(self, rollout: Rollout) -> None:
        with _one_active(rollout):
            stored = self._execute(
                sql.SAVE_ROLLOUT,
                id=rollout.id,
                epoch_before=rollout.epoch - 1,
                active=not rollout.phase.finished,
                epoch=rollout.epoch,
                document=document(rollout),
            ).rowcount
        if stored != 1:
            raise PlatformError(
                ErrorCode.CONFLICT,
                f"rollout {rollout.id} is not at epoch {rollout.epoch - 1}: another writer was first",
                "read it again and decide anew",
            )
        self._add_step(rollout)

    def add_message(self, rollout_id: str, message: Message) -> None:
        self._execute(
            sql.ADD_MESSAGE, rollout_id=rollout_id, message_id=message.id, waiting=True, document=document(message)
        )

    def remove_messages(self, rollout_id: str, message_ids: Sequence[str]) -> None:
        # The row stays, so that a message that is sent again is known.
        for message_id in message_ids:
            self._execute(sql.REMOVE_MESSAGE, rollout_id=rollout_id, message_id=message_id)

    def save_deployment(self, deployment: Deployment) -> None:
        self._execute(
            sql.SAVE_DEPLOYMENT,
            service=deployment.service,
            environment=deployment.environment,
            tenant=deployment.tenant,
            document=document(deployment),
        )

    def save_live_period(self, period: LivePeriod) -> None:
        where = {"service": period.service, "environment": period.environment}
        number, release = period.number, period.release
        self._execute(sql.SAVE_LIVE_PERIOD, **where, number=number, release=release, document=document(period))
        self._execute(sql.FORGET_OLD_PERIODS, **where, keep=PERIODS_KEPT)

    def forget_live_periods(self, release: str) -> None:
        self._execute(sql.FORGET_LIVE_PERIODS, release=release)

    def save_job_run(self, run: JobRun) -> None:
        self._execute(
            sql.SAVE_JOB_RUN,
            id=run.id,
            service=run.template.service,
            environment=run.template.environment,
            job=run.job.name,
            rollout_id=run.rollout_id,
            unfinished=not run.state.finished,
            document=document(run),
        )

    def forget_job_runs(self, run_ids: Sequence[str]) -> None:
        for run_id in run_ids:
            self._execute(sql.FORGET_JOB_RUN, id=run_id)

    def save_token(self, token: Token) -> None:
        self._execute(sql.SAVE_TOKEN, id=token.id, document=document(token))

    def save_session(self, session: Session) -> None:
        self._execute(
            sql.SAVE_SESSION,
            id=session.id,
            tenant=session.principal.tenant,
            name=session.principal.name,
            expires_at_us=(session.expires_at - _EPOCH) // timedelta(microseconds=1),
            document=document(session),
        )

    def forget_sessions(self, *, expired_before: datetime) -> None:
        self._execute(sql.FORGET_SESSIONS, before_us=(expired_before - _EPOCH) // timedelta(microseconds=1))

    def add_attestation(self, attestation: Attestation) -> None:
        self._execute(
            sql.ADD_ATTESTATION, id=attestation.id, release=attestation.release, document=document(attestation)
        )

    def save_flags(self, file: FlagFile) -> None:
        self._execute(sql.SAVE_FLAGS, name=FLAGS, document=document(file))

    def save_change_request(self, request: ChangeRequest) -> None:
        self._execute(
            sql.SAVE_CHANGE_REQUEST,
            id=request.id,
            release=request.release,
            environment=request.environment,
            open=request.is_open,
            document=document(request),
        )

    def save_charge(self, charge: Charge) -> None:
        self._execute(
            sql.SAVE_CHARGE,
            id=charge.id,
            day=charge.day.isoformat(),
            role=charge.role,
            task=charge.task,
            tenant=charge.tenant,
            open=charge.settlement is Settlement.OPEN,
            amount_nano_usd=int(charge.amount_usd / NANO),
            document=document(charge),
        )

    def add_mail(self, mail: Mail) -> None:
        self._execute(
            sql.ADD_MAIL,
            id=mail.id,
            tenant=mail.tenant,
            mailbox=mail.mailbox,
            sender=mail.sender.name,
            key=mail.key,
            unread=mail.unread,
            at_us=_microseconds(mail.at),
            document=document(mail),
        )

    def save_mail(self, mail: Mail) -> None:
        self._execute(
            sql.SAVE_MAIL, mail_id=mail.id, of_mailbox=mail.mailbox, unread=mail.unread, document=document(mail)
        )

    def prune_mail(self, before: datetime, *, limit: int) -> int:
        removed = self._execute(sql.PRUNE_MAIL, before_us=_microseconds(before), limit=limit).rowcount
        self._execute(sql.PRUNE_DELIVERIES, before_us=_microseconds(before))
        return removed

    def add_delivery(self, delivery: Delivery) -> None:
        self._execute(sql.ADD_DELIVERY, **_columns(delivery))

    def save_delivery(self, delivery: Delivery) -> None:
        self._execute(sql.SAVE_DELIVERY, **_columns(delivery))

    def alerts(self) -> Sequence[Alert]:
        return self._all(Alert, sql.ALERTS)

    def save_alert(self, alert: Alert) -> None:
        key = {"service": alert.service, "environment": alert.environment, "name": alert.name}
        self._execute(sql.SAVE_ALERT, **key, document=document(alert))

    def remove_alert(self, alert: Alert) -> None:
        self._execute(sql.REMOVE_ALERT, of=alert.service, where=alert.environment, named=alert.name)

    def monitoring(self, service: str, environment: str) -> Monitoring | None:
        return self._one(Monitoring, sql.MONITORING, service=service, environment=environment)

    def monitorings(self) -> Sequence[Monitoring]:
        return self._all(Monitoring, sql.MONITORINGS)

    def save_monitoring(self, monitoring: Monitoring) -> None:
        place = {"service": monitoring.service, "environment": monitoring.environment}
        self._execute(sql.SAVE_MONITORING, **place, document=document(monitoring))

    def _add_step(self, rollout: Rollout) -> None:
        self._execute(sql.ADD_STEP, rollout_id=rollout.id, epoch=rollout.epoch, document=document(Step.of(rollout)))


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _columns(delivery: Delivery) -> dict[str, object]:
    return {
        "id": delivery.id,
        "state": delivery.state,
        "next_us": _microseconds(delivery.next_at),
        "at_us": _microseconds(delivery.at),
        "document": document(delivery),
    }


@contextmanager
def _one_active(rollout: Rollout) -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError as exc:
        raise PlatformError(
            ErrorCode.CONFLICT,
            f"{rollout.service}/{rollout.environment} has an active rollout",
            "wait for it, or abort it with manage_operation",
            internal=str(exc),
        ) from exc
