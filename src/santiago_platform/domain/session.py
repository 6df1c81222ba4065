"""A session: what somebody has in hand for a while. It is the platform's own, and no transport's."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field

from .identity import Principal
from .value import Value

KEPT = timedelta(days=7)  # after they have expired, so that one can be told so

Purpose = Annotated[str, Field(max_length=200)]


class Session(Value):
    """principal: whose it is, without a session. purpose: in its words; empty where it opened none itself.

    What was begun within it goes on after it has expired.
    """

    id: str
    principal: Principal
    purpose: Purpose = ""
    opened_at: datetime
    expires_at: datetime

    def is_open(self, now: datetime) -> bool:
        return now < self.expires_at

    def renewed(self, now: datetime, ttl: timedelta) -> Session:
        """Never sooner at its end than before."""
        return self.model_copy(update={"expires_at": max(self.expires_at, now + ttl)})

    def ended(self, now: datetime) -> Session:
        return self.model_copy(update={"expires_at": min(self.expires_at, now)})

    def is_of(self, principal: Principal) -> bool:
        return self.principal == alone(principal)

    def caller(self, principal: Principal) -> Principal:
        """`principal`, whose session it is, as it asks within it."""
        return principal.model_copy(update={"session": self.id})


def alone(principal: Principal) -> Principal:
    """Without the session in which it asks, and the token by which it does."""
    return (
        principal.model_copy(update={"session": "", "token": ""}) if principal.session or principal.token else principal
    )
