from __future__ import annotations

from collections.abc import Mapping

from .traffic import FakeTraffic


class FakeVisitor:
    """Is answered by the version that a match of the route names, else by the first with weight; and is counted there.
    failing: versions that answer 500. missing: paths that are answered with 404."""

    def __init__(self, traffic: FakeTraffic) -> None:
        self.failing: set[str] = set()
        self.missing: set[str] = set()
        self.asked: list[tuple[str, str]] = []  # version and path
        self._traffic = traffic

    async def ask(self, service: str, environment: str, path: str, headers: Mapping[str, str]) -> int | None:
        route = self._traffic.routes.get((service, environment))
        if route is None or not route.weights:
            return None
        matched = (m.version for m in route.matches if m.header and headers.get(m.header[0]) == m.header[1])
        version = next(matched, next(iter(route.weights)))
        failed = version in self.failing
        self.asked.append((version, path))
        self._traffic.count(version, requests=1, errors=int(failed), service=service, environment=environment)
        return 500 if failed else 404 if path in self.missing else 200
