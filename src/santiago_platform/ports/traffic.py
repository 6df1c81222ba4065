from __future__ import annotations

from typing import Protocol

from ..domain.counters import Counters
from ..domain.route import Route, RouteStatus


class Traffic(Protocol):
    """Directs requests to instances. Idempotent; a repeated `apply` of an equal route writes nothing.

    Order within one apply: new endpoints and backends are made known before weights name them, and a backend
    is dropped only after no weight names it. A weight may only name a backend that is known; the caller
    waits for its endpoints to be healthy before giving it weight.
    """

    async def apply(self, route: Route) -> None:
        """Makes the proxies follow `route`, in place of what they had for its service and environment.

        Returns when the configuration is handed over; `status` says when every live proxy follows it.
        Raises PlatformError(CONFLICT) where another route has one of its hostnames.
        """

    async def remove(self, service: str, environment: str) -> None:
        """Forgets the route. Unknown is no error."""

    async def status(self, service: str, environment: str) -> RouteStatus:
        """What the live proxies say now. Never raises for a proxy that is down; with none, weights is None."""

    async def counters(self, service: str, environment: str) -> tuple[Counters, ...]:
        """What each proxy that answers has counted so far of every version, by its name. Cheap enough for each second.

        Never raises; a proxy that does not answer within a second is left out, and so `deltas` knows it.
        """
