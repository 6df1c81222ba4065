"""Makes one service of one environment be as its rows want it: instances, route, and what is leaving.

Level-triggered: each pass compares what is desired with what there is and does the next step of the
difference. It remembers nothing that a crash may not forget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..domain.errors import PlatformError, retryable
from ..domain.rollout import Desired, VersionSeen
from ..domain.route import Backend, Endpoint, Route, RouteStatus, hostname
from ..domain.workload import Instance, Template
from ..ports import Ports
from ..ports.compute import InstanceState, InstanceStatus

# A request that was sent just before the proxies took an endpoint out may still be on its way.
SETTLE_SECONDS = 0.3
# A live instance that was given up on is tried again, so that the platform recovers by itself.
RETRY_FAILED_SECONDS = 30.0
BUSY_SECONDS = 0.05  # between passes while something is being changed
UNREADY_SECONDS = 0.5  # while an instance recovers by itself
UNSETTLED_SECONDS = 2.0  # while the proxies are not as they should be
IDLE_SECONDS = 300.0  # of a service that is as desired: what changes of it is seen by the sweep
ALIVE = (InstanceState.STARTING, InstanceState.READY, InstanceState.UNREADY)


States = tuple[tuple[str, InstanceState], ...]


@dataclass(frozen=True)
class _Rest:
    """What was desired and seen when nothing was left to do. route: None for a worker."""

    want: Desired
    states: States
    route: Route | None


@dataclass
class Pass:
    """What a pass saw and could not do. rest: seconds until the next pass is worth its cost."""

    instances: Sequence[InstanceStatus]
    route: RouteStatus
    refused: dict[str, str] = field(default_factory=dict)
    rest: float = IDLE_SECONDS

    def version(self, name: str, *, routed: bool) -> VersionSeen:
        """How the instances of a version are."""
        mine = [s for s in self.instances if s.instance.template.version == name]
        ready = [s for s in mine if s.state is InstanceState.READY]
        failed = next((s.reason for s in mine if s.state is InstanceState.FAILED), "")
        healthy = sum(s.instance.id in self.route.healthy for s in ready) if routed else len(ready)
        return VersionSeen(
            running=sum(s.pid != 0 or s.state in ALIVE for s in mine),
            ready=len(ready),
            healthy=healthy,
            restarts=sum(s.restarts for s in mine),
            last_end=next((s.last_end for s in mine if s.last_end), ""),
            failure=self.refused.get(name) or failed,
        )

    @property
    def limits_not_enforced(self) -> tuple[str, ...]:
        """In words, each once."""
        return tuple(sorted({s.not_enforced for s in self.instances if s.not_enforced}))

    def why_not_ready(self, name: str) -> str:
        reasons = {s.reason for s in self.instances if s.instance.template.version == name and s.reason}
        return "; ".join(sorted(reasons))[:500]


class ServiceConverger:
    """One for each service and environment. Holds when each leaving instance began to drain, in this process."""

    def __init__(self, ports: Ports, service: str, environment: str) -> None:
        self._ports = ports
        self._service = service
        self._environment = environment
        self._left: dict[str, float] = {}
        self._failed: dict[str, float] = {}
        self._rest: _Rest | None = None

    async def rests(self, want: Desired, instances: Sequence[InstanceStatus]) -> bool:
        """Whether all is as it was when a pass had nothing left to do, which makes another one unnecessary.

        The route is handed over all the same, so that what somebody has changed of the proxies' files is mended.
        """
        rest = self._rest
        if rest is None or rest.want != want or rest.states != _states(instances):
            return False
        if rest.route is not None:
            await self._ports.traffic.apply(rest.route)
        return True

    async def converge(self, want: Desired, *, drain_seconds: float, on_trial: str = "") -> Pass:
        """One pass. on_trial: the version that is being rolled out; where it fails it is not tried again.

        Raises nothing of an instance: what could not be started is in `refused`, by version.
        """
        ports, self._rest = self._ports, None
        instances = await ports.compute.list(self._service, self._environment)
        route = await ports.traffic.status(self._service, self._environment)
        result = Pass(instances=instances, route=route)
        wanted = {
            (instance := Instance(template=version.template, index=index)).id: instance
            for version, count in want.replicas
            for index in range(count)
        }
        present = {s.instance.id: s for s in instances}
        leaving = [s for s in instances if s.instance.id not in wanted]
        for instance_id, instance in wanted.items():
            if instance_id not in present:
                await self._start(instance, result)
        kept = [present[i] for i, instance in wanted.items() if instance.template.version != on_trial and i in present]
        await self._retry_failed(kept)
        wanted_route = await self._route(want, wanted, present, leaving, result)
        await self._retire(leaving, route, drain_seconds, result)
        if any(i not in present or present[i].state is InstanceState.STOPPING for i in wanted):
            result.rest = BUSY_SECONDS
        elif any(present[i].state is not InstanceState.READY for i in wanted):
            result.rest = min(result.rest, UNREADY_SECONDS)
        routed = result.route.weights == want.weights if wanted_route else not result.route.known
        if not routed or result.refused or result.route.error:
            result.rest = min(result.rest, UNSETTLED_SECONDS)
        if result.rest == IDLE_SECONDS:
            self._rest = _Rest(want, _states(instances), wanted_route)
        return result

    async def _start(self, instance: Instance, result: Pass) -> None:
        try:
            await self._ports.compute.start(instance)
        except PlatformError as exc:
            if not retryable(exc.code):
                result.refused[instance.template.version] = f"{exc.message}; {exc.hint}" if exc.hint else exc.message

    async def _retry_failed(self, mine: list[InstanceStatus]) -> None:
        now = self._ports.clock.monotonic()
        failed = {s.instance.id for s in mine if s.state is InstanceState.FAILED}
        self._failed = {i: self._failed.get(i, now) for i in failed}
        for instance_id, since in list(self._failed.items()):
            if now - since >= RETRY_FAILED_SECONDS:
                await self._ports.compute.stop(instance_id)
                del self._failed[instance_id]

    async def _route(
        self,
        want: Desired,
        wanted: dict[str, Instance],
        present: dict[str, InstanceStatus],
        leaving: list[InstanceStatus],
        result: Pass,
    ) -> Route | None:
        """Endpoints appear once they are ready, and stay, draining, until nothing is in flight to them.

        Returns the route as it should be; None for a worker."""
        templates: dict[str, Template] = {v.name: v.template for v, _ in want.replicas}
        endpoints: dict[str, list[Endpoint]] = {name: [] for name in templates}
        for instance_id, instance in wanted.items():
            status = present.get(instance_id)
            if status is not None and (
                status.state is InstanceState.READY
                or (status.state in (*ALIVE, InstanceState.BACKING_OFF) and instance_id in result.route.known)
            ):
                endpoints[instance.template.version] += _endpoint(status, draining=False)
        for status in leaving:
            if self._drained(status, result.route) or status.instance.id not in result.route.known:
                continue
            templates.setdefault(status.instance.template.version, status.instance.template)
            endpoints.setdefault(status.instance.template.version, []).extend(_endpoint(status, draining=True))
        if not any(template.ports for template in templates.values()):
            if result.route.known:
                await self._ports.traffic.remove(self._service, self._environment)
            return None
        route = Route(
            service=self._service,
            environment=self._environment,
            hostnames=(hostname(self._service, self._environment),),
            backends=tuple(
                Backend(
                    version=name,
                    endpoints=tuple(endpoints[name]),
                    weight=want.weights.get(name, 0),
                    health_path=template.http_health_path,
                    health_host=(template.http_health.host or "") if template.http_health else "",
                    protocol=template.protocol,
                )
                for name, template in sorted(templates.items())
            ),
            matches=tuple(match for match in want.matches if match.version in templates),
            sticky=want.sticky,
            retries_elsewhere=want.retries_elsewhere,
            mirror=want.mirror if want.mirror and want.mirror.version in templates else None,
        )
        await self._ports.traffic.apply(route)
        result.route = await self._ports.traffic.status(self._service, self._environment)
        return route

    def _drained(self, status: InstanceStatus, route: RouteStatus) -> bool:
        since = self._left.get(status.instance.id)
        if since is None:
            return False
        settled = self._ports.clock.monotonic() - since >= SETTLE_SECONDS
        return settled and route.active_requests.get(status.instance.id, 0) == 0

    async def _retire(
        self, leaving: list[InstanceStatus], route: RouteStatus, drain_seconds: float, result: Pass
    ) -> None:
        """Stops what is leaving once no proxy sends it anything and nothing is in flight, or at the drain's limit."""
        now = self._ports.clock.monotonic()
        ids = {s.instance.id for s in leaving}
        self._left = {i: since for i, since in self._left.items() if i in ids}
        for status in leaving:
            result.rest = BUSY_SECONDS
            since = self._left.setdefault(status.instance.id, now)
            unknown = status.instance.id not in result.route.known and now - since >= SETTLE_SECONDS
            broken = status.state in (InstanceState.FAILED, InstanceState.STOPPING)
            late = now - since >= max(drain_seconds, SETTLE_SECONDS)
            if unknown or broken or late:
                await self._ports.compute.stop(status.instance.id)


def _states(instances: Sequence[InstanceStatus]) -> States:
    return tuple((status.instance.id, status.state) for status in instances)


def _endpoint(status: InstanceStatus, *, draining: bool) -> list[Endpoint]:
    """The address of the first port, which is the one that the ingress speaks to; its health may be asked elsewhere."""
    template = status.instance.template
    found = status.endpoints.get(template.ports[0].name) if template.ports else None
    if found is None:
        return []
    asked = status.endpoints.get(template.http_health.port) if template.http_health else None
    health_port = asked.port if asked is not None and asked.port != found.port else None
    return [found.model_copy(update={"draining": draining, "health_port": health_port})]
