"""The statements over the tables, each compiled once to SQL with named parameters, which the driver itself runs.

A look-up so takes 3 us; by SQLAlchemy's connection it takes 22 us, and 64 us where the statement is built anew.
"""

from __future__ import annotations

from functools import cache

from sqlalchemy import ClauseElement, ColumnElement, Select, Table, bindparam, delete, false, func, select, update
from sqlalchemy.dialects import sqlite

from .schema import (
    alerts,
    attestations,
    change_requests,
    charges,
    deliveries,
    deployments,
    flags,
    inbox,
    incidents,
    job_runs,
    journal,
    live_periods,
    mails,
    monitorings,
    operations,
    rollouts,
    sessions,
    tokens,
)

_DIALECT = sqlite.dialect(paramstyle="named")


def _sql(statement: ClauseElement) -> str:
    return str(statement.compile(dialect=_DIALECT))


def _documents(table: Table, *given: str) -> Select[str]:
    """The documents of the rows whose columns `given` are as the parameters of these names say."""
    return select(table.c.document).where(*(table.c[name] == bindparam(name) for name in given))


def _insert(table: Table, *, numbered: bool = False) -> sqlite.Insert:
    """A whole row; the database numbers it, unless it has a number of its own."""
    given: dict[str, ClauseElement] = {c.name: bindparam(c.name) for c in table.c if numbered or c.name != "number"}
    return sqlite.insert(table).values(given)


def _upsert(table: Table, *key: str) -> str:
    row = _insert(table, numbered="number" in key)
    replaced = {c.name: row.excluded[c.name] for c in table.c if c.name not in (*key, "number")}
    return _sql(row.on_conflict_do_update(index_elements=key, set_=replaced))


OPERATION = _sql(_documents(operations, "id"))


@cache
def newest_operations(given: tuple[str, ...], running: bool | None, unlogged: bool | None, since: bool = False) -> str:
    """Newest first, at most `limit`. given: columns that are compared; None: either way. since: from `since_us` on."""
    table = operations.c
    flags: list[tuple[ColumnElement[bool], bool | None]] = [(table.running, running), (table.unlogged, unlogged)]
    # A bare flag is written `= 1` for SQLite, as in its partial indexes.
    wanted = [column if value else ~column for column, value in flags if value is not None]
    if since:
        wanted.append(table.created_at_us >= bindparam("since_us"))
    newest = _documents(operations, *given).where(*wanted).order_by(table.created_at_us.desc(), table.number.desc())
    return f"{_sql(newest)} LIMIT :limit"  # by itself, SQLAlchemy adds an offset of a value that it would have to bind


@cache
def newest_job_runs(given: tuple[str, ...], unfinished: bool | None) -> str:
    """Newest first, at most `limit`. given: columns that are compared; None: either way."""
    flag = job_runs.c.unfinished
    wanted = [] if unfinished is None else [flag if unfinished else ~flag]
    newest = _documents(job_runs, *given).where(*wanted).order_by(job_runs.c.number.desc())
    return f"{_sql(newest)} LIMIT :limit"


@cache
def newest_change_requests(given: tuple[str, ...], open: bool | None) -> str:
    """Newest first, at most `limit`. given: columns that are compared; None: either way."""
    flag = change_requests.c.open
    wanted = [] if open is None else [flag if open else ~flag]
    newest = _documents(change_requests, *given).where(*wanted).order_by(change_requests.c.number.desc())
    return f"{_sql(newest)} LIMIT :limit"


@cache
def newest_charges(given: tuple[str, ...], unsettled: bool | None) -> str:
    """Newest first, at most `limit`. given: columns that are compared; None: either way."""
    flag = charges.c.open
    wanted = [] if unsettled is None else [flag if unsettled else ~flag]
    newest = _documents(charges, *given).where(*wanted).order_by(charges.c.number.desc())
    return f"{_sql(newest)} LIMIT :limit"


@cache
def newest_sessions(given: tuple[str, ...]) -> str:
    """Newest first, at most `limit`. given: columns that are compared."""
    return f"{_sql(_documents(sessions, *given).order_by(sessions.c.number.desc()))} LIMIT :limit"


