"""Sessions: opened, renewed and ended by those whose they are; who opens none is given one."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field

from ..domain.environment import SessionSettings
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Principal
from ..domain.session import KEPT, Purpose, Session, alone
from ..domain.value import Value
from ..ports import Ports
from ..ports.store import Snapshot, Transaction
from .authority import authorise
from .change import change
from .tenancy import of_all_tenants

LIMIT = 100
HINT = "`santiago session renew ID` renews it; without Santiago-Session a call is given one"


class SessionRequest(Value):
    """purpose: what is to be done within it, for the ship's log. ttl_seconds: None: as santiago.yaml says, and never
    more."""

    purpose: Annotated[Purpose, Field(min_length=1)]
    ttl_seconds: Annotated[float, Field(ge=1)] | None = None


class SessionView(Value):
    id: str
    principal: str
    role: str
    tenant: str
    purpose: str
    opened_at: datetime
    expires_at: datetime
    open: bool


class SessionsAnswer(Value):
    """Newest first."""

    sessions: tuple[SessionView, ...]


async def open_session(ports: Ports, principal: Principal, request: SessionRequest) -> SessionView:
    """A new one. Raises PERMISSION_DENIED."""
    asked = request.model_dump(mode="json", exclude_defaults=True)
    async with change(ports, principal, "open_session", f"session of {principal.name}", asked) as record:
        authorise(ports, principal, "open_session")
        ttl = _ttl(ports) if request.ttl_seconds is None else min(_ttl(ports), timedelta(seconds=request.ttl_seconds))
        session = _new(ports, principal, request.purpose, ttl)
        await ports.store.write(lambda tx: _save(tx, session))
        record.outcome, record.body = "opened", {"session": session.id, "expires_at": session.expires_at.isoformat()}
    return _view(session, ports.clock.now())


async def renew_session(ports: Ports, principal: Principal, session_id: str) -> SessionView:
    """For as long again as a new one, from now on; also one that has expired. Raises FAILED_PRECONDITION unless it is
    the principal's own."""
    async with change(ports, principal, "renew_session", session_id[:64], {}) as record:
        authorise(ports, principal, "open_session")
        now, ttl = ports.clock.now(), _ttl(ports)

        def renew(tx: Transaction) -> Session:
            renewed = _own(tx.session(session_id), principal, session_id).renewed(now, ttl)
            tx.save_session(renewed)
            return renewed

        session = await ports.store.write(renew)
        record.outcome, record.body = "renewed", {"expires_at": session.expires_at.isoformat()}
    return _view(session, now)


async def end_session(ports: Ports, principal: Principal, session_id: str) -> None:
    """At once. Raises FAILED_PRECONDITION unless it is the principal's own, or the owner asks."""
    async with change(ports, principal, "end_session", session_id[:64], {}) as record:
        authorise(ports, principal, "open_session")

        def end(tx: Transaction) -> None:
            found = tx.session(session_id)
            if not (found is not None and of_all_tenants(principal)):
                found = _own(found, principal, session_id)
            tx.save_session(found.ended(ports.clock.now()))

        await ports.store.write(end)
        record.outcome = "ended"


async def list_sessions(ports: Ports, principal: Principal) -> SessionsAnswer:
    """The principal's own; the owner is shown everybody's."""
    authorise(ports, principal, "open_session")
    everybody = of_all_tenants(principal)
    found = await ports.store.read(
        lambda v: v.sessions(
            tenant=None if everybody else principal.tenant, name=None if everybody else principal.name, limit=LIMIT
        )
    )
    now = ports.clock.now()
    return SessionsAnswer(sessions=tuple(_view(s, now) for s in found if everybody or s.is_of(principal)))


async def within_session(ports: Ports, principal: Principal, named: str | None) -> Principal:
    """`principal` as it asks within the session that it names, else within the one that it is given.

    Raises FAILED_PRECONDITION where what it names is not open, or not its own.
    """
    now = ports.clock.now()
    if named is not None:
        session = _own(await ports.store.read(lambda v: v.session(named)), principal, named)
        if not session.is_open(now):
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION, f"session {session.id} expired at {session.expires_at:%H:%M:%SZ}", HINT
            )
        return session.caller(principal)
    given = await ports.store.read(lambda v: _given(v, principal, now))
    if given is not None:
        return given.caller(principal)
    session = _new(ports, principal, "", _ttl(ports))

    def give(tx: Transaction) -> Session:
        known = _given(tx, principal, now)
        if known is None:
            _save(tx, session)
        return known or session

    try:
        return (await ports.store.write(give)).caller(principal)
    except PlatformError as exc:
        if exc.code is not ErrorCode.RESOURCE_EXHAUSTED:
            raise
        return session.caller(principal)  # a disk that is full keeps nobody from reading


def _given(view: Snapshot, principal: Principal, now: datetime) -> Session | None:
    sessions = view.sessions(tenant=principal.tenant, name=principal.name)
    return next((s for s in sessions if s.is_of(principal) and not s.purpose and s.is_open(now)), None)


def _own(session: Session | None, principal: Principal, named: str) -> Session:
    """The same words for one that there is not and for somebody else's."""
    if session is None or not session.is_of(principal):
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"you have no session {named[:64]}",
            "`santiago session open --purpose WORDS` opens one; a call that names none is given one",
        )
    return session


def _new(ports: Ports, principal: Principal, purpose: str, ttl: timedelta) -> Session:
    now = ports.clock.now()
    return Session(
        id=ports.clock.new_id("se"),
        principal=alone(principal),
        purpose=purpose,
        opened_at=now,
        expires_at=now + ttl,
    )


def _save(tx: Transaction, session: Session) -> None:
    tx.forget_sessions(expired_before=session.opened_at - KEPT)
    tx.save_session(session)


def _ttl(ports: Ports) -> timedelta:
    try:
        settings = ports.workspace.last_good_settings().sessions
    except PlatformError:  # what is asked for will say so, with the line
        settings = SessionSettings()
    return timedelta(seconds=settings.ttl_seconds)


def _view(session: Session, now: datetime) -> SessionView:
    who = session.principal
    return SessionView(
        id=session.id,
        principal=who.name,
        role=who.role,
        tenant=who.tenant,
        purpose=session.purpose or "unstated",
        opened_at=session.opened_at,
        expires_at=session.expires_at,
        open=session.is_open(now),
    )
