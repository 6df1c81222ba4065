"""Traffic by two Envoys on one port, configured through files (xDS).

Every change goes in the order that loses no request: clusters, then (once every live Envoy has them, with their
first health checks done) the routes that name them; a cluster goes when every live Envoy follows routes without it
and nothing is in flight to it. Each step is taken from what is wanted, what was written and what the Envoys say, so
that a crash between two steps is mended by the next call.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from ...domain.errors import ErrorCode, PlatformError
from ...domain.route import Route, RouteStatus
from ...domain.value import Value
from ..layout import ENVOYS, Layout
from . import envoy_config as config
from .envoy_admin import EnvoyAdmin, File, View
from .envoy_config import Cluster, VirtualHost

log = logging.getLogger(__name__)

HAND_OVER_SECONDS = 2.0  # how long `apply` waits for new clusters to be warm; later calls go on
POLL_SECONDS = 0.01
FRESH_SECONDS = 0.02  # a look this young serves all who ask
# A request that is between two tries is in flight nowhere for a moment.
QUIET_SECONDS = 0.3
REPAIR_SECONDS = 1.0
KEPT_VERSIONS = 64  # of the routes: what an Envoy that lags behind follows

Key = tuple[str, str]


class _State(Value):
    """routes.json. wanted: as `apply` was given. published: as rds.json says. held: what cds.json says."""

    wanted: tuple[Route, ...] = ()
    published: tuple[VirtualHost, ...] = ()
    held: tuple[Cluster, ...] = ()


@dataclass(frozen=True)
class _Target:
    """A route that is wanted, and what the Envoys need for it."""

    route: Route
    host: VirtualHost
    clusters: tuple[Cluster, ...]

    @classmethod
    def of(cls, route: Route) -> _Target:
        return cls(route, VirtualHost.of(route), tuple(Cluster.of(route, b) for b in route.backends))


class EnvoyTraffic:
    """Implements ports.traffic.Traffic. One per workspace: it alone writes the xDS files."""

    def __init__(self, layout: Layout) -> None:
        self._xds = layout.xds
        self._admin = EnvoyAdmin({name: layout.envoy_admin(name) for name in ENVOYS})
        state = _load(layout.xds)
        self._wanted = {_key(r): _Target.of(r) for r in state.wanted}
        self._published = {_key(h): h for h in state.published}
        self._held = {c.name: c for c in state.held}
        self._quiet: dict[str, float] = {}
        self._unsettled: set[Key] = {*self._wanted, *self._published}
        self._taken: dict[tuple[str, str], File] = {}
        self._history: OrderedDict[str, dict[Key, dict[str, int]]] = OrderedDict()
        self._texts: dict[str, str] = {}
        self._repaired = float("-inf")
        self._lock = asyncio.Lock()
        self._adopt()

    async def close(self) -> None:
        await self._admin.close()

    async def apply(self, route: Route) -> None:
        key = _key(route)
        for other, known in self._wanted.items():
            if other != key and (shared := set(known.route.hostnames) & set(route.hostnames)):
                raise PlatformError(
                    ErrorCode.CONFLICT,
                    f"the host name {min(shared)} belongs to {other[0]} in {other[1]}",
                    "give this service another host name, or remove that route first",
                )
        before = self._wanted.get(key)
        if before is None or before.route != route:
            self._wanted[key] = _Target.of(route)
        elif key not in self._unsettled:
            return
        self._unsettled.add(key)
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

    async def remove(self, service: str, environment: str) -> None:
        key = (service, environment)
        if self._wanted.pop(key, None) is not None:
            self._unsettled.add(key)
        if key in self._unsettled:
            await self._step()

    async def status(self, service: str, environment: str) -> RouteStatus:
        key = (service, environment)
        if key in self._unsettled:
            await self._step()
        views = await self._admin.look(since=time.monotonic() - FRESH_SECONDS)
        target = self._wanted.get(key)
        current = target.clusters if target else ()
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
        return RouteStatus(
            weights=self._weights(key, views),
            healthy=frozenset(e.instance for c in current for e in c.endpoints if _healthy(c.name, e.instance, views)),
            known=frozenset(active),
            active_requests=active,
            error=error,
        )

    def _weights(self, key: Key, views: tuple[View, ...]) -> dict[str, int] | None:
        """What all live Envoys follow, although they may follow different versions of the file."""
        followed = [self._history[v.routes].get(key, {}) if v.routes in self._history else None for v in views]
        if not followed or any(weights != followed[0] for weights in followed):
            return None
        return followed[0]

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

    async def _step(self) -> None:
        """One pass from what is to what is wanted, over all routes."""
        async with self._lock:
            await self._repair()
            await self._hold_more()
            views = await self._admin.look(since=time.monotonic() - FRESH_SECONDS)
            await self._publish(views)
            await self._hold_less(views)
            self._unsettled = {key for key in self._unsettled if not self._settled(key)}

    async def _hold_more(self) -> None:
        """Clusters of the routes that are wanted are made known."""
        added = {c.name: c for t in self._wanted.values() for c in t.clusters if c.name not in self._held}
        if added:
            self._held |= added
            await self._save(("cds.json",))

    async def _publish(self, views: tuple[View, ...]) -> None:
        """Routes whose clusters every live Envoy has take the place of those before."""
        after = {key: host for key, host in self._published.items() if key in self._wanted}
        for key, target in self._wanted.items():
            if all(cluster in view.hosts for view in views for _, cluster, _ in target.host.shares):
                after[key] = target.host
        if after != self._published:
            self._published = after
            await self._save(("rds.json",))

    async def _hold_less(self, views: tuple[View, ...]) -> None:
        """Clusters that nothing needs go, once nothing is in flight to them for a while."""
        needed = {c.name for target in self._wanted.values() for c in target.clusters}
        needed |= {cluster for host in self._published.values() for _, cluster, _ in host.shares}
        current = next(reversed(self._history))
        followed = all(view.routes == current for view in views)
        now = time.monotonic()
        quiet = {
            name
            for name in self._held
            if name not in needed
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
        changed = tuple(n for n in ("cds.json", "rds.json") if _read(self._xds / n) != self._texts.get(n))
        if changed:
            await self._save(changed)

    def _adopt(self) -> None:
        """Goes on from the files of the process before, where they say what the state says."""
        _private(self._xds)
        self._repaired = time.monotonic()
        for name, resources in (("cds.json", self._clusters_file()), ("rds.json", self._routes_file())):
            text = _read(self._xds / name)
            try:
                version = json.loads(text)["version_info"]
            except (ValueError, KeyError, TypeError):
                version = ""
            if not version or text != _versioned(resources, version):
                version = _new_version()
                text = _versioned(resources, version)
                _replace(self._xds / name, text)
            self._texts[name] = text
            if name == "rds.json":
                self._remember(version)

    def _clusters_file(self) -> config.Json:
        return config.clusters(self._held.values())

    def _routes_file(self) -> config.Json:
        return config.routes(self._published.values())

    def _remember(self, version: str) -> None:
        self._history[version] = {key: host.weights for key, host in self._published.items()}
        if len(self._history) > KEPT_VERSIONS:
            self._history.popitem(last=False)

    async def _save(self, names: tuple[str, ...]) -> None:
        """Writes the state, then the files that follow from it. A cancellation waits until they are whole."""
        state = _State(
            wanted=tuple(target.route for target in self._wanted.values()),
            published=tuple(self._published.values()),
            held=tuple(self._held.values()),
        )
        version = _new_version()
        rendered = {"cds.json": self._clusters_file, "rds.json": self._routes_file}
        texts = {name: _versioned(rendered[name](), version) for name in names}
        self._texts |= texts
        if "rds.json" in names:
            self._remember(version)
        writing = asyncio.create_task(asyncio.to_thread(_write, self._xds, state, texts))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await writing
            raise


def envoy_command(layout: Layout, binary: Path, name: str, *, ingress_port: int, stats_port: int) -> tuple[str, ...]:
    """Writes what the Envoy `name` reads, routes that were known before included; returns its argv.

    stats_port: where Prometheus may read its statistics. Two Envoys share ingress_port; each has its own stats_port.
    """
    xds, admin = layout.xds, layout.envoy_admin(name)
    _private(layout.state)
    _private(xds)
    _private(admin.parent)
    listeners = json.dumps(config.listeners(xds, ingress_port))
    if _read(xds / "lds.json") != listeners:
        _replace(xds / "lds.json", listeners)
    state = _load(xds)
    for file, resources in (("cds.json", config.clusters(state.held)), ("rds.json", config.routes(state.published))):
        if not (xds / file).exists():
            _replace(xds / file, _versioned(resources, _new_version()))
    bootstrap = xds / f"{name}.json"
    own = config.bootstrap(node=name, workspace=layout.id, admin=admin, xds=xds, stats_port=stats_port)
    _replace(bootstrap, json.dumps(own))
    # The pair together gets as many workers as there are cores. Without hot restart there is no shared memory that
    # a killed Envoy could leave behind; the other one of the pair does what hot restart would do.
    workers = max(1, min(4, (os.cpu_count() or 1) // 2))
    return (
        str(binary),
        "--config-path",
        str(bootstrap),
        "--disable-hot-restart",
        "--concurrency",
        str(workers),
        "--log-level",
        "warning",
    )


def _key(route: Route | VirtualHost) -> Key:
    return route.service, route.environment


def _healthy(cluster: str, instance: str, views: Iterable[View]) -> bool:
    seen = [view.hosts.get(cluster, {}).get(instance) for view in views]
    return bool(seen) and all(host is not None and host.healthy for host in seen)


def _new_version() -> str:
    """Never used before, by a process before this one either."""
    return str(time.time_ns())


def _versioned(resources: config.Json, version: str) -> str:
    return json.dumps({"version_info": version, **resources}, separators=(",", ":"))


def _load(xds: Path) -> _State:
    path = xds / "routes.json"
    text = _read(path)
    try:
        return _State.model_validate_json(text) if text else _State()
    except ValidationError as exc:
        raise PlatformError(
            ErrorCode.DATA_CORRUPT,
            f"{path} cannot be read as routes",
            "remove it: the routes are made anew from the database, and services answer 404 until then",
            internal=str(exc),
        ) from exc


def _write(xds: Path, state: _State, texts: dict[str, str]) -> None:
    _replace(xds / "routes.json", state.model_dump_json(), durable=True)
    for name, text in texts.items():
        _replace(xds / name, text)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _replace(path: Path, text: str, *, durable: bool = False) -> None:
    """By rename, which is what Envoy watches for, too. durable: it survives a loss of power."""
    temporary = path.with_suffix(".tmp")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)


def _private(directory: Path) -> None:
    """Made, or found as this user's own: a name in /tmp could have been taken by somebody else."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"{directory} is not a directory of this user",
            "remove it, or set XDG_RUNTIME_DIR to a directory of your own",
        )
    directory.chmod(0o700)
