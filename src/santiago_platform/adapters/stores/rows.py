"""Snapshots and transactions over a connection: values to rows, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError
from sqlalchemy import ColumnElement, Connection, Select, Table, false, select, true, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import IntegrityError

from ...domain.deployment import Deployment
from ...domain.errors import ErrorCode, PlatformError
from ...domain.identity import Token
from ...domain.operation import Operation, OperationState
from ...domain.rollout import Message, Rollout
from ...domain.value import Value
from ...ports.store import Step
from .schema import deployments, inbox, journal, operations, rollouts, tokens

V = TypeVar("V", bound=Value)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Rows:
    """Implements ports.store.Snapshot, and Transaction where the connection may write."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def operation(self, operation_id: str) -> Operation | None:
        return self._one(Operation, _documents(operations, operations.c.id == operation_id))

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
        table = operations.c
        wanted = {table.tenant: tenant, table.service: service, table.environment: environment}
        conditions = [column == value for column, value in wanted.items() if value is not None]
        # A bare flag is written `= 1` for SQLite, as in its partial indexes.
        flags = {table.running: running, table.unlogged: unlogged}
        conditions += [column if value else ~column for column, value in flags.items() if value is not None]
        newest = _documents(operations, *conditions).order_by(table.created_at_us.desc(), table.number.desc())
        return self._all(Operation, newest.limit(limit))

    def rollout(self, rollout_id: str) -> Rollout | None:
        return self._one(Rollout, _documents(rollouts, rollouts.c.id == rollout_id))

    def rollout_of(self, operation_id: str) -> Rollout | None:
        return self._one(Rollout, _documents(rollouts, rollouts.c.operation_id == operation_id).limit(1))

    def active_rollout(self, service: str, environment: str) -> Rollout | None:
        where = (rollouts.c.service == service, rollouts.c.environment == environment, rollouts.c.active)
        return self._one(Rollout, _documents(rollouts, *where))

    def active_rollouts(self) -> Sequence[Rollout]:
        return self._all(Rollout, _documents(rollouts, rollouts.c.active).order_by(rollouts.c.number))

    def journal(self, rollout_id: str) -> Sequence[Step]:
        return self._all(Step, _documents(journal, journal.c.rollout_id == rollout_id).order_by(journal.c.number))

    def messages(self, rollout_id: str) -> Sequence[Message]:
        where = (inbox.c.rollout_id == rollout_id, inbox.c.waiting)
        return self._all(Message, _documents(inbox, *where).order_by(inbox.c.number))

    def deployment(self, service: str, environment: str) -> Deployment | None:
        where = (deployments.c.service == service, deployments.c.environment == environment)
        return self._one(Deployment, _documents(deployments, *where))

    def deployments(self, *, tenant: str | None = None) -> Sequence[Deployment]:
        where = true() if tenant is None else deployments.c.tenant == tenant
        ordered = _documents(deployments, where).order_by(deployments.c.service, deployments.c.environment)
        return self._all(Deployment, ordered)

    def token(self, token_id: str) -> Token | None:
        return self._one(Token, _documents(tokens, tokens.c.id == token_id))

    def tokens(self) -> Sequence[Token]:
        return self._all(Token, _documents(tokens).order_by(tokens.c.number))

    def save_operation(self, operation: Operation) -> None:
        self._upsert(
            operations,
            {"id": operation.id},
            operation,
            tenant=operation.principal.tenant,
            service=operation.service,
            environment=operation.environment,
            running=operation.state is OperationState.RUNNING,
            unlogged=operation.state.finished and not operation.logged,
            created_at_us=(operation.created_at - _EPOCH) // timedelta(microseconds=1),
        )

    def add_rollout(self, rollout: Rollout) -> None:
        row = {
            "id": rollout.id,
            "operation_id": rollout.operation_id,
            "service": rollout.service,
            "environment": rollout.environment,
            "active": not rollout.phase.finished,
            "epoch": rollout.epoch,
            "document": _document(rollout),
        }
        with _one_active(rollout):
            self._connection.execute(insert(rollouts), row)
        self._add_step(rollout)

    def save_rollout(self, rollout: Rollout) -> None:
        fenced = update(rollouts).where(rollouts.c.id == rollout.id, rollouts.c.epoch == rollout.epoch - 1)
        columns = {
            "active": not rollout.phase.finished,
            "epoch": rollout.epoch,
            "document": _document(rollout),
        }
        with _one_active(rollout):
            stored = self._connection.execute(fenced.values(columns)).rowcount
        if stored != 1:
            raise PlatformError(
                ErrorCode.CONFLICT,
                f"rollout {rollout.id} is not at epoch {rollout.epoch - 1}: another writer was first",
                "read it again and decide anew",
            )
        self._add_step(rollout)

    def add_message(self, rollout_id: str, message: Message) -> None:
        row = {"rollout_id": rollout_id, "message_id": message.id, "waiting": True, "document": _document(message)}
        self._connection.execute(insert(inbox).on_conflict_do_nothing(), row)

    def remove_messages(self, rollout_id: str, message_ids: Sequence[str]) -> None:
        # The row stays, so that a message that is sent again is known.
        where = (inbox.c.rollout_id == rollout_id, inbox.c.message_id.in_(message_ids))
        self._connection.execute(update(inbox).where(*where).values(waiting=false()))

    def save_deployment(self, deployment: Deployment) -> None:
        key = {"service": deployment.service, "environment": deployment.environment}
        self._upsert(deployments, key, deployment, tenant=deployment.tenant)

    def save_token(self, token: Token) -> None:
        self._upsert(tokens, {"id": token.id}, token)

    def _add_step(self, rollout: Rollout) -> None:
        row = {"rollout_id": rollout.id, "epoch": rollout.epoch, "document": _document(Step.of(rollout))}
        self._connection.execute(insert(journal), row)

    def _upsert(self, table: Table, key: dict[str, str], value: Value, **columns: object) -> None:
        columns["document"] = _document(value)
        statement = insert(table).values(**key, **columns)
        self._connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=columns))

    def _one(self, kind: type[V], query: Select[str]) -> V | None:
        document = self._connection.execute(query).scalar_one_or_none()
        return None if document is None else _value(kind, document)

    def _all(self, kind: type[V], query: Select[str]) -> list[V]:
        return [_value(kind, document) for document in self._connection.execute(query).scalars()]


