"""The service of tiny_server.py: started by hand, or added to a workspace."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from santiago_platform.testing.running_platform import RunningPlatform

SERVER = Path(__file__).with_name("tiny_server.py")


def add_tiny(platform: RunningPlatform, name: str, *, limits: bool) -> None:
    """Into the workspace, with the probes of `hello` and, if asked for, its limits; not committed yet."""
    folder = platform.root / "services" / name
    shutil.copytree(platform.root / "services/hello", folder)
    score = folder / "score.yaml"
    text = re.sub(r"^  name: hello$", f"  name: {name}", score.read_text(), flags=re.MULTILINE)
    score.write_text(text if limits else text.partition("    resources:")[0])
    shutil.copy(SERVER, folder / "server.py")


@contextmanager
def started(versions: Sequence[str], replicas: int) -> Iterator[Mapping[str, Sequence[int]]]:
    """Ports of the instances that answer, by version."""
    ports = {version: [free_port() for _ in range(replicas)] for version in versions}
    processes = [
        subprocess.Popen(
            ["python3", str(SERVER)],
            env={"PATH": os.environ["PATH"], "PORT": str(port), "VERSION": version},
            stdin=subprocess.DEVNULL,
        )
        for version in versions
        for port in ports[version]
    ]
    try:
        for each in ports.values():
            for port in each:
                wait_for(port)
        yield ports
    finally:
        for process in processes:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    """Until something listens. Raises TimeoutError."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.005)
    raise TimeoutError(f"nothing listens on port {port}")
