"""Tells those who listen that a resource has changed.

Level-triggered: while somebody listens, what is listened to is read again and compared, so that no writer has to say
what it changes. Those who see the same share one reading.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass

from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Principal
from ..operations.tenancy import sight
from ..ports import Ports

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
REST_SECONDS = 0.1  # between two looks, however much is written
WATCHES = 2_000
WATCHES_OF_ONE = 200
Tell = Callable[[str], Awaitable[None]]
Read = Callable[[Ports, Principal, str], Awaitable[tuple[str, str]]]


@dataclass(eq=False)
class _Watch:
    """seen: what the listener was told last."""

    principal: Principal
    uri: str
    seen: str
    tell: Tell


class ResourceUpdates:
    """read: what `uri` is now, for those who see the same. loop: its name beside the others of one server."""

    def __init__(self, ports: Ports, read: Read, loop: str = "resources") -> None:
        self._ports = ports
        self._read = read
        self._loop = loop
        self._watches: set[_Watch] = set()

    @property
    def count(self) -> int:
        """How much is listened to."""
        return len(self._watches)

    async def look(self, principal: Principal, uri: str) -> str:
        """The resource as it is now, in a form to compare. Raises PlatformError where the principal may not read it."""
        text, _ = await self._read(self._ports, principal, uri)
        return hashlib.sha256(text.encode()).hexdigest()

    def watch(self, principal: Principal, uri: str, seen: str, tell: Tell) -> Callable[[], None]:
        """From now on `tell` is called with `uri` whenever it is no longer as it was `seen`; a last time once it may
        not be read any more. Returns what ends that.

        Raises PlatformError(RESOURCE_EXHAUSTED) where too much is listened to.
        """
        # All tokens and sessions of one name count together, as for the rate of calls.
        name = (principal.name, principal.tenant)
        of_one = sum((watch.principal.name, watch.principal.tenant) == name for watch in self._watches)
        if of_one >= WATCHES_OF_ONE or len(self._watches) >= WATCHES:
            raise PlatformError(
                ErrorCode.RESOURCE_EXHAUSTED,
                f"{principal.name} listens to {of_one} resources, and {len(self._watches)} are listened to in all",
                "end some subscriptions, or read without one",
            )
        watch = _Watch(principal, uri, seen, tell)
        self._watches.add(watch)
        return lambda: self._watches.discard(watch)

    async def run(self) -> None:
        """Looks until it is cancelled; a look that fails is logged and tried again."""
        while True:
            await self._ports.activation.wait(LOOK_SECONDS, loop=self._loop)
            try:
                await self.pass_over()
            except Exception:
                log.exception("looking for changed resources failed")
            await self._ports.clock.sleep(REST_SECONDS)

    async def pass_over(self) -> None:
        """One look at all that is listened to."""
        now: dict[Hashable, str | None] = {}
        for watch in list(self._watches):
            key = (watch.uri, sight(watch.principal))
            if key not in now:
                now[key] = await self._look_again(watch)
            found = now[key]
            if found is None:  # told once more, so that nobody keeps to what may not be read any more
                self._watches.discard(watch)
                await watch.tell(watch.uri)
            elif found != watch.seen:
                watch.seen = found
                await watch.tell(watch.uri)

    async def _look_again(self, watch: _Watch) -> str | None:
        """None where it may not be read any more."""
        try:
            return await self.look(watch.principal, watch.uri)
        except PlatformError as exc:
            return None if exc.code in (ErrorCode.NOT_FOUND, ErrorCode.PERMISSION_DENIED) else watch.seen
