"""Two real Envoys on one port, for tests: started, killed, frozen and started again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx2

from ..adapters.layout import ENVOYS, WORKSPACE_VARIABLE, Layout
from ..adapters.local.envoy import envoy_command


class EnvoyPair:
    """ingress_port: of both. stats_ports: by name."""

    def __init__(self, layout: Layout, binary: Path, free_port: Callable[[], int]) -> None:
        self.layout = layout
        self.ingress_port = free_port()
        self.stats_ports = {name: free_port() for name in ENVOYS}
        self._binary = binary
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *names: str) -> None:
        """Returns when they answer."""
        for name in names or ENVOYS:
            command = envoy_command(
                self.layout,
                self._binary,
                name,
                ingress_port=self.ingress_port,
                stats_port=self.stats_ports[name],
            )
            environment = {**os.environ, WORKSPACE_VARIABLE: self.layout.id}
            self._processes[name] = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        for name in names or ENVOYS:
            self._wait(name)

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
        transport = httpx2.HTTPTransport(uds=str(self.layout.envoy_admin(name)), verify=False)
        deadline = time.monotonic() + seconds
        with httpx2.Client(transport=transport) as client:
            while True:
                try:
                    if client.get("http://envoy/ready").text.strip() == "LIVE":
                        return
                except httpx2.HTTPError:
                    pass
                assert time.monotonic() < deadline, f"{name} is not ready after {seconds} s"
                assert self._processes[name].poll() is None, f"{name} has ended"
                time.sleep(0.02)
