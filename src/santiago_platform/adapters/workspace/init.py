"""Makes a workspace: settings, one small service that really runs, and a git repository with a first commit."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from ...domain.errors import ErrorCode, PlatformError
from ..git import Git, GitError

_SANTIAGO = """\
# What the platform runs, and where. Every key here has a default; unknown keys are refused.
version: 1
tenant: default

environments:
  staging:
    defaults:
      replicas: 1
      strategy: rolling          # blue_green, rolling or recreate
  production:
    defaults:
      replicas: 2
      strategy: blue_green
      rollback_window_seconds: 600   # how long the previous version is kept warm
      ready_timeout_seconds: 60      # a version that is not ready by then is taken back
      drain_timeout_seconds: 30      # how long requests in flight may take to end
      stop_grace_seconds: 10         # between SIGTERM and SIGKILL
    services:
      hello:
        variables:
          GREETING: Hello from production

releases:                        # what is kept; never less than what is deployed
  keep: 10
  keep_days: 30

addresses:                       # on 127.0.0.1 alone
  server_port: 8700
  ingress_port: 8780
"""

_SCORE = """\
# The workload, as Score v1b1: https://docs.score.dev
apiVersion: score.dev/v1b1
metadata:
  name: hello
service:
  ports:
    http:
      port: 80
      targetPort: 8080           # each instance gets a free port in its place, in PORT
containers:
  main:
    image: .                     # the release that build.yaml makes
    command: ["python3", "server.py"]
    variables:
      GREETING: Hello            # santiago.yaml may say otherwise for an environment
      VERSION: "1"
    readinessProbe:
      httpGet:
        path: /healthz
        port: 8080
    livenessProbe:
      httpGet:
        path: /healthz
        port: 8080
    resources:
      limits:
        memory: 128Mi
        cpu: 500m
"""

_SLO = """\
# What hello aims for, as OpenSLO v1. The ingress counts: no instrumentation is needed. docs/guides/slos.md says more.
apiVersion: openslo/v1
kind: SLO
metadata:
  name: availability
  displayName: Answers without 5xx
  labels:
    environment: production
spec:
  service: hello
  indicatorRef: availability
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{target: 0.99}]
---
apiVersion: openslo/v1
kind: SLO
metadata:
  name: latency
  displayName: Answers within 250 ms
  labels:
    environment: production
spec:
  service: hello
  indicatorRef: latency-250ms
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{target: 0.95}]
"""

_PLATFORM_SLO = """\
# What the platform itself aims for, from its own /metrics.
apiVersion: openslo/v1
kind: SLO
metadata: {name: availability, displayName: The server answers}
spec:
  service: santiago
  indicator:
    spec:
      thresholdMetric: {metricSource: {type: Prometheus, spec: {query: 'up{job="daemon"}'}}}
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{op: gte, value: 1, target: 0.99}]
---
apiVersion: openslo/v1
kind: SLO
# But for manage_operation, which waits for as long as it is asked to.
metadata: {name: latency, displayName: Tool calls within 500 ms}
spec:
  service: santiago
  indicator:
    spec:
      ratioMetric:
        counter: true
        good:
          metricSource:
            type: Prometheus
            spec: {query: 'santiago_tool_call_seconds_bucket{le="0.5",tool!="manage_operation"}'}
        total:
          metricSource:
            type: Prometheus
            spec: {query: 'santiago_tool_call_seconds_count{tool!="manage_operation"}'}
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{target: 0.95}]
---
apiVersion: openslo/v1
kind: SLO
metadata: {name: throughput, displayName: No call is turned away for want of capacity}
spec:
  service: santiago
  indicator:
    spec:
      ratioMetric:
        counter: true
        bad:
          metricSource:
            type: Prometheus
            spec: {query: 'santiago_tool_calls_total{outcome="resource_exhausted"}'}
        total: {metricSource: {type: Prometheus, spec: {query: santiago_tool_calls_total}}}
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{target: 0.99}]
---
apiVersion: openslo/v1
kind: SLO
metadata: {name: errors, displayName: Tool calls that the platform does not fail}
spec:
  service: santiago
  indicator:
    spec:
      ratioMetric:
        counter: true
        bad:
          metricSource:
            type: Prometheus
            spec: {query: 'santiago_tool_calls_total{outcome=~"internal|unavailable|deadline_exceeded|data_corrupt"}'}
        total: {metricSource: {type: Prometheus, spec: {query: santiago_tool_calls_total}}}
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{target: 0.99}]
"""

_BUILD = """\
# How a release is built from a commit. Without a command the committed files are the release.
# command: ["make", "dist"]
# outputs: ["dist/*"]
outputs: ["server.py"]
"""

_SERVER = '''\
"""A small HTTP service: `/` greets, `/healthz` says that it is well, and each request is one JSON line on stdout."""

import json
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = os.environ.get("VERSION", "unknown")
GREETING = os.environ.get("GREETING", "Hello")

stopping = threading.Event()
changed = threading.Condition()
in_flight = 0


def log(level, message, **fields):
    print(json.dumps({"time": time.time(), "level": level, "message": message, **fields}), flush=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # header and body in one packet

    def do_GET(self):
        global in_flight
        with changed:
            in_flight += 1
        try:
            self.answer()
        finally:
            with changed:
                in_flight -= 1
                changed.notify_all()

    def answer(self):
        status, body = {
            "/": (200, {"greeting": GREETING, "version": VERSION}),
            "/healthz": (200, {"status": "ok"}),
        }.get(self.path.partition("?")[0], (404, {"error": "not found"}))
        content = json.dumps(body).encode() + b"\\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if stopping.is_set():
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_request(self, code="-", size="-"):
        if self.path != "/healthz":
            log("info", "request", path=self.path, status=int(code), request_id=self.headers.get("x-request-id", ""))

    def log_message(self, format, *args):
        log("warning", format % args)


class Server(ThreadingHTTPServer):
    daemon_threads = True  # idle connections do not hold up the end; requests in flight do, see main
    request_queue_size = 128


def main():
    server = Server((os.environ.get("HOST", "127.0.0.1"), int(os.environ["PORT"])), Handler)

    def stop(*_):
        stopping.set()
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    log("info", "started", version=VERSION, port=server.server_port)
    server.serve_forever(poll_interval=0.1)
    with changed:
        changed.wait_for(lambda: in_flight == 0, timeout=8)
    log("info", "stopped", version=VERSION)


if __name__ == "__main__":
    main()
'''

_ARCHITECTURE = """\
# Architecture

