"""Proxies as their users drive them, each in front of two versions of one service, and how each is switched."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from .programs import program
from .tiny import free_port, wait_for

Backends = Mapping[str, Sequence[int]]  # ports of 127.0.0.1, by version
API = "type.googleapis.com/envoy"
ROUTES = f"{API}.config.route.v3.RouteConfiguration"
HTTP = f"{API}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


@dataclass(frozen=True)
class Proxy:
    """port: where its clients ask. switch: gives a version all traffic, and returns when it began to: epoch seconds."""

    port: int
    switch: Callable[[str], float]


Driven = Callable[[Path, Backends], AbstractContextManager[Proxy]]


@contextmanager
def envoy_by_hand(folder: Path, backends: Backends) -> Iterator[Proxy]:
    """One Envoy with as many workers as cores, static clusters, and a route file that a script renames into place."""
    port, routes = free_port(), folder / "routes.json"

    def switch(version: str) -> float:
        partial = routes.with_suffix(".new")
        partial.write_text(
            json.dumps({"version_info": str(time.time_ns()), "resources": [{"@type": ROUTES, **_routes(version)}]})
        )
        began = time.time()
        partial.replace(routes)
        return began

    switch(next(iter(backends)))
    source = {"resource_api_version": "V3", "path_config_source": {"path": str(routes)}}
    manager = {"rds": {"route_config_name": "main", "config_source": source}}
    with envoy(folder, port, manager, backends):
        yield Proxy(port, switch)


def access_log() -> dict[str, Any]:
    """A line of JSON for each request, as people have it who want to know what happened."""
    fields = {
        "time": "%START_TIME%",
        "method": "%REQ(:METHOD)%",
        "path": "%REQ(:PATH)%",
        "status": "%RESPONSE_CODE%",
        "bytes_received": "%BYTES_RECEIVED%",
        "bytes": "%BYTES_SENT%",
        "duration_ms": "%DURATION%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "upstream": "%UPSTREAM_HOST%",
        "protocol": "%PROTOCOL%",
        "flags": "%RESPONSE_FLAGS%",
    }
    kind = f"{API}.extensions.access_loggers.stream.v3.StdoutAccessLog"
    typed = {"@type": kind, "log_format": {"json_format": fields}}
    return {"access_log": [{"name": "envoy.access_loggers.stdout", "typed_config": typed}]}


@contextmanager
def envoy(folder: Path, port: int, manager: dict[str, Any], backends: Backends) -> Iterator[int]:
    """A plain Envoy: one listener, a cluster a version, and nothing that is not needed for it. Yields its pid."""
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{API}.extensions.filters.http.router.v3.Router"},
    }
    filters = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {"@type": HTTP, "stat_prefix": "ingress", "http_filters": [router], **manager},
    }
    listener = {"name": "ingress", "address": _address(port), "filter_chains": [{"filters": [filters]}]}
    clusters = [_cluster(version, ports) for version, ports in backends.items()]
    file = folder / "envoy.json"
    node = {"id": "plain", "cluster": "bench"}
    file.write_text(json.dumps({"node": node, "static_resources": {"listeners": [listener], "clusters": clusters}}))
    with _running(
        folder, "envoy", "--disable-hot-restart", "--log-level", "error", "--config-path", str(file)
    ) as process:
        wait_for(port)
        yield process.pid


def routes_to(version: str) -> dict[str, Any]:
    """The part of a connection manager that sends everything to one version."""
    return {"route_config": _routes(version)}


def retrying_routes(version: str) -> dict[str, Any]:
    """As `routes_to`, by weight and with a retry at another instance, as rollouts without failed requests need it."""
    predicate = {
        "name": "envoy.retry_host_predicates.previous_hosts",
        "typed_config": {"@type": f"{API}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
    }
    retry = {"retry_on": "connect-failure,refused-stream,reset", "num_retries": 2, "retry_host_predicate": [predicate]}
    weighted = {"clusters": [{"name": version, "weight": 100}]}
    forward = {"match": {"prefix": "/"}, "route": {"weighted_clusters": weighted, "retry_policy": retry}}
    virtual_host = {"name": "all", "domains": ["*"], "routes": [forward]}
    return {"route_config": {"name": "main", "virtual_hosts": [virtual_host]}}


def _routes(version: str) -> dict[str, Any]:
    forward = {"match": {"prefix": "/"}, "route": {"cluster": version}}
    return {
        "name": "main",
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [forward]}],
    }


def _cluster(version: str, ports: Sequence[int]) -> dict[str, Any]:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": _address(port)}} for port in ports]}]
    assignment = {"cluster_name": version, "endpoints": endpoints}
    return {"name": version, "type": "STATIC", "connect_timeout": "1s", "load_assignment": assignment}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


@contextmanager
def haproxy_by_map(folder: Path, backends: Backends) -> Iterator[Proxy]:
    """Its runtime API: a map says which backend is live, and `set map` changes it in the running process."""
    port, first = free_port(), next(iter(backends))
    live, control, file = folder / "live.map", folder / "control", folder / "haproxy.cfg"
    live.write_text(f"live {first}\n")
    file.write_text(_haproxy(port, control, f"use_backend %[str(live),map({live})]", backends))

    def switch(version: str) -> float:
        began = time.time()
        with socket.socket(socket.AF_UNIX) as runtime:
            runtime.connect(str(control))
            runtime.sendall(f"set map {live} live {version}\n".encode())
            runtime.shutdown(socket.SHUT_WR)
            if said := runtime.recv(1000).strip():
                raise RuntimeError(f"HAProxy says: {said.decode()}")
        return began

    with _running(folder, "haproxy", "-f", str(file)):
        wait_for(port)
        yield Proxy(port, switch)


@contextmanager
def haproxy_by_reload(folder: Path, backends: Backends) -> Iterator[Proxy]:
    """The file is written anew and the master reloaded, which hands its sockets on to new workers and ends the old."""
    port, control, file = free_port(), folder / "control", folder / "haproxy.cfg"

    def write(version: str) -> None:
        file.write_text(_haproxy(port, control, f"default_backend {version}", backends))

    write(next(iter(backends)))
    with _running(folder, "haproxy", "-W", "-f", str(file)) as master:

        def switch(version: str) -> float:
            write(version)
            began = time.time()
            master.send_signal(signal.SIGUSR2)
            return began

        wait_for(port)
        yield Proxy(port, switch)


def _haproxy(port: int, control: Path, choice: str, backends: Backends) -> str:
    lines = [
        "global",
        f"  stats socket {control} mode 600 level admin expose-fd listeners",
        "defaults",
        "  mode http",
        *(f"  timeout {what} 30s" for what in ("connect", "client", "server")),
        "frontend ingress",
        f"  bind 127.0.0.1:{port}",
        f"  {choice}",
    ]
    for version, ports in backends.items():
        lines += [f"backend {version}", *(f"  server {version}-{p} 127.0.0.1:{p} check" for p in ports)]
    return "\n".join(lines) + "\n"


@contextmanager
def caddy(folder: Path, backends: Backends) -> Iterator[Proxy]:
    """Its admin API: the upstreams of the route are replaced, for which Caddy loads the whole configuration anew."""
    port, admin, file = free_port(), free_port(), folder / "caddy.json"

    def upstreams(version: str) -> list[dict[str, str]]:
        return [{"dial": f"127.0.0.1:{port}"} for port in backends[version]]

    handler = {"handler": "reverse_proxy", "upstreams": upstreams(next(iter(backends)))}
    server = {
        "listen": [f"127.0.0.1:{port}"],
        "routes": [{"handle": [handler]}],
        "automatic_https": {"disable": True},
    }
    document = {
        "admin": {"listen": f"127.0.0.1:{admin}", "config": {"persist": False}},
        "logging": {"logs": {"default": {"level": "ERROR"}}},
        "apps": {"http": {"servers": {"ingress": server}}},
    }
    file.write_text(json.dumps(document))
    part = f"http://127.0.0.1:{admin}/config/apps/http/servers/ingress/routes/0/handle/0/upstreams"

    def switch(version: str) -> float:
        began = time.time()
        httpx2.patch(part, json=upstreams(version), trust_env=False, timeout=30).raise_for_status()
        return began

    with _running(folder, "caddy", "run", "--config", str(file)):
        wait_for(port)
        yield Proxy(port, switch)


@contextmanager
def _running(folder: Path, name: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """What it says is in `folder`, which is its HOME; it goes by a pipe to a logger, as under any supervisor."""
    found = program(name)
    with (folder / "said").open("wb") as said:
        logger = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=said, start_new_session=True)
    process = subprocess.Popen(
        [found.path, *words],
        env={**found.environment, "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=logger.stdin,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that its workers end with it
    )
    try:
        yield process
    finally:
        for each in (process, logger):
            os.killpg(each.pid, signal.SIGKILL)
            each.wait()


DRIVEN: dict[str, Driven] = {
    "Envoy by hand": envoy_by_hand,
    "HAProxy by its map": haproxy_by_map,
    "HAProxy by reload": haproxy_by_reload,
    "Caddy": caddy,
}
