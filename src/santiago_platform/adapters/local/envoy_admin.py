"""What the live Envoys say of themselves, asked over their admin sockets."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from pydantic_core import from_json

from .envoy_config import Key
from .unix_http import UnixHttp

TIMEOUT_SECONDS = 1.0
_FILES = {"rds.json": "http.ingress.rds.main", "cds.json": "cluster_manager.cds", "lds.json": "listener_manager.lds"}
TOGETHER_SECONDS, TOGETHER_AT_MOST = 1.0, 8
_STATISTICS = rf"^({'|'.join(_FILES.values())})\.(version_text|update_rejected|update_failure)$"


@dataclass(frozen=True)
class File:
    """An xDS file as one Envoy took it. version: the last good one; refused: how often it was not good."""

    version: str
    refused: int


@dataclass(frozen=True)
class Host:
    """An endpoint as one Envoy sees it. active: requests in flight."""

    healthy: bool
    active: int


@dataclass(frozen=True)
class View:
    """One live Envoy. Without an answer it is live and holds nothing that could be relied on.

    files: by name. hosts: by cluster, by instance; only clusters that are warm, of the services that were asked for.
    """

    name: str
    answers: bool = True
    files: Mapping[str, File] = field(default_factory=dict)
    hosts: Mapping[str, Mapping[str, Host]] = field(default_factory=dict)

    @property
    def routes(self) -> str:
        """The version of the routes that it follows; empty where it follows none."""
        return self.files["rds.json"].version if self.files else ""


@dataclass(frozen=True)
class Answer:
    """name: of the Envoy. epoch: of the process that answered."""

    name: str
    epoch: str
    text: str


class EnvoyAdmin:
    """Looks at the Envoys that live. sockets: by name. Concurrent looks share one."""

    def __init__(self, sockets: Mapping[str, Path]) -> None:
        self._servers = {name: UnixHttp(path, TIMEOUT_SECONDS) for name, path in sockets.items()}
        # Of their own: a server answers one request at a time, and counters are asked for beside the looks.
        self._counters = {name: UnixHttp(path, TIMEOUT_SECONDS) for name, path in sockets.items()}
        self._asking = {name: asyncio.Lock() for name in sockets}
        self._lock = asyncio.Lock()
        self._begun = float("-inf")
        self._keys: frozenset[Key] = frozenset()
        self._last_asked: dict[Key, float] = {}
        self._views: tuple[View, ...] = ()

    async def look(self, keys: Collection[Key] = (), *, since: float) -> tuple[View, ...]:
        """What was seen by a look that began at `since` (time.monotonic) or later. Never raises for an Envoy.

        keys: services whose hosts are looked at; an answer about hundreds would cost 50 ms.
        """
        async with self._lock:
            if self._begun < since or not self._keys.issuperset(keys):
                begun, asked = time.monotonic(), self._asked(keys)
                seen = await asyncio.gather(*(self._view(name, asked) for name in self._servers))
                self._begun, self._keys, self._views = begun, asked, tuple(view for view in seen if view is not None)
            return self._views

    async def statistics(self, pattern: str) -> tuple[Answer, ...]:
        """Those whose names fit, as text, of each Envoy that answers; histograms by cumulative buckets."""
        query = urlencode({"filter": pattern, "histogram_buckets": "cumulative"})
        answers = await asyncio.gather(*(self._answer(name, f"/stats?{query}") for name in self._counters))
        return tuple(answer for answer in answers if answer is not None)

    async def _answer(self, name: str, path: str) -> Answer | None:
        try:
            async with self._asking[name]:
                text = await self._counters[name].get(path)
                return Answer(name, _epoch(self._counters[name].peer), text.decode())
        except (OSError, ValueError):
            return None

    def _asked(self, keys: Collection[Key]) -> frozenset[Key]:
        """With the few that others have asked for lately, and are about to ask for again."""
        now = time.monotonic()
        lately = {key: at for key, at in self._last_asked.items() if now - at < TOGETHER_SECONDS}
        self._last_asked = {**lately, **dict.fromkeys(keys, now)}
        return frozenset(self._last_asked if len(self._last_asked) <= TOGETHER_AT_MOST else keys)

    async def close(self) -> None:
        for server in (*self._servers.values(), *self._counters.values()):
            server.close()

    async def _view(self, name: str, keys: frozenset[Key]) -> View | None:
        """None where no process listens."""
        try:
            # In this order: a request that the clusters do not show was sent by routes that were followed before.
            statistics = await self._servers[name].get(f"/stats?filter={_STATISTICS}")
            clusters = from_json(await self._servers[name].get(_clusters(keys))) if keys else {}
            return _parse(name, statistics.decode(), clusters)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except (OSError, ValueError, KeyError):
            return View(name=name, answers=False)


def _epoch(connection: socket.socket) -> str:
    """The process at the other end of a Unix socket and when it began. Raises OSError where it has ended."""
    pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    # Its name, in brackets, may hold anything.
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return f"{pid}-{after_name[19]}"


def _clusters(keys: frozenset[Key]) -> str:
    """The question for the hosts of these services."""
    names = "|".join(sorted(f"{service}__{environment}" for service, environment in keys))
    return f"/clusters?format=json&filter={quote(f'^({names})__')}"


def _parse(name: str, statistics: str, clusters: dict[str, Any]) -> View:
    values = dict(line.split(": ", 1) for line in statistics.splitlines() if ": " in line)
    return View(
        name=name,
        files={
            file: File(
                version=values.get(f"{prefix}.version_text", "").strip('"'),
                refused=sum(int(values.get(f"{prefix}.update_{how}", 0)) for how in ("rejected", "failure")),
            )
            for file, prefix in _FILES.items()
        },
        hosts={
            cluster["name"]: {
                host["hostname"].partition(":")[0]: Host(
                    healthy=_healthy(host["health_status"]), active=_active(host["stats"])
                )
                for host in cluster.get("host_statuses", ())
            }
            for cluster in clusters.get("cluster_statuses", ())
            if cluster.get("added_via_api")
        },
    )


def _healthy(status: dict[str, Any]) -> bool:
    """Every reason not to use a host is a field that is true; what remains is what EDS said."""
    return status.get("eds_health_status") == "HEALTHY" and not any(value is True for value in status.values())


def _active(statistics: list[dict[str, Any]]) -> int:
    """Envoy leaves zeros out."""
    return sum(int(s.get("value", 0)) for s in statistics if s["name"] in ("rq_active", "rq_pending_active"))
