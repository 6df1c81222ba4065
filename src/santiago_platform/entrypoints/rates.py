"""Holds each principal to the rate of calls that santiago.yaml allows."""

from __future__ import annotations

from contextlib import suppress

from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Principal, Role
from ..domain.rate import RateLimit
from ..ports import Ports

PRINCIPALS_KEPT = 10_000
SETTINGS_SECONDS = 1.0  # for so long a limit is remembered: a call need not read a file for it


class Rates:
    """Of this process: a daemon that starts anew has forgotten, which gives a principal one burst more."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._full_at: dict[tuple[str, str], float] = {}
        self._limit = RateLimit()
        self._read_at = float("-inf")

    def admit(self, principal: Principal) -> None:
        """Raises RESOURCE_EXHAUSTED, with the seconds to wait. The owner is never held up: it must be able to stop
        what holds up the others."""
        if principal.role is Role.OWNER:
            return
        now = self._ports.clock.monotonic()
        if now - self._read_at >= SETTINGS_SECONDS:
            self._read_at = now
            with suppress(PlatformError):  # what is asked for will say so, with the line
                self._limit = self._ports.workspace.last_good_settings().rates
        if len(self._full_at) >= PRINCIPALS_KEPT:
            self._full_at = {who: at for who, at in self._full_at.items() if at > now}
        who = (principal.tenant, principal.name)  # whatever token or session it comes by
        self._full_at[who], wait = self._limit.admit(self._full_at.get(who, now), now)
        if wait:
            raise PlatformError(
                ErrorCode.RESOURCE_EXHAUSTED,
                f"{principal.name} calls more often than {self._limit.calls_per_second:g} times a second",
                "wait, and ask for more in one call; the owner may raise rates in santiago.yaml",
                retry_after=wait,
            )
