"""The tables: each row is a JSON document, with the columns beside it that are queried or constrained."""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Integer, MetaData, String, Table

from ...domain.errors import ErrorCode, PlatformError

_metadata = MetaData()


def _table(name: str, *columns: Column[Any]) -> Table:
    return Table(name, _metadata, *columns, Column("document", String, nullable=False))


def _row_number() -> Column[int]:
    """Rises with each new row: the order in which they were first stored."""
    return Column("number", Integer, primary_key=True)


operations = _table(
    "operation",
    _row_number(),
    Column("id", String),
    Column("tenant", String),
    Column("service", String),
    Column("environment", String),
    Column("running", Boolean),
    Column("unlogged", Boolean),
    Column("created_at_us", BigInteger),
)
rollouts = _table(
    "rollout",
    _row_number(),
    Column("id", String),
    Column("operation_id", String),
    Column("service", String),
    Column("environment", String),
    Column("active", Boolean),
    Column("epoch", Integer),
)
journal = _table("journal", _row_number(), Column("rollout_id", String), Column("epoch", Integer))
inbox = _table(
    "inbox", _row_number(), Column("rollout_id", String), Column("message_id", String), Column("waiting", Boolean)
)
deployments = _table(
    "deployment",
    Column("service", String, primary_key=True),
    Column("environment", String, primary_key=True),
    Column("tenant", String),
)
live_periods = _table(
    "live_period",
    Column("service", String, primary_key=True),
    Column("environment", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("release", String),
)
job_runs = _table(
    "job_run",
    _row_number(),
    Column("id", String),
    Column("service", String),
    Column("environment", String),
    Column("job", String),
    Column("rollout_id", String),
    Column("unfinished", Boolean),
)
tokens = _table("token", _row_number(), Column("id", String))
sessions = _table(
    "session",
    _row_number(),
    Column("id", String),
    Column("tenant", String),
    Column("name", String),
    Column("expires_at_us", BigInteger),
)
attestations = _table("attestation", _row_number(), Column("id", String), Column("release", String))
flags = _table("flags", Column("name", String, primary_key=True))
change_requests = _table(
    "change_request",
    _row_number(),
    Column("id", String),
    Column("release", String),
    Column("environment", String),
    Column("open", Boolean),
)
charges = _table(
    "charge",
    _row_number(),
    Column("id", String),
    Column("day", String),
    Column("role", String),
    Column("task", String),
    Column("tenant", String),
    Column("open", Boolean),
    Column("amount_nano_usd", BigInteger),
)
mails = _table(
    "mail",
    _row_number(),
    Column("id", String),
    Column("tenant", String),
    Column("mailbox", String),
    Column("sender", String),
    Column("key", String),
    Column("unread", Boolean),
    Column("at_us", BigInteger),
)
deliveries = _table(
    "delivery",
    Column("id", String, primary_key=True),
    Column("state", String),
    Column("next_us", BigInteger),
    Column("at_us", BigInteger),
)
incidents = _table(
    "incident",
    _row_number(),
    Column("id", String),
    Column("tenant", String),
    Column("service", String),
    Column("environment", String),
    Column("cause", String),
    Column("open", Boolean),
    Column("unfinished", Boolean),
)

alerts = _table(
    "alert",
    Column("service", String, primary_key=True),
    Column("environment", String, primary_key=True),
    Column("name", String, primary_key=True),
)
monitorings = _table(
    "monitoring", Column("service", String, primary_key=True), Column("environment", String, primary_key=True)
)

# MIGRATIONS[n] takes a database from version n to n + 1. What was released is never edited: a change is a new one.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE operation (
            number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, tenant TEXT NOT NULL, service TEXT NOT NULL,
            environment TEXT NOT NULL, running BOOLEAN NOT NULL, unlogged BOOLEAN NOT NULL,
            created_at_us BIGINT NOT NULL, document TEXT NOT NULL)""",
        "CREATE INDEX operation_newest ON operation (created_at_us, number)",
        "CREATE INDEX operation_of_service ON operation (service, environment, created_at_us, number)",
        "CREATE INDEX operation_running ON operation (created_at_us, number) WHERE running = 1",
        "CREATE INDEX operation_unlogged ON operation (created_at_us, number) WHERE unlogged = 1",
        """CREATE TABLE rollout (
            number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, operation_id TEXT NOT NULL, service TEXT NOT NULL,
            environment TEXT NOT NULL, active BOOLEAN NOT NULL, epoch INTEGER NOT NULL, document TEXT NOT NULL)""",
        "CREATE UNIQUE INDEX rollout_one_active ON rollout (service, environment) WHERE active = 1",
        "CREATE INDEX rollout_of_operation ON rollout (operation_id)",
        """CREATE TABLE journal (
            number INTEGER PRIMARY KEY, rollout_id TEXT NOT NULL, epoch INTEGER NOT NULL, document TEXT NOT NULL,
            UNIQUE (rollout_id, epoch))""",
        """CREATE TABLE inbox (
            number INTEGER PRIMARY KEY, rollout_id TEXT NOT NULL, message_id TEXT NOT NULL, waiting BOOLEAN NOT NULL,
            document TEXT NOT NULL, UNIQUE (rollout_id, message_id))""",
        """CREATE TABLE deployment (
            service TEXT NOT NULL, environment TEXT NOT NULL, tenant TEXT NOT NULL, document TEXT NOT NULL,
            PRIMARY KEY (service, environment))""",
        "CREATE TABLE token (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, document TEXT NOT NULL)",
    ),
    (
        """CREATE TABLE job_run (
            number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, service TEXT NOT NULL, environment TEXT NOT NULL,
            job TEXT NOT NULL, rollout_id TEXT NOT NULL, unfinished BOOLEAN NOT NULL, document TEXT NOT NULL)""",
        "CREATE INDEX job_run_of_job ON job_run (service, environment, job, number)",
        "CREATE INDEX job_run_of_rollout ON job_run (rollout_id)",
        "CREATE INDEX job_run_unfinished ON job_run (number) WHERE unfinished = 1",
    ),
    (
        """CREATE TABLE attestation (
            number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, release TEXT NOT NULL, document TEXT NOT NULL)""",
        "CREATE INDEX attestation_of_release ON attestation (release, number)",
    ),
    (
        """CREATE TABLE live_period (
            service TEXT NOT NULL, environment TEXT NOT NULL, number INTEGER NOT NULL, release TEXT NOT NULL,
            document TEXT NOT NULL, PRIMARY KEY (service, environment, number))""",
        "CREATE INDEX live_period_of_release ON live_period (release)",
    ),
    ("CREATE TABLE flags (name TEXT NOT NULL PRIMARY KEY, document TEXT NOT NULL)",),
    (
        """CREATE TABLE charge (
            number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, day TEXT NOT NULL, role TEXT NOT NULL,
            task TEXT NOT NULL, tenant TEXT NOT NULL, open BOOLEAN NOT NULL, amount_nano_usd BIGINT NOT NULL,
            document TEXT NOT NULL)""",
        # All that a day's sum needs: as many rows as a day has calls are summed before each of them.
        "CREATE INDEX charge_of_day ON charge (day, role, task, tenant, amount_nano_usd)",
        "CREATE INDEX charge_open ON charge (number) WHERE open = 1",
    ),
    (
        """CREATE TABLE change_request (
            number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, release TEXT NOT NULL, environment TEXT NOT NULL,
            open BOOLEAN NOT NULL, document TEXT NOT NULL)""",
        "CREATE INDEX change_request_of_release ON change_request (release, environment, number)",
        "CREATE INDEX change_request_open ON change_request (number) WHERE open = 1",
    ),
    (
        """CREATE TABLE session (
            number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, tenant TEXT NOT NULL, name TEXT NOT NULL,
            expires_at_us BIGINT NOT NULL, document TEXT NOT NULL)""",
        "CREATE INDEX session_of_principal ON session (tenant, name, number)",
        "CREATE INDEX session_expired ON session (expires_at_us)",
    ),
    (
        """CREATE TABLE mail (
            number INTEGER PRIMARY KEY, id TEXT NOT NULL, tenant TEXT NOT NULL, mailbox TEXT NOT NULL,
            sender TEXT NOT NULL, key TEXT NOT NULL, unread BOOLEAN NOT NULL, at_us BIGINT NOT NULL,
            document TEXT NOT NULL, UNIQUE (id, mailbox))""",
        "CREATE INDEX mail_in_mailbox ON mail (tenant, mailbox, unread, number)",
        "CREATE INDEX mail_sent ON mail (tenant, sender, at_us, id)",
        "CREATE INDEX mail_of_key ON mail (tenant, key, at_us)",
        "CREATE INDEX mail_oldest ON mail (at_us)",
        """CREATE TABLE delivery (
            id TEXT PRIMARY KEY, state TEXT NOT NULL, next_us BIGINT NOT NULL, at_us BIGINT NOT NULL,
            document TEXT NOT NULL)""",
        "CREATE INDEX delivery_due ON delivery (state, next_us)",
        "CREATE INDEX delivery_oldest ON delivery (at_us)",
    ),
    (
        """CREATE TABLE incident (
            number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, tenant TEXT NOT NULL, service TEXT NOT NULL,
            environment TEXT NOT NULL, cause TEXT NOT NULL, open BOOLEAN NOT NULL, unfinished BOOLEAN NOT NULL,
            document TEXT NOT NULL)""",
        "CREATE INDEX incident_of_cause ON incident (service, environment, cause, number)",
        "CREATE INDEX incident_of_tenant ON incident (tenant, number)",
        "CREATE INDEX incident_open ON incident (service, environment, number) WHERE open = 1",
        "CREATE INDEX incident_unfinished ON incident (number) WHERE unfinished = 1",
    ),
    (
        """CREATE TABLE alert (
            service TEXT NOT NULL, environment TEXT NOT NULL, name TEXT NOT NULL, document TEXT NOT NULL,
            PRIMARY KEY (service, environment, name))""",
        """CREATE TABLE monitoring (
            service TEXT NOT NULL, environment TEXT NOT NULL, document TEXT NOT NULL,
            PRIMARY KEY (service, environment))""",
    ),
)


def migrate(connection: sqlite3.Connection) -> None:
    """Brings the database to this version, within the connection's transaction.

    Raises PlatformError(FAILED_PRECONDITION) where a newer version of the platform wrote it.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(MIGRATIONS):
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"the database has schema version {version}; this version of the platform knows {len(MIGRATIONS)}",
            "start the newer version of the platform again, or restore a backup of before the upgrade",
        )
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
