"""Who looks at the console: signed in by a token, known by a cookie, and forgotten by signing out.

A sign-in is a session of the platform's own, opened for it: it expires and is renewed by signing in again. The token is
asked for anew at each request, so a token that was revoked ends its sign-ins. They are kept in memory alone: a daemon
that starts anew knows none.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from dataclasses import dataclass, field

from ...domain.errors import ErrorCode, PlatformError
from ...domain.identity import Principal
from ...domain.rate import RateLimit
from ...operations.issue_token import authenticate
from ...operations.sessions import SessionRequest, end_session, open_session
from ...ports import Ports
from ..authentication import Authenticator
from ..rates import Rates

PURPOSE = "console"
KEPT = 1_000  # sign-ins at once: the oldest is signed out for one more
KEPT_OF_ONE = 50  # by one name: whoever signs in without end signs out itself, and not the others
ATTEMPTS = RateLimit(calls_per_second=0.2, burst=10)  # of one client's address
ATTEMPTS_OF_ALL = RateLimit(calls_per_second=5, burst=50)
CLIENTS_KEPT = 10_000


@dataclass(eq=False)
class SignIn:
    """who: tenant and name. session: of the platform, None where the disk is too full to open one. form_key: what its
    forms send along, which no other page can know. wakes: of the streams that are open for it. ended: nobody is signed
    in by it any more."""

    who: tuple[str, str]
    token: str
    session: str | None
    form_key: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    wakes: set[asyncio.Event] = field(default_factory=set)
    ended: bool = False

    def end(self) -> None:
        self.ended = True
        for wake in self.wakes:
            wake.set()


class SignIns:
    """Of one server."""

    def __init__(self, ports: Ports, authenticator: Authenticator, rates: Rates) -> None:
        self._ports = ports
        self._authenticator = authenticator
        self._rates = rates
        self._known: dict[str, SignIn] = {}
        self._full_at: dict[str, float] = {}

    async def sign_in(self, token: str, client: str) -> str:
        """The cookie's value. client: its address.

        Raises PlatformError: UNAUTHENTICATED, RESOURCE_EXHAUSTED (tried too often), PERMISSION_DENIED.
        """
        self._admit(client)
        principal = await authenticate(self._ports, token)
        session = None
        try:
            session = (await open_session(self._ports, principal, SessionRequest(purpose=PURPOSE))).id
        except PlatformError as exc:
            if exc.code is not ErrorCode.RESOURCE_EXHAUSTED:  # a disk that is full keeps nobody from looking
                raise
        who = principal.tenant, principal.name
        own = [known for known in self._known.values() if known.who == who]
        if len(own) >= KEPT_OF_ONE or len(self._known) >= KEPT:
            self._forget(own[0] if len(own) >= KEPT_OF_ONE else next(iter(self._known.values())))
        cookie = secrets.token_urlsafe(32)
        self._known[_key(cookie)] = SignIn(who, token, session)
        return cookie

    async def known(self, cookie: str) -> tuple[SignIn, Principal]:
        """Who has signed in by it. Raises PlatformError: UNAUTHENTICATED where nobody has, or not any more;
        RESOURCE_EXHAUSTED (asks too often)."""
        sign_in = self._known.get(_key(cookie))
        if sign_in is None:
            raise PlatformError(ErrorCode.UNAUTHENTICATED, "nobody is signed in", "sign in by a token")
        principal = await self.still(sign_in)
        self._rates.admit(principal)
        return sign_in, principal

    async def still(self, sign_in: SignIn) -> Principal:
        """Raises PlatformError(UNAUTHENTICATED) where its token or its session has ended."""
        try:
            if sign_in.ended:
                raise PlatformError(ErrorCode.UNAUTHENTICATED, "signed out", "sign in by a token")
            return (await self._authenticator.caller(sign_in.token, sign_in.session)).principal
        except PlatformError as exc:
            if exc.code not in (ErrorCode.UNAUTHENTICATED, ErrorCode.FAILED_PRECONDITION):
                raise
            self._forget(sign_in)
            raise PlatformError(ErrorCode.UNAUTHENTICATED, exc.message, "sign in again") from exc

    async def sign_out(self, sign_in: SignIn, principal: Principal) -> None:
        self._forget(sign_in)
        self._authenticator.forget()
        if sign_in.session is not None:
            await end_session(self._ports, principal, sign_in.session)

    def _forget(self, sign_in: SignIn) -> None:
        self._known = {key: known for key, known in self._known.items() if known is not sign_in}
        sign_in.end()

    def _admit(self, client: str) -> None:
        """A secret of 256 bits is not guessed; asking for it costs the store and the identity provider something."""
        now = self._ports.clock.monotonic()
        if len(self._full_at) >= CLIENTS_KEPT:
            self._full_at = {who: at for who, at in self._full_at.items() if at > now}
        for who, limit in ((client, ATTEMPTS), ("", ATTEMPTS_OF_ALL)):
            self._full_at[who], wait = limit.admit(self._full_at.get(who, now), now)
            if wait:
                raise PlatformError(
                    ErrorCode.RESOURCE_EXHAUSTED,
                    "too many sign-ins were tried",
                    f"wait {wait:.0f} s",
                    retry_after=wait,
                )


def _key(cookie: str) -> str:
    return hashlib.sha256(cookie.encode()).hexdigest()
