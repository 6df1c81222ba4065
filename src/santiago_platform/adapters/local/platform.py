"""The platform's own processes on this machine: which units there are, on which ports, started and ended together."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...domain.environment import Addresses
from ...domain.errors import ErrorCode, PlatformError
from ...domain.value import Value
from ..artifacts.build import end_builds
from ..file_lock import locked
from ..layout import ENVOYS, Layout
from ..process import Process
from .alertmanager import alertmanager_command
from .binaries import keep
from .envoy import envoy_command
from .port_registry import PortRegistry, bindable
from .prometheus import PrometheusConfig, prometheus_command
from .supervisor import Supervisor
from .unit import Unit

DAEMON = "daemon"
SYSTEM_UNITS = (DAEMON, *ENVOYS, "prometheus", "alertmanager")
# What of the caller's environment the daemon needs: to find the user's directories, and the settings.
_PASSED_ON = ("HOME", "PATH", "LANG", "TMPDIR", "USER", "LOGNAME")
_PASSED_ON_PREFIXES = ("XDG_", "SANTIAGO_", "GIT_AUTHOR_", "GIT_COMMITTER_")


class Ports(Value):
    """Where the platform's processes listen, on loopback. statistics: of the Envoys, by name."""

    server: int
    ingress: int
    prometheus: int
    alertmanager: int
    statistics: dict[str, int]


@dataclass(frozen=True, slots=True)
class UnitView:
    """A process of the platform itself, as `santiago status` shows it."""

    name: str
    pid: int
    restarts: int