@cache
def newest_incidents(given: tuple[str, ...], open: bool | None, unfinished: bool | None, older: bool) -> str:
    """Newest first, at most `limit`. given: columns that are compared; None: either way. older: than `before`."""
    table = incidents.c
    flags = ((table.open, open), (table.unfinished, unfinished))
    wanted = [flag if value else ~flag for flag, value in flags if value is not None]
    if older:
        wanted.append(table.number < select(table.number).where(table.id == bindparam("before")).scalar_subquery())
    return f"{_sql(_documents(incidents, *given).where(*wanted).order_by(table.number.desc()))} LIMIT :limit"


ROLLOUT = _sql(_documents(rollouts, "id"))
ROLLOUT_OF = _sql(_documents(rollouts, "operation_id"))
ACTIVE_ROLLOUT = _sql(_documents(rollouts, "service", "environment").where(rollouts.c.active))
ACTIVE_ROLLOUTS = _sql(_documents(rollouts).where(rollouts.c.active).order_by(rollouts.c.number))
JOURNAL = _sql(_documents(journal, "rollout_id").order_by(journal.c.number))
MESSAGES = _sql(_documents(inbox, "rollout_id").where(inbox.c.waiting).order_by(inbox.c.number))
DEPLOYMENT = _sql(_documents(deployments, "service", "environment"))
DEPLOYMENTS = _sql(_documents(deployments).order_by(deployments.c.service, deployments.c.environment))
DEPLOYMENTS_OF_TENANT = _sql(
    _documents(deployments, "tenant").order_by(deployments.c.service, deployments.c.environment)
)
LIVE_PERIODS = _sql(_documents(live_periods, "service", "environment").order_by(live_periods.c.number))
JOB_RUN = _sql(_documents(job_runs, "id"))
TOKEN = _sql(_documents(tokens, "id"))
TOKENS = _sql(_documents(tokens).order_by(tokens.c.number))
SESSION = _sql(_documents(sessions, "id"))
ATTESTATIONS = _sql(_documents(attestations, "release").order_by(attestations.c.number))
FLAGS = _sql(_documents(flags, "name"))
CHANGE_REQUEST = _sql(_documents(change_requests, "id"))
CHARGE = _sql(_documents(charges, "id"))
SPENT = _sql(
    select(charges.c.role, charges.c.task, charges.c.tenant, func.sum(charges.c.amount_nano_usd))
    .where(charges.c.day == bindparam("day"))
    .group_by(charges.c.role, charges.c.task, charges.c.tenant)
)
_in_mailbox = _documents(mails, "tenant", "mailbox", "unread").order_by(mails.c.number.desc())
MAIL = f"{_sql(_in_mailbox)} LIMIT :limit"
_shown = (
    select(mails.c.number)
    .where(mails.c.id == bindparam("before"), mails.c.mailbox == bindparam("mailbox"))
    .scalar_subquery()
)
MAIL_BEFORE = f"{_sql(_in_mailbox.where(mails.c.number < _shown))} LIMIT :limit"
MAIL_OF_ID = _sql(_documents(mails, "id").order_by(mails.c.number))
_since = mails.c.at_us >= bindparam("since_us")
MAIL_OF_KEY = _sql(_documents(mails, "tenant", "key").where(_since).order_by(mails.c.at_us.desc()))
MAIL_SENT = _sql(
    select(func.count(mails.c.id.distinct())).where(
        mails.c.tenant == bindparam("tenant"), mails.c.sender == bindparam("sender"), _since
    )
)
UNREAD_MAIL = _sql(
    select(func.count()).where(
        mails.c.tenant == bindparam("tenant"), mails.c.mailbox == bindparam("mailbox"), mails.c.unread
    )
)

INCIDENT = _sql(_documents(incidents, "id"))

