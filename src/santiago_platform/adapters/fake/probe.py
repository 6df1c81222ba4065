from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ...domain.effect import rules_text, weights_text
from ...domain.evidence import ABSENT, kept_as
from ...domain.flag import served_as
from ...domain.proof import Claim, Observation
from .compute import FakeCompute
from .flags import FakeFlags
from .gates import FakeEvidence
from .traffic import FakeTraffic


class FakeProbe:
    """Looks at what the fakes really hold. blind: cannot look at anything."""

    def __init__(
        self,
        compute: FakeCompute,
        traffic: FakeTraffic,
        flags: FakeFlags | None = None,
        evidence: FakeEvidence | None = None,
    ) -> None:
        self.blind = False
        self._flags = flags or FakeFlags()
        self._evidence = evidence or FakeEvidence()
        self._compute = compute
        self._traffic = traffic

    async def observe(self, claims: Sequence[Claim]) -> list[Observation]:
        return [
            Observation(
                subject=claim.subject,
                value=None if self.blind else await self._look(claim.subject),
                source="memory",
                detail="blind" if self.blind else "",
            )
            for claim in claims
        ]

    async def _look(self, subject: str) -> str:
        kind, where, *rest = subject.split(" ")
        if kind == "flag":
            return served_as(self._flags.served.compiled(rest[0]).get(where))
        if kind == "evidence":
            content = self._evidence.files.get((where, rest[0]))
            return ABSENT if content is None else kept_as(len(content), hashlib.sha256(content).hexdigest())
        service, environment = where.split("/")
        route = self._traffic.routes.get((service, environment))
        if kind == "route":
            return weights_text(route.weights if route else {})
        if kind == "rules":
            if route is None:
                return "none"
            return rules_text(
                route.matches, route.mirror, sticky=route.sticky, retries_elsewhere=route.retries_elsewhere
            )
        if kind == "serves":
            alive = {s.instance.id for s in await self._compute.processes(service, environment)}
            serving = {
                b.version
                for b in (route.backends if route else ())
                if b.weight > 0 and any(e.instance in alive for e in b.endpoints)
            }
            return ",".join(sorted(serving)) or "none"
        alive_now = await self._compute.processes(service, environment)
        return str(sum(s.instance.template.version == rest[0] for s in alive_now))