What the Architect writes here is joined by `read_architecture` with the services' definitions and the live state.

## hello

Answers `GET /` with a greeting and its version. Keeps no state. Depends on nothing.
"""

FILES = {
    "santiago.yaml": _SANTIAGO,
    "services/hello/score.yaml": _SCORE,
    "services/hello/build.yaml": _BUILD,
    "services/hello/slo.yaml": _SLO,
    "slo.yaml": _PLATFORM_SLO,
    "services/hello/server.py": _SERVER,
    "docs/architecture/README.md": _ARCHITECTURE,
    "ships-logs/platform/.gitkeep": "",
    ".gitignore": ".santiago/\n",
}


_AUTHOR = ["-c", "user.name=Santiago", "-c", "user.email=santiago@localhost"]


@dataclass(frozen=True, slots=True)
class Initialised:
    """Paths relative to the root. kept: there was a file already, and it is as it was. commit: the first one, empty
    where there was a repository before."""

    written: tuple[str, ...]
    kept: tuple[str, ...]
    commit: str = ""


async def init_workspace(root: Path) -> Initialised:
    """Makes what is missing of a workspace in `root`, which is made too. Overwrites nothing.

    Raises PlatformError: FAILED_PRECONDITION where git is missing or refuses, INVALID_ARGUMENT where `root` or a
    folder of it is a file or cannot be written.
    """
    try:
        written = await asyncio.to_thread(_write, root)
    except OSError as exc:
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT,
            f"{exc.filename or root} cannot be made: {exc.strerror}",
            "choose a new or empty folder that you may write to",
        ) from exc
    kept = tuple(path for path in FILES if path not in written)
    git = Git(root)
    try:
        await git.run("rev-parse", "--git-dir")
    except GitError:
        return Initialised(written, kept, await _first_commit(git, written))
    return Initialised(written, kept)


def _write(root: Path) -> tuple[str, ...]:
    written = []
    root.mkdir(parents=True, exist_ok=True)
    for relative, text in FILES.items():
        path = root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("x") as file:
                file.write(text)
        except FileExistsError:
            continue
        written.append(relative)
    return tuple(written)


async def _first_commit(git: Git, paths: tuple[str, ...]) -> str:
    try:
        await git.run("init", "--quiet", "--initial-branch=main")
        identity = (
            [] if await _knows_author(git) else ["-c", "user.name=Santiago", "-c", "user.email=santiago@localhost"]
        )
        await git.run("add", "--force", "--", *paths)
        await git.run(*identity, "commit", "--quiet", "--no-gpg-sign", "--message", "A workspace, by santiago init")
        return await git.resolve("HEAD")
    except GitError as exc:
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION, f"git could not make the first commit: {exc}", "make it by hand"
        ) from exc


async def _knows_author(git: Git) -> bool:
    try:
        await git.run("config", "user.name")
        await git.run("config", "user.email")
    except GitError:
        return False
    return True