SAVE_INCIDENT = _upsert(incidents, "id")
SAVE_OPERATION = _upsert(operations, "id")
_waiting = select(change_requests.c.id).where(change_requests.c.open)
_ended = select(operations.c.id).where(~operations.c.running, ~operations.c.unlogged, operations.c.id.not_in(_waiting))
_oldest_last = _ended.order_by(operations.c.created_at_us.desc(), operations.c.number.desc())
ENDED_OPERATIONS = f"{_sql(_oldest_last)} LIMIT :limit OFFSET :keep"
_rollouts = select(rollouts.c.id).where(rollouts.c.operation_id == bindparam("id"))
# In this order: what is found by a rollout goes before it.
REMOVE_OPERATION = (
    *(_sql(delete(table).where(table.c.rollout_id.in_(_rollouts))) for table in (journal, inbox)),
    _sql(delete(rollouts).where(rollouts.c.operation_id == bindparam("id"))),
    _sql(delete(operations).where(operations.c.id == bindparam("id"))),
)
ADD_ROLLOUT = _sql(_insert(rollouts))
SAVE_ROLLOUT = _sql(
    update(rollouts)
    .where(rollouts.c.id == bindparam("id"), rollouts.c.epoch == bindparam("epoch_before"))
    .values({name: bindparam(name) for name in ("active", "epoch", "document")})
)
ADD_STEP = _sql(_insert(journal))
ADD_MESSAGE = _sql(_insert(inbox).on_conflict_do_nothing())
REMOVE_MESSAGE = _sql(
    update(inbox)
    .where(inbox.c.rollout_id == bindparam("rollout_id"), inbox.c.message_id == bindparam("message_id"))
    .values(waiting=false())
)
SAVE_DEPLOYMENT = _upsert(deployments, "service", "environment")
SAVE_LIVE_PERIOD = _upsert(live_periods, "service", "environment", "number")
_of_service = (live_periods.c.service == bindparam("service"), live_periods.c.environment == bindparam("environment"))
_newest = select(live_periods.c.number).where(*_of_service).order_by(live_periods.c.number.desc())
FORGET_OLD_PERIODS = f"{_sql(delete(live_periods).where(*_of_service))} AND number NOT IN ({_sql(_newest)} LIMIT :keep)"
FORGET_LIVE_PERIODS = _sql(delete(live_periods).where(live_periods.c.release == bindparam("release")))
SAVE_JOB_RUN = _upsert(job_runs, "id")
FORGET_JOB_RUN = _sql(delete(job_runs).where(job_runs.c.id == bindparam("id")))
SAVE_TOKEN = _upsert(tokens, "id")
SAVE_FLAGS = _upsert(flags, "name")
SAVE_SESSION = _upsert(sessions, "id")
FORGET_SESSIONS = _sql(delete(sessions).where(sessions.c.expires_at_us < bindparam("before_us")))
ADD_ATTESTATION = _sql(_insert(attestations).on_conflict_do_nothing())
SAVE_CHANGE_REQUEST = _upsert(change_requests, "id")
SAVE_CHARGE = _upsert(charges, "id")
ADD_MAIL = _sql(_insert(mails).on_conflict_do_nothing())
SAVE_MAIL = _sql(
    update(mails)
    .where(mails.c.id == bindparam("mail_id"), mails.c.mailbox == bindparam("of_mailbox"))
    .values(unread=bindparam("unread"), document=bindparam("document"))
)
_oldest = f"{_sql(select(mails.c.number).where(mails.c.at_us < bindparam('before_us')).order_by(mails.c.at_us))}"
PRUNE_MAIL = f"DELETE FROM mail WHERE number IN ({_oldest} LIMIT :limit)"  # noqa: S608 - no value is in it
_due = _documents(deliveries, "state").where(deliveries.c.next_us <= bindparam("due_us"))
DELIVERIES = f"{_sql(_due.order_by(deliveries.c.next_us, deliveries.c.id))} LIMIT :limit"
ADD_DELIVERY = _sql(_insert(deliveries).on_conflict_do_nothing())
SAVE_DELIVERY = _upsert(deliveries, "id")
PRUNE_DELIVERIES = _sql(delete(deliveries).where(deliveries.c.at_us < bindparam("before_us")))
ALERTS = _sql(_documents(alerts).order_by(alerts.c.service, alerts.c.environment, alerts.c.name))
SAVE_ALERT = _upsert(alerts, "service", "environment", "name")
REMOVE_ALERT = _sql(
    delete(alerts).where(
        alerts.c.service == bindparam("of"),
        alerts.c.environment == bindparam("where"),
        alerts.c.name == bindparam("named"),
    )
)
MONITORING = _sql(_documents(monitorings, "service", "environment"))
MONITORINGS = _sql(_documents(monitorings).order_by(monitorings.c.service, monitorings.c.environment))
SAVE_MONITORING = _upsert(monitorings, "service", "environment")
