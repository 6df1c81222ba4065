"""An Envoy as a process: what it is started with, and how another one takes its place without a failed request."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import httpx2

from ...domain.environment import Ingress, Tls
from ..layout import Layout
from . import envoy_files as files
from .certificate import below
from .envoy_config import clusters
from .envoy_listener import IngressFile, bootstrap, listeners, secret_file
from .envoy_routes import routes
from .listening_sockets import listening_sockets, refuse_connections, waiting

ACCEPT_SECONDS = 1.0  # for connections that wait to be accepted
QUIET_SECONDS = 3.0  # after which connections without a request are ended
TIMEOUT_SECONDS = 2.0
POLL_SECONDS = 0.05

_VERSIONS = {"rds.json": "http.ingress.rds.main", "cds.json": "cluster_manager.cds", "lds.json": "listener_manager.lds"}


def envoy_command(
    layout: Layout, binary: Path, name: str, *, ingress_port: int, stats_port: int, ingress: Ingress | None = None
) -> tuple[str, ...]:
    """Writes what the Envoy `name` reads, routes that were known before included; returns its argv.

    stats_port: where Prometheus may read its statistics. Two Envoys share ingress_port; each has its own stats_port.
    Raises PlatformError(INVALID_ARGUMENT) for a certificate that cannot be served, where there is none from before.
    """
    xds, admin = layout.xds, layout.envoy_admin(name)
    for directory in (layout.state, xds, admin.parent):
        files.private(directory)
    chosen = _ingress_file(layout.root, ingress_port, ingress or Ingress())
    if certificates := files.certificates(xds, chosen):
        certificates.refresh()
        for host, refused in certificates.refused.items():
            if not (xds / secret_file(host)).exists():
                raise refused
    files.replace(xds / "ingress.json", chosen.model_dump_json(exclude_defaults=True))
    state, ports = files.load_state(xds), files.load_ports(layout.state)
    first = {"cds.json": clusters(state.held), "rds.json": routes(state.published, ports)}
    for file, resources in first.items():
        if not (xds / file).exists():
            files.replace(xds / file, files.versioned(resources, files.new_version()))
    listening = listeners(xds, chosen, ports)
    if not files.version_of(files.read(xds / "lds.json"), listening):
        files.replace(xds / "lds.json", files.versioned(listening, files.new_version()))
    own = bootstrap(node=name, workspace=layout.id, admin=admin, xds=xds, stats_port=stats_port)
    files.replace(xds / f"{name}.json", json.dumps(own))
    # The pair together gets as many workers as there are cores. Without hot restart there is no shared memory that
    # a killed Envoy could leave behind; the other one of the pair does what hot restart would do.
    workers = max(1, min(4, (os.cpu_count() or 1) // 2))
    options = {
        "--config-path": str(xds / f"{name}.json"),
        "--concurrency": str(workers),
        "--log-level": "warning",
        "--drain-strategy": "immediate",  # connections of a listener that leaves end with their next answer
        "--file-flush-interval-msec": "1000",  # of the access log
    }
    return (str(binary), "--disable-hot-restart", *(word for option in options.items() for word in option))


def drain(admin: Path, pid: int, limit_seconds: float) -> int:
    """Lets an Envoy leave its ports without a failed request. Returns how many requests were cut at the limit.

    admin: its socket. It says `connection: close` (GOAWAY in HTTP/2) with every answer, stops listening, and what is in
    flight, WebSockets too, may end until limit_seconds are over. One that does not answer is left alone.
    """
    began = quiet = time.monotonic()
    if _ask(admin, "POST", "/drain_listeners?graceful&skip_exit") is None:
        return 0
    with listening_sockets(pid) as sockets:
        for each in sockets:
            refuse_connections(each)
        while any(map(waiting, sockets)) and time.monotonic() - began < ACCEPT_SECONDS:
            time.sleep(0.002)
        _ask(admin, "POST", "/drain_listeners")
    while True:
        active = {
            name.split("_")[1]: int(value)
            for name, value in _statistics(admin, r"^http\.ingress\.downstream_(cx|rq)_active$").items()
        }
        now = time.monotonic()
        requests = active.get("rq", 0)
        quiet = quiet if requests == 0 else now
        if not active.get("cx") or now - quiet >= QUIET_SECONDS or now - began >= limit_seconds:
            return requests
        time.sleep(POLL_SECONDS)


def follows(admin: Path, xds: Path) -> bool:
    """Whether the Envoy behind an admin socket is live and has taken the files as they are on disk."""
    if (_ask(admin, "GET", "/ready") or "").strip() != "LIVE":
        return False
    statistics = _statistics(admin, f"^({'|'.join(_VERSIONS.values())}).version_text$")
    written = {file: json.loads(files.read(xds / file))["version_info"] for file in _VERSIONS}
    taken = {file: statistics.get(f"{prefix}.version_text", "").strip('"') for file, prefix in _VERSIONS.items()}
    return taken == written


def _ingress_file(root: Path, port: int, ingress: Ingress) -> IngressFile:
    tls = ingress.tls
    if tls is not None:
        hosts = {host: below(root, pair) for host, pair in tls.hosts.items()}
        tls = Tls(port=tls.port, hosts=hosts, **below(root, tls).model_dump())
    return IngressFile(port=port, tls=tls, access_log=ingress.access_log)


def _statistics(admin: Path, pattern: str) -> dict[str, str]:
    text = _ask(admin, "GET", f"/stats?filter={pattern}") or ""
    return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)


def _ask(admin: Path, method: str, path: str) -> str | None:
    """None where it does not answer."""
    transport = httpx2.HTTPTransport(uds=str(admin), verify=False)
    try:
        with httpx2.Client(transport=transport, base_url="http://envoy", timeout=TIMEOUT_SECONDS) as client:
            response = client.request(method, path)
            return response.text if response.status_code in (200, 503) else None
    except httpx2.HTTPError:
        return None
