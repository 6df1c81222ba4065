from __future__ import annotations

from collections.abc import Mapping

from ...domain.counters import Count, Counters
from ...domain.errors import ErrorCode, PlatformError
from ...domain.route import Route, RouteStatus

EDGES = (0.1, 1.0, 3600.0)  # of the latencies that `count` takes, seconds


class FakeTraffic:
    """Routes in a dictionary. acknowledging: the proxies take what they are given. sabotaged: `apply` says done
    and does nothing, and `status` repeats the lie. withheld: names of fields of a route
    that are left out by the same lie. unhealthy: versions whose endpoints no proxy finds healthy. active: requests in
    flight, by instance id. epochs: of the proxies that live, by name."""

    def __init__(self) -> None:
        self.acknowledging = True
        self.sabotaged = False
        self.withheld: set[str] = set()
        self.unhealthy: set[str] = set()
        self.active: dict[str, int] = {}
        self.history: list[Route] = []
        self.routes: dict[tuple[str, str], Route] = {}
        self.epochs = {"proxy-a": 1, "proxy-b": 1}
        self._claimed: dict[tuple[str, str], Route] = {}
        self._counted: dict[tuple[str, str, str], dict[tuple[str, bool], Count]] = {}

    def count(
        self,
        version: str,
        *,
        requests: int = 0,
        errors: int = 0,
        abandoned: int = 0,
        within: Mapping[float, int] | None = None,
        mirrored: bool = False,
        proxy: str = "proxy-a",
        service: str = "web",
        environment: str = "production",
    ) -> None:
        """Something happened to a version. within: how many took at most so long, by an edge of EDGES each."""
        counts = self._counted.setdefault((proxy, service, environment), {})
        was = counts.get((version, mirrored), Count(version=version, mirrored=mirrored))
        gained = within or {}
        counts[version, mirrored] = Count(
            version=version,
            mirrored=mirrored,
            requests=was.requests + requests,
            errors=was.errors + errors,
            abandoned=was.abandoned + abandoned,
            within=tuple((edge, dict(was.within).get(edge, 0) + gained.get(edge, 0)) for edge in EDGES),
        )

    def serve(
        self,
        requests: int,
        *,
        failing: Mapping[str, float] | None = None,
        service: str = "web",
        environment: str = "production",
    ) -> None:
        """Answers that many requests by the weights. failing: the share that fails, by version."""
        route = self.routes.get((service, environment))
        weights = route.weights if route else {}
        for version, weight in weights.items():
            mine = round(requests * weight / sum(weights.values()))
            errors = round(mine * (failing or {}).get(version, 0.0))
            within = dict.fromkeys(EDGES, mine)
            self.count(version, requests=mine, errors=errors, within=within, service=service, environment=environment)

    def restart(self, proxy: str) -> None:
        """It begins to count anew."""
        self.epochs[proxy] += 1
        self._counted = {key: counts for key, counts in self._counted.items() if key[0] != proxy}

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
            self.routes[key] = self._without_withheld(route)
            self.history.append(route)

    def _without_withheld(self, route: Route) -> Route:
        """Its field as it is by default; as it was, where there is no default."""
        known = self.routes.get((route.service, route.environment), route)
        fields = {name: Route.model_fields[name] for name in self.withheld}
        before = {name: getattr(known, name) if f.is_required() else f.default for name, f in fields.items()}
        return route.model_copy(update=before)

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

    async def counters(self, service: str, environment: str) -> tuple[Counters, ...]:
        route = self._claimed.get((service, environment))
        known = {(b.version, False): Count(version=b.version) for b in route.backends} if route else {}
        if route and route.mirror:
            known[route.mirror.version, True] = Count(version=route.mirror.version, mirrored=True)
        found = []
        for proxy, epoch in self.epochs.items():
            counted = self._counted.get((proxy, service, environment), {})
            counts = tuple(counted.get(key, zero) for key, zero in known.items())
            found.append(Counters(proxy=proxy, epoch=str(epoch), counts=counts))
        return tuple(found)
