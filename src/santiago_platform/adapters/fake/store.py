from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from datetime import date, datetime
from typing import TypeVar

from ...domain.alert import Alert
from ...domain.budget import Charge, Settlement, Spent
from ...domain.change_request import ChangeRequest
from ...domain.delivery import Delivery, DeliveryState
from ...domain.deployment import Deployment
from ...domain.errors import ErrorCode, PlatformError
from ...domain.evidence import Attestation
from ...domain.flag import FlagFile
from ...domain.identity import Role, Token
from ...domain.incident import Incident
from ...domain.job import JobRun
from ...domain.live_period import PERIODS_KEPT, LivePeriod
from ...domain.mailbox import Mail
from ...domain.monitoring import Monitoring
from ...domain.operation import Operation, OperationState
from ...domain.rollout import Message, Rollout
from ...domain.session import Session
from ...ports.store import Snapshot, Step, Transaction

T = TypeVar("T")


class FakeStore:
    """Implements ports.store.Store in memory: a unit works on a copy, which takes the rows' place when it succeeds."""

    def __init__(self) -> None:
        self._rows = _Rows()
        self._closed = False

    async def read(self, view: Callable[[Snapshot], T]) -> T:
        self._check_open()
        return view(self._rows)

    async def write(self, unit: Callable[[Transaction], T]) -> T:
        self._check_open()
        rows = self._rows.copy()
        value = unit(rows)
        self._rows = rows
        return value

    async def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise PlatformError(ErrorCode.UNAVAILABLE, "the store is closed", "start the platform again")