@contextmanager
def _one_active(rollout: Rollout) -> Iterator[None]:
    try:
        yield
    except IntegrityError as exc:
        raise PlatformError(
            ErrorCode.CONFLICT,
            f"{rollout.service}/{rollout.environment} has an active rollout",
            "wait for it, or abort it with manage_operation",
            internal=str(exc.orig),
        ) from exc


def _documents(table: Table, *conditions: ColumnElement[bool]) -> Select[str]:
    return select(table.c.document).where(*conditions)


def _document(value: Value) -> str:
    try:
        return value.model_dump_json()
    except PydanticSerializationError as exc:
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT,
            f"this {type(value).__name__.lower()} cannot be stored: it holds text or values that JSON cannot",
            "send valid Unicode and plain JSON values",
            internal=str(exc),
        ) from exc


def _value(kind: type[V], document: str) -> V:
    try:
        return kind.model_validate_json(document)
    except ValidationError as exc:
        name = kind.__name__.lower()
        errors = exc.errors(include_url=False, include_input=False)
        unknown = [".".join(map(str, e["loc"])) for e in errors if e["type"] == "extra_forbidden"]
        if len(unknown) == len(errors):
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                f"a stored {name} has fields that this version of the platform does not know: {', '.join(unknown)}",
                "a newer version stored it: start that one again",
                internal=document[:2000],
            ) from exc
        where = ".".join(map(str, errors[0]["loc"]))
        raise PlatformError(
            ErrorCode.DATA_CORRUPT,
            f"a stored {name} cannot be read: {errors[0]['msg']}, at {where or 'its start'}",
            "restore a backup of the database; what is deployed keeps running",
            internal=document[:2000],
        ) from exc
