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

from ...domain.environment import Addresses, FlagSettings, Ingress
from ...domain.errors import ErrorCode, PlatformError
from ...domain.value import Value
from ..artifacts.build import end_builds
from ..file_lock import locked
from ..layout import ENVOYS, Layout
from ..process import Process, boot_id
from .alertmanager import alertmanager_command
from .binaries import keep
from .envoy_files import load_ports, save_ports
from .envoy_process import drain, envoy_command, follows
from .flags import UNIT as FLAGS
from .flags import claim_flag_port, flag_unit, has_flags
from .podman import unmount_below
from .port_registry import PortRegistry, bindable
from .prometheus import PrometheusConfig, prometheus_command
from .supervisor import Supervisor
from .unit import Unit

DAEMON = "daemon"
PROCESS_NOTES = ("process", "ready")  # of a unit: its process, and the one of them that was ready
ENVOY_DRAIN_SECONDS, ENVOY_START_SECONDS = 30.0, 30.0
SYSTEM_UNITS = (DAEMON, *ENVOYS, "prometheus", "alertmanager")
# What of the caller's environment the daemon needs: to find the user's directories, and the settings.
_PASSED_ON = ("HOME", "PATH", "LANG", "TMPDIR", "USER", "LOGNAME")
_PASSED_ON_PREFIXES = ("XDG_", "SANTIAGO_", "OTEL_", "GIT_AUTHOR_", "GIT_COMMITTER_")


