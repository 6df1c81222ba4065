"""Load by wrk, which takes so little that the proxies are what is measured: one thread, kept connections, no pause."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .programs import program

SCRIPT = Path(__file__).with_suffix(".lua")
LONGEST_SECONDS = 120


@dataclass(frozen=True)
class Answers:
    """Of one version. first, last: epoch seconds."""

    count: int
    first: float
    last: float


@dataclass(frozen=True)
class Measured:
    """milliseconds: p50, p95 and p99. errors: failed requests by kind (connect, read, write, status, timeout).
    versions: empty where they were not asked for."""

    requests: int
    seconds: float
    milliseconds: tuple[float, float, float]
    errors: dict[str, int]
    versions: dict[str, Answers]

    @property
    def failed(self) -> int:
        return sum(self.errors.values())

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def measure(port: int, *, host: str, connections: int, seconds: float) -> Measured:
    """Raises RuntimeError where a request failed."""
    done = subprocess.run(
        **_process(port, host, connections, seconds), stderr=subprocess.PIPE, check=False, timeout=seconds + 30
    )
    measured = _measured(done.stderr)
    if measured.failed:
        raise RuntimeError(f"requests failed: {measured.errors}")
    return measured


@contextmanager
def loaded(port: int, *, host: str, connections: int) -> Iterator[Callable[[], Measured]]:
    """Load until the function that this yields is called; versions are told apart."""
    asked = _process(port, host, connections, LONGEST_SECONDS, "versions")
    with subprocess.Popen(**asked, stderr=subprocess.PIPE) as wrk:

        def end() -> Measured:
            wrk.send_signal(signal.SIGINT)
            return _measured(wrk.communicate(timeout=30)[1])

        try:
            yield end
        finally:
            wrk.kill()


def _process(port: int, host: str, connections: int, seconds: float, *words: str) -> dict[str, Any]:
    wrk = program("wrk")
    options = ["--threads", "1", "--connections", str(connections), "--duration", f"{seconds:.0f}s"]
    script = ["--script", str(SCRIPT), "--header", f"Host: {host}"]
    return {
        "args": [wrk.path, *options, *script, f"http://127.0.0.1:{port}/", "--", *words],
        "env": dict(wrk.environment),
        "stdout": subprocess.DEVNULL,
        "text": True,
    }


def _measured(said: str) -> Measured:
    try:
        found = json.loads(said)
    except ValueError as exc:
        raise RuntimeError(f"wrk says: {said.strip() or 'nothing'}") from exc
    versions = {version: Answers(*row) for version, row in found.pop("versions").items()}
    return Measured(**found, versions=versions)