class _Rows:
    """Dictionaries keep the order of insertion, so what is newest comes last."""

    def __init__(self) -> None:
        self._operations: dict[str, Operation] = {}
        self._rollouts: dict[str, Rollout] = {}
        self._journal: list[Step] = []
        self._inbox: dict[tuple[str, str], Message | None] = {}  # None once it was removed: it stays known
        self._deployments: dict[tuple[str, str], Deployment] = {}
        self._live_periods: dict[tuple[str, str, int], LivePeriod] = {}
        self._job_runs: dict[str, JobRun] = {}
        self._tokens: dict[str, Token] = {}
        self._sessions: dict[str, Session] = {}
        self._attestations: dict[str, Attestation] = {}
        self._flags: FlagFile | None = None
        self._change_requests: dict[str, ChangeRequest] = {}
        self._charges: dict[str, Charge] = {}
        self._mail: dict[tuple[str, Role], Mail] = {}
        self._deliveries: dict[str, Delivery] = {}
        self._incidents: dict[str, Incident] = {}
        self._alerts: dict[tuple[str, str, str], Alert] = {}
        self._monitorings: dict[tuple[str, str], Monitoring] = {}

    def copy(self) -> _Rows:
        other = _Rows()
        other.__dict__.update({name: copy(rows) for name, rows in self.__dict__.items()})
        return other

    def operation(self, operation_id: str) -> Operation | None:
        return self._operations.get(operation_id)

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
        found = [
            o
            for o in self._operations.values()
            if tenant in (None, o.of_tenant)
            and service in (None, o.service)
            and environment in (None, o.environment)
            and running in (None, o.state is OperationState.RUNNING)
            and unlogged in (None, o.state.finished and not o.logged)
            and (since is None or o.created_at >= since)
        ]
        return sorted(found, key=lambda o: o.created_at)[::-1][:limit]

    def rollout(self, rollout_id: str) -> Rollout | None:
        return self._rollouts.get(rollout_id)

    def rollout_of(self, operation_id: str) -> Rollout | None:
        return next((r for r in self._rollouts.values() if r.operation_id == operation_id), None)

    def active_rollout(self, service: str, environment: str) -> Rollout | None:
        return next((r for r in self.active_rollouts() if (r.service, r.environment) == (service, environment)), None)

    def active_rollouts(self) -> Sequence[Rollout]:
        return [r for r in self._rollouts.values() if not r.phase.finished]

    def journal(self, rollout_id: str) -> Sequence[Step]:
        return [step for step in self._journal if step.rollout_id == rollout_id]

    def messages(self, rollout_id: str) -> Sequence[Message]:
        return [m for (to, _), m in self._inbox.items() if to == rollout_id and m is not None]

    def deployment(self, service: str, environment: str) -> Deployment | None:
        return self._deployments.get((service, environment))

    def deployments(self, *, tenant: str | None = None) -> Sequence[Deployment]:
        found = [d for d in self._deployments.values() if tenant in (None, d.tenant)]
        return sorted(found, key=lambda d: (d.service, d.environment))

    def live_periods(self, service: str, environment: str) -> Sequence[LivePeriod]:
        found = [p for p in self._live_periods.values() if (p.service, p.environment) == (service, environment)]
        return sorted(found, key=lambda p: p.number)

    def job_run(self, run_id: str) -> JobRun | None:
        return self._job_runs.get(run_id)

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
        found = [
            run
            for run in self._job_runs.values()
            if service in (None, run.template.service)
            and environment in (None, run.template.environment)
            and job in (None, run.job.name)
            and rollout_id in (None, run.rollout_id)
            and unfinished in (None, not run.state.finished)
        ]
        return found[::-1][:limit]

    def token(self, token_id: str) -> Token | None:
        return self._tokens.get(token_id)

    def tokens(self) -> Sequence[Token]:
        return list(self._tokens.values())

    def session(self, session_id: str) -> Session | None:
        return self._sessions.get(session_id)

    def sessions(self, *, tenant: str | None = None, name: str | None = None, limit: int = 50) -> Sequence[Session]:
        found = [
            s
            for s in self._sessions.values()
            if tenant in (None, s.principal.tenant) and name in (None, s.principal.name)
        ]
        return found[::-1][:limit]

    def attestations(self, release: str) -> Sequence[Attestation]:
        return [a for a in self._attestations.values() if a.release == release]

    def change_request(self, operation_id: str) -> ChangeRequest | None:
        return self._change_requests.get(operation_id)

    def change_requests(
        self,
        *,
        open: bool | None = None,
        release: str | None = None,
        environment: str | None = None,
        limit: int = 50,
    ) -> Sequence[ChangeRequest]:
        found = [
            r
            for r in self._change_requests.values()
            if open in (None, r.is_open) and release in (None, r.release) and environment in (None, r.environment)
        ]
        return found[::-1][:limit]

    def charge(self, charge_id: str) -> Charge | None:
        return self._charges.get(charge_id)

    def charges(self, *, day: date | None = None, unsettled: bool | None = None, limit: int = 50) -> Sequence[Charge]:
        found = [
            c
            for c in self._charges.values()
            if day in (None, c.day) and unsettled in (None, c.settlement is Settlement.OPEN)
        ]
        return found[::-1][:limit]

    def spent(self, day: date) -> Spent:
        return Spent.of((c.role, c.task, c.tenant, c.amount_usd) for c in self._charges.values() if c.day == day)

    def mail(
        self, tenant: str, mailbox: Role, *, unread: bool, before: str | None = None, limit: int = 50
    ) -> Sequence[Mail]:
        known = list(self._mail)
        if before is not None:
            known = known[: known.index((before, mailbox))] if (before, mailbox) in known else []
        found = [self._mail[key] for key in known]
        wanted = (tenant, mailbox, unread)
        return [m for m in reversed(found) if (m.tenant, m.mailbox, m.unread) == wanted][:limit]

    def mail_of_id(self, mail_id: str) -> Sequence[Mail]:
        return [mail for mail in self._mail.values() if mail.id == mail_id]

    def mail_of_key(self, tenant: str, key: str, *, since: datetime) -> Sequence[Mail]:
        found = [m for m in self._mail.values() if (m.tenant, m.key) == (tenant, key) and m.at >= since]
        return sorted(found, key=lambda m: m.at, reverse=True)

    def mail_sent(self, tenant: str, sender: str, since: datetime) -> int:
        wanted = (tenant, sender)
        return len({m.id for m in self._mail.values() if (m.tenant, m.sender.name) == wanted and m.at >= since})

    def unread_mail(self, tenant: str, mailbox: Role) -> int:
        return sum((m.tenant, m.mailbox, m.unread) == (tenant, mailbox, True) for m in self._mail.values())

    def deliveries(self, *, state: DeliveryState, due: datetime | None = None, limit: int = 50) -> Sequence[Delivery]:
        found = [d for d in self._deliveries.values() if d.state is state and (due is None or d.next_at <= due)]
        return sorted(found, key=lambda d: (d.next_at, d.id))[:limit]

    def incident(self, incident_id: str) -> Incident | None:
        return self._incidents.get(incident_id)

    def newest_incident(self, service: str, environment: str, cause: str) -> Incident | None:
        found = self.incidents(service=service, environment=environment, limit=len(self._incidents))
        return next((i for i in found if i.cause == cause), None)

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
        known = list(self._incidents)
        if before is not None:
            known = known[: known.index(before)] if before in known else []
        found = [
            i
            for i in (self._incidents[id] for id in reversed(known))
            if tenant in (None, i.tenant)
            and service in (None, i.service)
            and environment in (None, i.environment)
            and open in (None, i.is_open)
            and unfinished in (None, i.unfinished)
        ]
        return found[:limit]

    def save_operation(self, operation: Operation) -> None:
        self._operations[operation.id] = operation

    def prune_operations(self, *, keep: int, limit: int) -> int:
        old = self.operations(running=False, unlogged=False, limit=keep + limit)[keep:]
        ended = [o for o in old if o.state.finished]
        for operation in ended:
            del self._operations[operation.id]
            for rollout in [r for r in self._rollouts.values() if r.operation_id == operation.id]:
                del self._rollouts[rollout.id]
                self._journal = [step for step in self._journal if step.rollout_id != rollout.id]
                self._inbox = {key: message for key, message in self._inbox.items() if key[0] != rollout.id}
        return len(ended)

    def add_rollout(self, rollout: Rollout) -> None:
        if rollout.id in self._rollouts:
            raise PlatformError(ErrorCode.CONFLICT, f"there is a rollout {rollout.id} already")
        self._store(rollout)

    def save_rollout(self, rollout: Rollout) -> None:
        stored = self._rollouts.get(rollout.id)
        if stored is None or stored.epoch != rollout.epoch - 1:
            raise PlatformError(
                ErrorCode.CONFLICT,
                f"rollout {rollout.id} is not at epoch {rollout.epoch - 1}: another writer was first",
                "read it again and decide anew",
            )
        self._store(rollout)

    def _store(self, rollout: Rollout) -> None:
        active = self.active_rollout(rollout.service, rollout.environment)
        if active is not None and active.id != rollout.id and not rollout.phase.finished:
            raise PlatformError(
                ErrorCode.CONFLICT,
                f"{rollout.service}/{rollout.environment} has an active rollout",
                "wait for it, or abort it with manage_operation",
            )
        self._rollouts[rollout.id] = rollout
        self._journal.append(Step.of(rollout))

    def add_message(self, rollout_id: str, message: Message) -> None:
        self._inbox.setdefault((rollout_id, message.id), message)

    def remove_messages(self, rollout_id: str, message_ids: Sequence[str]) -> None:
        for message_id in message_ids:
            if (rollout_id, message_id) in self._inbox:
                self._inbox[rollout_id, message_id] = None

    def save_deployment(self, deployment: Deployment) -> None:
        self._deployments[deployment.service, deployment.environment] = deployment

    def save_live_period(self, period: LivePeriod) -> None:
        self._live_periods[period.service, period.environment, period.number] = period
        for old in self.live_periods(period.service, period.environment)[:-PERIODS_KEPT]:
            del self._live_periods[old.service, old.environment, old.number]

    def forget_live_periods(self, release: str) -> None:
        self._live_periods = {key: p for key, p in self._live_periods.items() if p.release != release}

    def save_job_run(self, run: JobRun) -> None:
        self._job_runs[run.id] = run

    def forget_job_runs(self, run_ids: Sequence[str]) -> None:
        for run_id in run_ids:
            self._job_runs.pop(run_id, None)

    def save_token(self, token: Token) -> None:
        self._tokens[token.id] = token

    def save_session(self, session: Session) -> None:
        self._sessions[session.id] = session

    def forget_sessions(self, *, expired_before: datetime) -> None:
        self._sessions = {id: s for id, s in self._sessions.items() if s.expires_at >= expired_before}

    def add_attestation(self, attestation: Attestation) -> None:
        self._attestations.setdefault(attestation.id, attestation)

    def flags(self) -> FlagFile | None:
        return self._flags

    def save_flags(self, file: FlagFile) -> None:
        self._flags = file

    def save_change_request(self, request: ChangeRequest) -> None:
        self._change_requests[request.id] = request

    def save_charge(self, charge: Charge) -> None:
        self._charges[charge.id] = charge

    def add_mail(self, mail: Mail) -> None:
        self._mail.setdefault((mail.id, mail.mailbox), mail)

    def save_mail(self, mail: Mail) -> None:
        self._mail[mail.id, mail.mailbox] = mail

    def prune_mail(self, before: datetime, *, limit: int) -> int:
        old = [key for key, mail in self._mail.items() if mail.at < before][:limit]
        for key in old:
            del self._mail[key]
        self._deliveries = {id: d for id, d in self._deliveries.items() if d.at >= before}
        return len(old)

    def add_delivery(self, delivery: Delivery) -> None:
        self._deliveries.setdefault(delivery.id, delivery)

    def save_delivery(self, delivery: Delivery) -> None:
        self._deliveries[delivery.id] = delivery

    def save_incident(self, incident: Incident) -> None:
        self._incidents[incident.id] = incident

    def alerts(self) -> Sequence[Alert]:
        return [self._alerts[key] for key in sorted(self._alerts)]

    def save_alert(self, alert: Alert) -> None:
        self._alerts[alert.key] = alert

    def remove_alert(self, alert: Alert) -> None:
        self._alerts.pop(alert.key, None)

    def monitoring(self, service: str, environment: str) -> Monitoring | None:
        return self._monitorings.get((service, environment))

    def monitorings(self) -> Sequence[Monitoring]:
        return [self._monitorings[place] for place in sorted(self._monitorings)]

    def save_monitoring(self, monitoring: Monitoring) -> None:
        self._monitorings[monitoring.service, monitoring.environment] = monitoring
