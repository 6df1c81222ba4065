"""Two real Envoys on one port, for tests: started, killed, frozen and started again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from ..adapters.layout import ENVOYS, WORKSPACE_VARIABLE, Layout
from ..adapters.local.envoy_process import envoy_command, follows
from ..domain.environment import Ingress


class EnvoyPair:
    """ingress_port: of both. stats_ports: by name. ingress: as santiago.yaml would set it up; counts at a start."""

    def __init__(self, layout: Layout, binary: Path, free_port: Callable[[], int]) -> None:
        self.layout = layout
        self.ingress_port = free_port()
        self.stats_ports = {name: free_port() for name in ENVOYS}
        self.ingress = Ingress()
        self._binary = binary
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *names: str) -> None:
        """Returns when they answer."""
        for name in names or ENVOYS:
            command = self.command(name)
            environment = {**os.environ, WORKSPACE_VARIABLE: self.layout.id}
            with self.log(name).open("ab") as log:
                self._processes[name] = subprocess.Popen(
                    command, env=environment, stdout=log, stderr=subprocess.DEVNULL
                )
        for name in names or ENVOYS:
            self._wait(name)

    def command(self, name: str) -> tuple[str, ...]:
        """Writes what the Envoy reads, as `up` does."""
        return envoy_command(
            self.layout,
            self._binary,
            name,
            ingress_port=self.ingress_port,
            stats_port=self.stats_ports[name],
            ingress=self.ingress,
        )

    def log(self, name: str) -> Path:
        """What it wrote to stdout: the access log."""
        return self.layout.root / f"{name}.log"

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def kill(self, name: str) -> None:
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def freeze(self, name: str) -> None:
        self._processes[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        self._processes[name].send_signal(signal.SIGCONT)

    def stop(self) -> None:
        for name in list(self._processes):
            self.kill(name)
        shutil.rmtree(self.layout.runtime, ignore_errors=True)

    def _wait(self, name: str, seconds: float = 15.0) -> None:
        deadline = time.monotonic() + seconds
        while not follows(self.layout.envoy_admin(name), self.layout.xds):
            assert time.monotonic() < deadline, f"{name} is not ready after {seconds} s"
            assert self._processes[name].poll() is None, f"{name} has ended"
            time.sleep(0.02)
