"""Looks at what is really so: at each Envoy's routes, at the processes, and at answers through the ingress.

It shares no code with what writes the routes and starts the processes.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx2

from ...domain.proof import Claim, Observation
from ...domain.route import hostname, sticky_cookie
from ..layout import ENVOYS, WORKSPACE_VARIABLE, Layout
from . import route_dump
from .evidence_probe import observe_evidence
from .flag_probe import observe_flag

ADMIN_TIMEOUT_SECONDS = 2.0
SCAN_SHARED_SECONDS = 0.1
REQUESTS_AT_LEAST = 12
# A version with 1% of the traffic is missed by 1,000 requests once in 20,000 times.
REQUESTS_AT_MOST = 1000
SERVES_SECONDS = 3.0
REQUEST_TIMEOUT_SECONDS = 2.0
CONCURRENT_REQUESTS = 4

_INSTANCE_VARIABLE = "SANTIAGO_INSTANCE"
_VERSION_HEADER = "x-santiago-version"
_GRPC = {"content-type": "application/grpc", "te": "trailers"}
_GRPC_UNAVAILABLE = "14"
_SUBJECT = re.compile(r"(route|rules|serves|instances) ([a-z0-9-]+)/([a-z0-9-]+)(?: ([A-Za-z0-9.-]+))?")
_EVIDENCE = re.compile(r"evidence sha256:[0-9a-f]{64} [0-9a-f]{64}")
_FLAG = re.compile(r"flag [A-Za-z0-9._-]+ [a-z0-9-]+")


class LocalProbe:
    """Implements ports.probe.Probe. ingress_port: where clients reach services; flags_port: where they read flags."""

    def __init__(self, layout: Layout, ingress_port: int, flags_port: int = 0) -> None:
        self._layout = layout
        self._flags_port = flags_port
        self._ingress = f"http://127.0.0.1:{ingress_port}/"
        self._scan_lock = asyncio.Lock()
        self._scanned_at = float("-inf")
        self._instances: frozenset[str] = frozenset()

    async def observe(self, claims: Sequence[Claim]) -> list[Observation]:
        seen = await asyncio.gather(*(self._observe(claim) for claim in claims))
        return [observation for each in seen for observation in each]

    async def _observe(self, claim: Claim) -> list[Observation]:
        if _FLAG.fullmatch(claim.subject):
            return [await observe_flag(claim.subject, self._flags_port)]
        if _EVIDENCE.fullmatch(claim.subject):
            return [await observe_evidence(claim.subject, self._layout.evidence)]
        match = _SUBJECT.fullmatch(claim.subject)
        if match is None:
            return [Observation(subject=claim.subject, value=None, source="nobody", detail="unknown kind of subject")]
        kind, service, environment, version = match.groups()
        host = hostname(service, environment)
        if kind == "route":
            return await self._route(claim.subject, lambda dump: route_dump.weights(dump, host))
        if kind == "rules":
            cookie = sticky_cookie(service, environment)
            return await self._route(claim.subject, lambda dump: route_dump.rules(dump, host, cookie))
        if kind == "serves":
            return [await self._serves(claim, host, grpc=version == "h2c")]
        return [await self._running(claim.subject, f"{service}__{environment}__{version}__")]

    async def _route(self, subject: str, read: Callable[[dict[str, Any]], str]) -> list[Observation]:
        """read: what an Envoy's configuration of routes says of the subject."""
        answers = await asyncio.gather(*(self._routes_of(name) for name in ENVOYS))
        seen = []
        for name, answer in zip(ENVOYS, answers, strict=True):
            if answer is None:
                continue
            source = f"{name} admin"
            if isinstance(answer, str):
                seen.append(Observation(subject=subject, value=None, source=source, detail=answer))
            else:
                seen.append(Observation(subject=subject, value=read(answer), source=source))
        none = Observation(subject=subject, value=None, source="envoy admin", detail="no Envoy is running")
        return seen or [none]

    async def _routes_of(self, name: str) -> dict[str, Any] | str | None:
        """The admin's answer; why there is none; None where no process listens."""
        transport = httpx2.AsyncHTTPTransport(uds=str(self._layout.envoy_admin(name)), verify=False)
        try:
            async with httpx2.AsyncClient(transport=transport, timeout=ADMIN_TIMEOUT_SECONDS) as client:
                response = await client.get("http://envoy/config_dump?resource=dynamic_route_configs")
                answer: dict[str, Any] = response.raise_for_status().json()
                return answer
        except httpx2.ConnectError:
            return None
        except (httpx2.HTTPError, ValueError) as exc:
            return f"it does not answer: {exc!r}"

    async def _running(self, subject: str, prefix: str) -> Observation:
        async with self._scan_lock:
            if time.monotonic() - self._scanned_at > SCAN_SHARED_SECONDS:
                self._scanned_at = time.monotonic()
                self._instances = await asyncio.to_thread(_instances, self._layout.id)
        running = sorted(i for i in self._instances if i.startswith(prefix))
        return Observation(subject=subject, value=str(len(running)), source="/proc", detail=" ".join(running))

    async def _serves(self, claim: Claim, host: str, *, grpc: bool) -> Observation:
        """Asks on fresh connections, which reach both Envoys, until every expected version has answered."""
        expected = set(claim.expected.split(","))
        seen: dict[str, int] = {}
        deadline = time.monotonic() + SERVES_SECONDS
        limits = httpx2.Limits(max_keepalive_connections=0)
        transport = httpx2.AsyncHTTPTransport(limits=limits, verify=False)
        async with httpx2.AsyncClient(
            transport=transport, timeout=REQUEST_TIMEOUT_SECONDS, headers={"host": host}
        ) as client:
            while True:
                asked_at_once = [self._answer(client, grpc=grpc) for _ in range(CONCURRENT_REQUESTS)]
                for answer in await asyncio.gather(*asked_at_once):
                    seen[answer] = seen.get(answer, 0) + 1
                asked = sum(seen.values())
                enough = asked >= REQUESTS_AT_LEAST and expected <= seen.keys()
                if enough or asked >= REQUESTS_AT_MOST or time.monotonic() > deadline:
                    break
        return Observation(
            subject=claim.subject,
            value=",".join(sorted(seen)),
            source=f"{asked} requests through the ingress",
            detail=" ".join(f"{answer}: {count}" for answer, count in sorted(seen.items())),
        )

    async def _answer(self, client: httpx2.AsyncClient, *, grpc: bool) -> str:
        """The version that answered, `none` where the ingress itself did; else what went wrong in its place.

        grpc: a call of a method that may be unknown comes first, since servers of gRPC break off what is no call.
        """
        try:
            if grpc:
                url = f"{self._ingress}grpc.health.v1.Health/Check"
                async with client.stream("POST", url, headers=_GRPC, content=bytes(5)) as response:
                    if response.status_code < 500 and response.headers.get("grpc-status") != _GRPC_UNAVAILABLE:
                        return str(response.headers.get(_VERSION_HEADER, "unknown"))
            async with client.stream("GET", self._ingress) as response:
                version = response.headers.get(_VERSION_HEADER, "unknown")
                return version if version == "none" or response.status_code < 500 else str(response.status_code)
        except httpx2.HTTPError as exc:
            return type(exc).__name__


def _instances(workspace: str) -> frozenset[str]:
    """Ids of the instances that have a process. A zombie has no environment any more."""
    mark = f"{WORKSPACE_VARIABLE}={workspace}".encode()
    name = f"{_INSTANCE_VARIABLE}=".encode()
    found = set()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            with open(f"/proc/{entry.name}/environ", "rb") as file:
                variables = file.read().split(b"\0")
        except OSError:
            continue  # it has ended, or is another user's
        if mark in variables:
            found |= {v[len(name) :].decode("utf-8", "replace") for v in variables if v.startswith(name)}
    return frozenset(found)