class Ports(Value):
    """Where the platform's processes listen, on loopback. statistics: of the Envoys, by name. flags: once there are
    any; 0 in the notes of a former version."""

    server: int
    ingress: int
    prometheus: int
    alertmanager: int
    statistics: dict[str, int]
    tls: int | None = None
    flags: int = 0


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

    def up(
        self,
        addresses: Addresses,
        daemon: tuple[str, ...],
        report: Callable[[str], None],
        ingress: Ingress | None = None,
        flags: FlagSettings | None = None,
        metrics_seconds: int = 0,
    ) -> Ports:
        """Starts what does not run; instances that ran before come back. Running processes are left alone.

        An Envoy that would be started otherwise now is replaced, one after the other, without a failed request.
        daemon: its argv. Raises PlatformError: CONFLICT where a port is taken, FAILED_PRECONDITION where a binary is
        missing, INVALID_ARGUMENT where a certificate cannot be served, UNAVAILABLE where a process does not come up.
        """
        layout = self._layout
        layout.state.mkdir(mode=0o700, exist_ok=True)
        layout.state.chmod(0o700)
        with locked(layout.state):
            self._forget_former_boot()
            self._note_boot()
            return self._up(addresses, daemon, report, ingress or Ingress(), flags or FlagSettings(), metrics_seconds)

    def _up(
        self,
        addresses: Addresses,
        daemon: tuple[str, ...],
        report: Callable[[str], None],
        ingress: Ingress,
        flags: FlagSettings,
        metrics_seconds: int,
    ) -> Ports:
        layout = self._layout
        self._make_runtime()
        ports = self._claim(addresses, ingress, report)
        self._claim_service_ports(report)
        partial = layout.state / "ports.new"
        partial.write_text(ports.model_dump_json(exclude_none=True))
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
        for unit in self._units(ports, daemon, environment, metrics_seconds):
            self.supervisor.replace(unit)
        if has_flags(layout):
            self.supervisor.replace(flag_unit(layout, ports.flags, flags.origins))
        envoys = self._envoys(ports, ingress)
        changed = [unit.name for unit in envoys if self.supervisor.replace(unit, restart=False)]
        self.supervisor.start_tree()
        for name in changed:
            if self.supervisor.status(name).process is not None:
                report(f"replacing {name}: what is in flight may end, for {ENVOY_DRAIN_SECONDS:g} s at most")
                self.replace_envoy(name)
        return ports

    def replace_envoy(self, name: str, drain_seconds: float = ENVOY_DRAIN_SECONDS) -> None:
        """Starts one of the two Envoys anew, while the other one serves. Returns when it follows the routes again.

        drain_seconds: how long what is in flight to it may take, WebSockets too; then it is cut. Raises
        UNAVAILABLE where the new one does not come up; the other one goes on.
        """
        layout = self._layout
        admin, before = layout.envoy_admin(name), self.supervisor.status(name).process
        others_serve = any(follows(layout.envoy_admin(other), layout.xds) for other in ENVOYS if other != name)
        if before is not None and others_serve:
            drain(admin, before.pid, drain_seconds)
        self.supervisor.control(name, "-r")
        deadline = time.monotonic() + ENVOY_START_SECONDS
        while self.supervisor.status(name).process in (None, before) or not follows(admin, layout.xds):
            if time.monotonic() > deadline:
                raise PlatformError(
                    ErrorCode.UNAVAILABLE,
                    f"{name} does not come up again; the other Envoy serves",
                    f"its log: {layout.logs / name / 'current'}",
                )
            time.sleep(0.05)

    def _units(
        self, ports: Ports, daemon: tuple[str, ...], environment: dict[str, str], metrics_seconds: int
    ) -> list[Unit]:
        layout = self._layout
        prometheus = keep("prometheus", layout.binaries).path
        plain = self._plain_environment()
        return [
            Unit(DAEMON, daemon, layout.root, environment, stop_grace_seconds=10, back_off_seconds=1),
            Unit(
                "prometheus",
                prometheus_command(layout, prometheus, port=ports.prometheus, kept_seconds=metrics_seconds),
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

    def _envoys(self, ports: Ports, ingress: Ingress) -> list[Unit]:
        layout, units = self._layout, []
        binary = keep("envoy", layout.binaries).path
        for name in ENVOYS:
            command = envoy_command(
                layout,
                binary,
                name,
                ingress_port=ports.ingress,
                stats_port=ports.statistics[name],
                ingress=ingress,
            )
            # Beside the unit, so that it differs where what the Envoy is started with does.
            started_with = {"bootstrap.json": (layout.xds / f"{name}.json").read_text()}
            environment = self._plain_environment()
            units.append(
                Unit(
                    name,
                    command,
                    layout.xds,
                    environment,
                    stop_grace_seconds=5,
                    back_off_seconds=1,
                    extra=started_with,
                )
            )
        return units

    def _plain_environment(self) -> dict[str, str]:
        return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(self._layout.state)}

    def _claim(self, addresses: Addresses, ingress: Ingress, report: Callable[[str], None]) -> Ports:
        """Ports of this workspace. Those that people know must be free of others, and are probed before use."""
        running = self.supervisor.alive
        known = {"server": addresses.server_port, "ingress": addresses.ingress_port}
        if ingress.tls is not None:
            known["TLS"] = ingress.tls.port
        for purpose, port in known.items():
            before = self._registry.mine().get(purpose)
            self._registry.claim(purpose, port=port)
            if not running and before == port and not bindable(port):
                raise PlatformError(
                    ErrorCode.CONFLICT,
                    f"another program listens on 127.0.0.1:{port}, the {purpose} port of this workspace",
                    f"`ss -ltnp 'sport = :{port}'` names it; or choose another port in santiago.yaml",
                )
        return Ports(
            server=addresses.server_port,
            ingress=addresses.ingress_port,
            prometheus=self._any_port("prometheus", running),
            alertmanager=self._any_port("alertmanager", running),
            statistics={name: self._any_port(f"statistics of {name}", running) for name in ENVOYS},
            tls=known.get("TLS"),
            flags=claim_flag_port(self._layout, self._registry, running=running, report=report),
        )

    def _claim_service_ports(self, report: Callable[[str], None]) -> None:
        """Ports that belong to one service each stay, since its callers know them; a stranger on one is an error.

        Only what another workspace has, of which this one is a copy, is claimed anew.
        """
        owners, ports = self._registry.owners(), load_ports(self._layout.state)
        before, running = dict(ports), self.supervisor.alive
        for (service, environment), port in before.items():
            purpose = f"service {service}/{environment}"
            owner = owners.get(port, str(self._layout.root))
            if owner != str(self._layout.root):
                ports[service, environment] = self._registry.claim(purpose)
                report(f"{purpose} is on port {ports[service, environment]} now, since {owner} has {port}:")
                report("  deploy again what calls it, which goes to the other workspace until then")
            elif not running and not bindable(port):
                raise PlatformError(
                    ErrorCode.CONFLICT,
                    f"another program listens on 127.0.0.1:{port}, by which others call {service} in {environment}",
                    f"`ss -ltnp 'sport = :{port}'` names it; end it",
                )
            elif not running:
                self._registry.claim(purpose, port=port)
        if ports != before:
            save_ports(self._layout.state, ports)

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
                "look who made it, and remove it: `ls -ld` shows its owner",
            )

    def _forget_former_boot(self) -> None:
        """Processes that were noted before the machine was restarted are gone: what has their pids now is a stranger.

        Before anything else reads the notes. Those of a version that kept no boot id are taken for this boot's.
        """
        boot = self._boot.read_text() if self._boot.exists() else boot_id()
        if boot == boot_id():
            return
        (self._layout.state / "svscan").unlink(missing_ok=True)
        for unit in self.supervisor.names():
            for note in PROCESS_NOTES:
                (self.supervisor.directory(unit) / note).unlink(missing_ok=True)

    def _note_boot(self) -> None:
        if not self._boot.exists() or self._boot.read_text() != boot_id():
            partial = self._boot.with_suffix(".new")
            partial.write_text(boot_id())
            partial.rename(self._boot)

    @property
    def _boot(self) -> Path:
        return self._layout.state / "boot"

    def down(self, timeout_seconds: float = 30.0) -> list[Process]:
        """Ends everything that `up` started, gracefully, and nothing else. Returns what had to be killed.

        timeout_seconds: after which the rest is killed.
        """
        if not self._layout.state.is_dir():
            return []
        with locked(self._layout.state):
            self._forget_former_boot()
            killed = self.supervisor.stop_tree(timeout_seconds)
            end_builds(self._layout.builds)
            unmount_below(self._layout.state)
            (self._layout.state / "svscan").unlink(missing_ok=True)
            shutil.rmtree(self._layout.runtime, ignore_errors=True)
            return killed

    def units(self) -> list[UnitView]:
        views = []
        served = (FLAGS,) if self.supervisor.directory(FLAGS).exists() else ()
        for name in (*SYSTEM_UNITS, *served):
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
