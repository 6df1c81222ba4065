"""Traffic by two Envoys on one port, configured through files (xDS).

Every change goes in the order that loses no request: clusters, then (once every live Envoy has them, with their
first health checks done) the routes that name them; a cluster goes when every live Envoy follows routes without it
and nothing is in flight to it. Each step is taken from what is wanted, what was written and what the Envoys say, so
that a crash between two steps is mended by the next call.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...domain.counters import Counters
from ...domain.errors import ErrorCode, PlatformError
from ...domain.route import Route, RouteStatus
from ..layout import ENVOYS, Layout
from . import envoy_files as files
from .envoy_admin import EnvoyAdmin, File, View
from .envoy_config import Cluster, Json, Key, clusters
from .envoy_counters import counts, pattern
from .envoy_listener import listeners
from .envoy_routes import VirtualHost, routes

log = logging.getLogger(__name__)

HAND_OVER_SECONDS = 2.0  # how long `apply` waits for new clusters to be warm; later calls go on
POLL_SECONDS = 0.01
FRESH_SECONDS = 0.02  # a look this young serves all who ask
# A request that is between two tries is in flight nowhere for a moment.
QUIET_SECONDS = 0.3
REPAIR_SECONDS = 1.0
INSIST_SECONDS = 1.0  # an Envoy may be this late with the listeners before they are written anew for it
KEPT_VERSIONS = 64  # of the routes: what an Envoy that lags behind follows
LOOK_SECONDS = 1.0  # at what people change: the ingress and its certificates
FILES = ("rds.json", "cds.json", "lds.json")


@dataclass(frozen=True)
class _Target:
    """A route that is wanted, and what the Envoys need for it."""

    route: Route
    host: VirtualHost
    clusters: tuple[Cluster, ...]

    @classmethod
    def of(cls, route: Route) -> _Target:
        return cls(route, VirtualHost.of(route), Cluster.all_of(route))


class EnvoyTraffic:
    """Implements ports.traffic.Traffic. One per workspace: it alone writes the xDS files."""

    def __init__(self, layout: Layout, claim: Callable[[str], int]) -> None:
        """claim: the port of this machine that belongs to a purpose, the same each time."""
        self._xds = layout.xds
        self._claim = claim
        self._ports = files.load_ports(layout.state)
        self._listened = dict(self._ports)
        self._ingress = self._served = files.load_ingress(layout.xds)
        self._certificates = files.certificates(layout.xds, self._ingress)
        self._looked = float("-inf")
        self._admin = EnvoyAdmin({name: layout.envoy_admin(name) for name in ENVOYS})
        state = files.load_state(layout.xds)
        self._wanted = {_key(r): _Target.of(r) for r in state.wanted}
        self._published = {_key(h): h for h in state.published}
        self._held = {c.name: c for c in state.held}
        self._quiet: dict[str, float] = {}
        self._unsettled: set[Key] = {*self._wanted, *self._published}
        self._taken: dict[tuple[str, str], File] = {}
        self._history: OrderedDict[str, dict[Key, VirtualHost]] = OrderedDict()
        self._texts: dict[str, str] = {}
        self._repaired = float("-inf")
        self._listeners = ""  # the version that was written last
        self._late_since: dict[str, float] = {}
        self._insisted = float("-inf")
        self._lock = asyncio.Lock()
        self._adopt()

    async def close(self) -> None:
        await self._admin.close()

    def port(self, service: str, environment: str) -> int:
        """The port of 127.0.0.1 that leads to this service alone, whether it is deployed or not. It stays its own.

        Raises PlatformError as the registry of ports does.
        """
        key = (service, environment)
        if key not in self._ports:
            self._ports[key] = self._claim(f"service {service}/{environment}")
            files.save_ports(self._xds.parent, self._ports)
        return self._ports[key]

    def concerns(self) -> list[str]:
        """What somebody should look after, although requests are served."""
        certificates = self._certificates.concerns() if self._certificates else []
        now = time.monotonic()
        late = [name for name, since in self._late_since.items() if now - since > 3 * INSIST_SECONDS]
        return [*certificates, *(f"{name} does not listen as it should: is a port of it taken?" for name in late)]

    async def apply(self, route: Route) -> None:
        key = _key(route)
        before = self._wanted.get(key)
        if before is None or before.route != route:
            self._refuse_shared_hostnames(route)
            self.port(*key)
            self._wanted[key] = _Target.of(route)
            self._unsettled.add(key)
        elif key not in self._unsettled:
            if self._due():
                await self._step(unless=lambda: not self._due())
            return
        deadline = time.monotonic() + HAND_OVER_SECONDS
        while True:
            await self._step()
            target = self._wanted.get(key)
            if target is None or self._published.get(key) == target.host:
                return  # `remove` may have come in between
            if time.monotonic() > deadline:
                log.warning("%s/%s: its new clusters are not warm in every Envoy yet", *key)
                return
            await asyncio.sleep(POLL_SECONDS)

    def _refuse_shared_hostnames(self, route: Route) -> None:
        for other, known in self._wanted.items():
            if other != _key(route) and (shared := set(known.route.hostnames) & set(route.hostnames)):
                raise PlatformError(
                    ErrorCode.CONFLICT,
                    f"the host name {min(shared)} belongs to {other[0]} in {other[1]}",
                    "give this service another host name, or remove that route first",
                )

    async def remove(self, service: str, environment: str) -> None:
        key = (service, environment)
        if self._wanted.pop(key, None) is not None:
            self._unsettled.add(key)
        if key in self._unsettled:
            await self._step()

    async def status(self, service: str, environment: str) -> RouteStatus:
        key = (service, environment)
        if key in self._unsettled or self._due():
            await self._step(unless=lambda: key not in self._unsettled and not self._due())
        views = await self._admin.look({key, *self._unsettled}, since=time.monotonic() - FRESH_SECONDS)
        target = self._wanted.get(key)
        own = [c for c in (target.clusters if target else ()) if not c.mirrored]
        prefix = f"{service}__{environment}__"
        hosts = [
            (instance, host)
            for view in views
            for cluster, members in view.hosts.items()
            if cluster.startswith(prefix)
            for instance, host in members.items()
        ]
        active: dict[str, int] = {}
        for instance, host in hosts:
            active[instance] = active.get(instance, 0) + host.active
        error = self._error(views)
        if error:
            self._unsettled.add(key)
        followed = self._followed(key, views)
        return RouteStatus(
            weights=_common([host.weights if host else {} for host in followed or ()]),
            acknowledged=followed is not None and all(host == (target.host if target else None) for host in followed),
            healthy=frozenset(e.instance for c in own for e in c.endpoints if _healthy(c.name, e.instance, views)),
            known=frozenset(active),
            active_requests=active,
            error=error,
            address=f"127.0.0.1:{self._ports[key]}" if key in self._ports else "",
        )

    async def counters(self, service: str, environment: str) -> tuple[Counters, ...]:
        answers = await self._admin.statistics(pattern(service, environment))
        return tuple(Counters(proxy=a.name, epoch=a.epoch, counts=counts(a.text)) for a in answers)

    def _followed(self, key: Key, views: tuple[View, ...]) -> list[VirtualHost | None] | None:
        """What each live Envoy follows, although by different versions of the file. None where one follows none of
        those that are known, or none lives."""
        if not views or any(view.routes not in self._history for view in views):
            return None
        return [self._history[view.routes].get(key) for view in views]

    def _error(self, views: tuple[View, ...]) -> str:
        """Which files an Envoy has refused since it last took one of that name."""
        errors = []
        for view in views:
            if not view.answers:
                errors.append(f"{view.name} does not answer")
            for name, file in view.files.items():
                taken = self._taken.get((view.name, name))
                if taken is None or taken.version != file.version or taken.refused > file.refused:
                    self._taken[view.name, name] = file
                elif taken.refused < file.refused:
                    errors.append(f"{view.name} refused {name} and keeps its last good one")
            if view.routes and view.routes not in self._history:
                errors.append(f"{view.name} follows routes that are not from here")
        return "; ".join(errors)

    async def _step(self, unless: Callable[[], bool] = lambda: False) -> None:
        """One pass from what is to what is wanted, over all routes. unless: whether another one has done it by then."""
        async with self._lock:
            if unless():
                return
            await self._repair()
            await self._listen()
            if self._unsettled:
                await self._hold_more()
            looked = frozenset(self._unsettled)
            views = await self._admin.look(looked, since=time.monotonic() - FRESH_SECONDS)
            await self._insist(views)
            if not looked:
                return
            await self._publish(views, looked)
            await self._hold_less(views, looked)
            self._unsettled = {key for key in self._unsettled if not self._settled(key)}

    def _due(self) -> bool:
        """Whether a step is due that no route asks for: a port was claimed, or it is time to look at the ingress."""
        return self._ports != self._listened or time.monotonic() - self._looked > LOOK_SECONDS

    async def _listen(self) -> None:
        """Ports are as claimed, and the ingress as `up` set it up. The routes of a port come before its listener."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            await asyncio.to_thread(self._look)
        if self._ports != self._listened:
            self._listened = dict(self._ports)
            version = await self._save(("rds.json", "lds.json"))
            if self._ingress is not None:
                await self._taken_by_all("lds.json", version)
        elif self._ingress != self._served:
            await self._save(("lds.json",))

    async def _insist(self, views: tuple[View, ...]) -> None:
        """An Envoy that could not listen, since somebody else had the port, does not try again by itself."""
        now = time.monotonic()
        late = {v.name for v in views if v.answers and v.files["lds.json"].version != self._listeners}
        self._late_since = {name: self._late_since.get(name, now) for name in late}
        waited = now - max(min(self._late_since.values(), default=now), self._insisted)
        if self._ingress is not None and waited > INSIST_SECONDS:
            self._insisted = now
            await self._save(("lds.json",))

    async def _taken_by_all(self, name: str, version: str) -> None:
        """Until every live Envoy has taken the file, for a while: what is about to be started may call at once."""
        deadline = time.monotonic() + HAND_OVER_SECONDS
        while time.monotonic() < deadline:
            views = await self._admin.look(since=time.monotonic())
            if all(view.files[name].version == version for view in views if view.answers):
                return
            await asyncio.sleep(POLL_SECONDS)

    def _look(self) -> None:
        """At what people change: the settings of the ingress, and its certificates."""
        self._looked = time.monotonic()
        found = files.load_ingress(self._xds)
        if found != self._ingress:
            self._ingress, self._certificates = found, files.certificates(self._xds, found)
        if self._certificates is not None:
            self._certificates.refresh()

    async def _hold_more(self) -> None:
        """Clusters of the routes that are wanted are made known."""
        added = {c.name: c for t in self._wanted.values() for c in t.clusters if c.name not in self._held}
        if added:
            self._held |= added
            await self._save(("cds.json",))

    async def _publish(self, views: tuple[View, ...], looked: frozenset[Key]) -> None:
        """Routes whose clusters every live Envoy has take the place of those before."""
        after = {key: host for key, host in self._published.items() if key in self._wanted}
        for key in looked & self._wanted.keys():
            target = self._wanted[key]
            if all(cluster in view.hosts for view in views for cluster in target.host.clusters):
                after[key] = target.host
        if after != self._published:
            self._published = after
            await self._save(("rds.json",))

    async def _hold_less(self, views: tuple[View, ...], looked: frozenset[Key]) -> None:
        """Clusters that nothing needs go, once nothing is in flight to them for a while."""
        needed = {c.name for target in self._wanted.values() for c in target.clusters}
        needed |= {cluster for host in self._published.values() for cluster in host.clusters}
        current = next(reversed(self._history))
        followed = all(view.routes == current for view in views)
        now = time.monotonic()
        quiet = {
            name
            for name, cluster in self._held.items()
            if name not in needed
            and (cluster.service, cluster.environment) in looked
            and followed
            and not any(host.active for view in views for host in view.hosts.get(name, {}).values())
        }
        self._quiet = {name: self._quiet.get(name, now) for name in quiet}
        gone = {name for name, since in self._quiet.items() if now - since >= QUIET_SECONDS}
        if gone:
            self._held = {name: cluster for name, cluster in self._held.items() if name not in gone}
            await self._save(("cds.json",))

    def _settled(self, key: Key) -> bool:
        target = self._wanted.get(key)
        wanted = {c.name for c in target.clusters} if target else set()
        held = {c.name for c in self._held.values() if (c.service, c.environment) == key}
        return held == wanted and self._published.get(key) == (target.host if target else None)

    async def _repair(self) -> None:
        """Writes again what somebody else has changed on disk."""
        if time.monotonic() - self._repaired < REPAIR_SECONDS:
            return
        self._repaired = time.monotonic()
        await asyncio.to_thread(self._look)
        changed = tuple(n for n, text in self._texts.items() if files.read(self._xds / n) != text)
        if changed:
            await self._save(changed)

    def _adopt(self) -> None:
        """Goes on from the files of the process before, where they say what the state says."""
        files.private(self._xds)
        self._repaired = time.monotonic()
        for name in FILES:
            resources = self._rendered(name)
            if resources is None:
                continue
            text = files.read(self._xds / name)
            version = files.version_of(text, resources)
            if not version:
                version = files.new_version()
                text = files.versioned(resources, version)
                files.replace(self._xds / name, text)
            self._texts[name] = text
            self._note_version(name, version)

    def _rendered(self, name: str) -> Json | None:
        """A file's content as it should be now; None for the listeners before the first `up`."""
        match name:
            case "rds.json":
                return routes(self._published.values(), self._listened)
            case "cds.json":
                return clusters(self._held.values())
            case _:
                self._served = self._ingress
                return listeners(self._xds, self._ingress, self._listened) if self._ingress else None

    def _note_version(self, name: str, version: str) -> None:
        if name == "lds.json":
            self._listeners = version
        if name != "rds.json":
            return
        self._history[version] = dict(self._published)
        if len(self._history) > KEPT_VERSIONS:
            self._history.popitem(last=False)

    async def _save(self, names: tuple[str, ...]) -> str:
        """Writes the state, then the files that follow from it; returns their version. A cancellation waits until they
        are whole."""
        state = files.State(
            wanted=tuple(target.route for target in self._wanted.values()),
            published=tuple(self._published.values()),
            held=tuple(self._held.values()),
        )
        version = files.new_version()
        rendered = {name: self._rendered(name) for name in names}
        texts = {name: files.versioned(each, version) for name, each in rendered.items() if each is not None}
        self._texts |= texts
        for name in texts:
            self._note_version(name, version)
        writing = asyncio.create_task(asyncio.to_thread(_write, self._xds, state, texts))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await writing
            raise
        return version


def _key(route: Route | VirtualHost) -> Key:
    return route.service, route.environment


def _common(found: Sequence[dict[str, int]]) -> dict[str, int] | None:
    """What all have in common; None where they differ, or there are none."""
    return found[0] if found and all(each == found[0] for each in found) else None


def _healthy(cluster: str, instance: str, views: Iterable[View]) -> bool:
    seen = [view.hosts.get(cluster, {}).get(instance) for view in views]
    return bool(seen) and all(host is not None and host.healthy for host in seen)


def _write(xds: Path, state: files.State, texts: dict[str, str]) -> None:
    files.replace(xds / "routes.json", state.model_dump_json(exclude_defaults=True), durable=True)
    for name, text in texts.items():
        files.replace(xds / name, text)
