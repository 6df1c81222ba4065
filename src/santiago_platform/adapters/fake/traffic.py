from __future__ import annotations

from ...domain.errors import ErrorCode, PlatformError
from ...domain.route import Route, RouteStatus


class FakeTraffic:
    """Routes in a dictionary. acknowledging: the proxies take what they are given. sabotaged: `apply` says done
    and does nothing, and `status` repeats the lie. unhealthy: versions whose endpoints no proxy finds healthy.
    active: requests in flight, by instance id."""

    def __init__(self) -> None:
        self.acknowledging = True
        self.sabotaged = False
        self.unhealthy: set[str] = set()
        self.active: dict[str, int] = {}
        self.history: list[Route] = []
        self.routes: dict[tuple[str, str], Route] = {}
        self._claimed: dict[tuple[str, str], Route] = {}

    async def apply(self, route: Route) -> None:
        key = (route.service, route.environment)
        for other, known in self._claimed.items():
            if other != key and set(known.hostnames) & set(route.hostnames):
                raise PlatformError(
                    ErrorCode.CONFLICT, f"{other[0]}/{other[1]} has that hostname", "give it another name"
                )
        if self._claimed.get(key) == route:
            return
        self._claimed[key] = route
        if not self.sabotaged:
            self.routes[key] = route
            self.history.append(route)

    async def remove(self, service: str, environment: str) -> None:
        self._claimed.pop((service, environment), None)
        self.routes.pop((service, environment), None)

    async def status(self, service: str, environment: str) -> RouteStatus:
        route = self._claimed.get((service, environment))
        if route is None:
            return RouteStatus(weights={}, acknowledged=self.acknowledging)
        endpoints = [(b, e) for b in route.backends for e in b.endpoints]
        return RouteStatus(
            weights=route.weights if self.acknowledging else None,
            acknowledged=self.acknowledging,
            healthy=frozenset(e.instance for b, e in endpoints if not e.draining and b.version not in self.unhealthy),
            known=frozenset(e.instance for _, e in endpoints),
            active_requests={e.instance: self.active.get(e.instance, 0) for _, e in endpoints},
            address=f"127.0.0.1:{20000 + list(self._claimed).index((service, environment))}",
        )