class LocalPlatform:
    """Starts and ends everything of one workspace. Blocking; used by the command line, not by the daemon."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.supervisor = Supervisor(layout)
        self._registry = PortRegistry(layout.root)

    def up(self, addresses: Addresses, daemon: tuple[str, ...], report: Callable[[str], None]) -> Ports:
        """Starts what does not run; instances that ran before come back. Running processes are left alone.

        daemon: its argv. Raises PlatformError: CONFLICT where a port is taken, FAILED_PRECONDITION where a binary is
        missing, UNAVAILABLE where a process does not come up.
        """
        layout = self._layout
        layout.state.mkdir(mode=0o700, exist_ok=True)
        layout.state.chmod(0o700)
        with locked(layout.state):
            return self._up(addresses, daemon, report)

    def _up(self, addresses: Addresses, daemon: tuple[str, ...], report: Callable[[str], None]) -> Ports:
        layout = self._layout
        self._make_runtime()
        ports = self._claim(addresses)
        partial = layout.state / "ports.new"
        partial.write_text(ports.model_dump_json())
        partial.rename(layout.state / "ports.json")
        environment = {
            name: value
            for name, value in os.environ.items()
            if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
        }
        config = PrometheusConfig(
            layout, envoy_ports=ports.statistics, daemon_port=ports.server, alertmanager_port=ports.alertmanager
        )
        if not config.file.exists():
            config.write()
        report("starting s6, two Envoys, Prometheus, Alertmanager and the daemon")
        for directory in (layout.scan, layout.units, layout.logs):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for unit in self._units(ports, daemon, environment):
            self.supervisor.replace(unit)
        self.supervisor.start_tree()
        return ports

    def _units(self, ports: Ports, daemon: tuple[str, ...], environment: dict[str, str]) -> list[Unit]:
        layout = self._layout
        plain = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(layout.state)}
        units = [
            Unit(DAEMON, daemon, layout.root, environment, stop_grace_seconds=10, back_off_seconds=1),
            Unit(
                "prometheus",
                prometheus_command(layout, keep("prometheus", layout.binaries).path, port=ports.prometheus),
                layout.prometheus,
                plain,
            ),
            Unit(
                "alertmanager",
                alertmanager_command(
                    layout,
                    keep("alertmanager", layout.binaries, layout.alertmanager).path,
                    port=ports.alertmanager,
                    daemon_port=ports.server,
                ),
                layout.alertmanager,
                plain,
            ),
        ]
        envoy = keep("envoy", layout.binaries).path
        for name in ENVOYS:
            command = envoy_command(layout, envoy, name, ingress_port=ports.ingress, stats_port=ports.statistics[name])
            units.append(Unit(name, command, layout.xds, plain, stop_grace_seconds=5, back_off_seconds=1))
        return units

    def _claim(self, addresses: Addresses) -> Ports:
        """Ports of this workspace. The two that people know must be free of others, and are probed before use."""
        running = self.supervisor.alive
        for purpose, port in (("server", addresses.server_port), ("ingress", addresses.ingress_port)):
            before = self._registry.mine().get(purpose)
            self._registry.claim(purpose, port=port)
            if not running and before == port and not bindable(port):
                raise PlatformError(
                    ErrorCode.CONFLICT,
                    f"another program listens on 127.0.0.1:{port}, the {purpose} port of this workspace",
                    f"`ss -ltnp 'sport = :{port}'` names it; or choose another port under `addresses` in santiago.yaml",
                )
        return Ports(
            server=addresses.server_port,
            ingress=addresses.ingress_port,
            prometheus=self._any_port("prometheus", running),
            alertmanager=self._any_port("alertmanager", running),
            statistics={name: self._any_port(f"statistics of {name}", running) for name in ENVOYS},
        )

    def _any_port(self, purpose: str, running: bool) -> int:
        """The same as before, unless another program has taken it meanwhile."""
        port = self._registry.claim(purpose)
        if running or bindable(port):
            return port
        self._registry.release(purpose)
        return self._registry.claim(purpose)

    def _make_runtime(self) -> None:
        """The sockets' directory lies where others may write too: one that is not ours alone is refused."""
        runtime = self._layout.runtime
        with suppress(FileExistsError):
            runtime.mkdir(mode=0o700)
        status = runtime.lstat()
        if status.st_uid != os.getuid() or status.st_mode & 0o077 or not stat.S_ISDIR(status.st_mode):
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                f"{runtime} is not private to this user",
                "remove it, or set XDG_RUNTIME_DIR to a directory of your own",
            )

    def down(self, timeout_seconds: float = 30.0) -> list[Process]:
        """Ends everything that `up` started, gracefully, and nothing else. Returns what had to be killed.

        timeout_seconds: after which the rest is killed.
        """
        if not self._layout.state.is_dir():
            return []
        with locked(self._layout.state):
            killed = self.supervisor.stop_tree(timeout_seconds)
            end_builds(self._layout.builds)
            (self._layout.state / "svscan").unlink(missing_ok=True)
            shutil.rmtree(self._layout.runtime, ignore_errors=True)
            return killed

    def units(self) -> list[UnitView]:
        views = []
        for name in SYSTEM_UNITS:
            status = self.supervisor.status(name)
            pid = status.process.pid if status.process else 0
            views.append(UnitView(name=name, pid=pid, restarts=len(status.deaths)))
        return views

    def wait_ready(self, answers: Callable[[], bool], timeout_seconds: float = 30.0) -> None:
        """Returns once `answers` says so. Raises UNAVAILABLE with the daemon's last words after the time-out."""
        deadline = time.monotonic() + timeout_seconds
        while not answers():
            if time.monotonic() > deadline:
                log = self._layout.logs / DAEMON / "current"
                words = log.read_text(errors="replace")[-1500:] if log.exists() else "it has said nothing"
                raise PlatformError(
                    ErrorCode.UNAVAILABLE, f"the daemon is not ready: {words}", f"its log: {log}; `santiago doctor`"
                )
            time.sleep(0.02)


def known_ports(layout: Layout) -> Ports | None:
    """The ports of the last start; None where the platform never ran."""
    path: Path = layout.state / "ports.json"
    return Ports.model_validate_json(path.read_text()) if path.exists() else None
