"""What is broken on purpose: kinds of faults, each at random and as its seed says, and what each may cost."""

from __future__ import annotations

import errno
import os
import random
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..adapters.layout import ENVOYS
from ..adapters.local.platform import DAEMON, SYSTEM_UNITS
from ..adapters.local.port_registry import PortRegistry
from .running_platform import RunningPlatform

HOUR_SECONDS = 3600.0
PATIENCE_SECONDS = 10.0  # for something to happen that a fault waits for


class Machine:
    """What there is to break. rng: of the round, so that a seed breaks the same things."""

    def __init__(self, platform: RunningPlatform, rng: random.Random) -> None:
        self.layout = platform.layout
        self.ingress_port = platform.ingress_port
        self.rng = rng
        self._supervisor = platform.platform.supervisor
        self._registry = PortRegistry(platform.root)

    def pid(self, unit: str) -> int:
        """0 where it does not run."""
        process = self._supervisor.status(unit).process
        return process.pid if process else 0

    def svscan(self) -> int:
        process = self._supervisor.running
        return process.pid if process else 0

    def instances(self) -> list[str]:
        return [name for name in self._supervisor.names() if "__" in name]

    def some_unit(self) -> str:
        return self.rng.choice([*SYSTEM_UNITS, *self.instances()])

    def some_instance(self) -> str:
        return self.rng.choice(self.instances() or [DAEMON])

    def supervisor_of(self, unit: str) -> int:
        return _parent(self.pid(unit))

    def logger_of(self, unit: str) -> int:
        wanted = str(self.layout.logs / unit).encode()
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if words[0].endswith(b"s6-log") and wanted in words:
                    return int(entry.name)
        return 0

    def port_of(self, unit: str) -> int:
        """The port that an instance listens on; 0 where it has none."""
        claims = self._registry.mine().items()
        return next((port for purpose, port in claims if purpose.startswith(f"{unit}:")), 0)

    def ports_of_instances(self) -> set[int]:
        return {port for purpose, port in self._registry.mine().items() if "__" in purpose}


@dataclass(frozen=True)
class Fault:
    """do: blocks until it is over. may_fail: how many requests a connection may lose; None: no answer is promised.

    may_lose: whether the database may be set back. needs_disk: whether the workspace must have a disk of its own.
    """

    name: str
    do: Callable[[Machine], None]
    may_fail: int | None = 0
    may_lose: bool = False
    needs_disk: bool = False


def kill(*units: str) -> Callable[[Machine], None]:
    def do(machine: Machine) -> None:
        for unit in units:
            send(machine.pid(unit), signal.SIGKILL)

    return do


def pause(pid: int, seconds: float) -> None:
    """Stops a process, which then goes on; one that was killed meanwhile is let alone."""
    send(pid, signal.SIGSTOP)
    time.sleep(seconds)
    send(pid, signal.SIGCONT)


def kill_twice(machine: Machine) -> None:
    before = machine.pid(DAEMON)
    send(before, signal.SIGKILL)
    _until(lambda: machine.pid(DAEMON) not in (0, before))
    send(machine.pid(DAEMON), signal.SIGKILL)


def corrupt_xds(machine: Machine) -> None:
    """As an editor would that writes half a file in place of the whole, or something else, or removes it."""
    path = machine.layout.xds / machine.rng.choice(["rds.json", "cds.json", "lds.json"])
    how, text = machine.rng.choice(["torn", "empty", "garbage", "removed"]), path.read_text()
    contents = {
        "torn": text[: machine.rng.randrange(1, len(text))].encode(),
        "empty": b"",
        "garbage": machine.rng.randbytes(200),
    }
    if how == "removed":
        path.unlink()
        return
    partial = path.with_suffix(".broken")
    partial.write_bytes(contents[how])
    partial.rename(path)


def cut_ahead_log(machine: Machine) -> None:
    """The database's write-ahead log ends anywhere, as after a lost write, while its daemon is dead."""
    send(machine.pid(DAEMON), signal.SIGKILL)
    path = machine.layout.database.with_name(f"{machine.layout.database.name}-wal")
    with suppress(FileNotFoundError):
        os.truncate(path, machine.rng.randrange(path.stat().st_size + 1))


def fill_disk(machine: Machine) -> None:
    """Until nothing can be written, and half the time something dies then."""
    filler = machine.layout.root / "filler"
    try:
        with filler.open("wb") as file, suppress(OSError):
            while True:
                file.write(b"\0" * (1 << 20))
                file.flush()
        if machine.rng.random() < 0.5:
            send(machine.pid(machine.some_unit()), signal.SIGKILL)
        time.sleep(machine.rng.uniform(0.5, 5))
    finally:
        filler.unlink(missing_ok=True)


def jump_clock(machine: Machine) -> None:
    """By days forward, or back by an hour. It stays so: the next jump begins from there."""
    path = clock_file(machine.layout.state)
    before = float(path.read_text()) if path.exists() else 0.0
    by = machine.rng.choice([machine.rng.uniform(24, 240) * HOUR_SECONDS, -HOUR_SECONDS])
    partial = path.with_suffix(".new")
    partial.write_text(str(before + by))
    partial.rename(path)


def clock_file(state: Path) -> Path:
    """By how many seconds the wall clock of a daemon that heeds this file is off."""
    return state / "clock-offset"


def steal_port(machine: Machine) -> None:
    """Another program takes the port of a killed instance before that is back, and answers nobody on it."""
    unit = machine.some_instance()
    port = machine.port_of(unit)
    send(machine.pid(unit), signal.SIGKILL)
    if port:
        _hold(port, machine.rng.uniform(0.5, 4))


def steal_next_port(machine: Machine) -> None:
    """Another program takes the port of an instance between its claim and its start."""
    known = machine.ports_of_instances()
    _until(lambda: machine.ports_of_instances() > known, seconds=2)
    for port in sorted(machine.ports_of_instances() - known)[:1]:
        _hold(port, machine.rng.uniform(0.5, 4))


def steal_ingress(machine: Machine) -> None:
    """Another program takes the port of the ingress while both Envoys are dead."""
    for name in ENVOYS:
        send(machine.pid(name), signal.SIGKILL)
    _hold(machine.ingress_port, machine.rng.uniform(0.5, 4))


def _hold(port: int, seconds: float) -> None:
    """Listens on a port as soon as nobody else does, and accepts nothing. Gives up where somebody else is faster."""
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        with socket.socket() as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                thief.bind(("127.0.0.1", port))
                thief.listen()
            except OSError as exc:
                if exc.errno != errno.EADDRINUSE:
                    raise
                time.sleep(0.001)
                continue
            time.sleep(seconds)
            return


def send(pid: int, number: signal.Signals) -> None:
    if pid > 1:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _until(accept: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not accept() and time.monotonic() < deadline:
        time.sleep(0.005)


def _killing(find: Callable[[Machine], int]) -> Callable[[Machine], None]:
    return lambda machine: send(find(machine), signal.SIGKILL)


def _pausing(find: Callable[[Machine], int], longest_seconds: float = 3) -> Callable[[Machine], None]:
    return lambda machine: pause(find(machine), machine.rng.uniform(0.2, longest_seconds))


def _some_envoy(machine: Machine) -> int:
    return machine.pid(machine.rng.choice(ENVOYS))


# One request a connection may be in flight at an Envoy that is killed, and handed to one that is paused.
FAULTS = (
    Fault("nothing", lambda machine: None),
    Fault("kill -9 the daemon", kill(DAEMON)),
    Fault("kill -9 the daemon twice", kill_twice),
    Fault("kill -9 an instance", _killing(lambda m: m.pid(m.some_instance()))),
    Fault("kill -9 envoy-a", kill("envoy-a"), may_fail=1),
    Fault("kill -9 envoy-b", kill("envoy-b"), may_fail=1),
    Fault("kill -9 both Envoys", kill(*ENVOYS), may_fail=None),
    Fault("kill -9 Prometheus", kill("prometheus")),
    Fault("kill -9 Alertmanager", kill("alertmanager")),
    Fault("kill -9 s6-svscan", _killing(Machine.svscan)),
    Fault("kill -9 the s6-supervise of a unit", _killing(lambda m: m.supervisor_of(m.some_unit())), may_fail=1),
    Fault("kill -9 the s6-supervise of an instance", _killing(lambda m: m.supervisor_of(m.some_instance()))),
    Fault("kill -9 a logger", _killing(lambda m: m.logger_of(m.some_unit()))),
    Fault("pause the daemon", _pausing(lambda m: m.pid(DAEMON))),
    Fault("pause an instance", _pausing(lambda m: m.pid(m.some_instance()))),
    Fault("pause an Envoy", _pausing(_some_envoy, 8), may_fail=1),
    Fault("pause Prometheus", _pausing(lambda m: m.pid("prometheus"))),
    Fault("pause Alertmanager", _pausing(lambda m: m.pid("alertmanager"))),
    Fault("pause s6-svscan", _pausing(Machine.svscan)),
    Fault("pause an s6-supervise", _pausing(lambda m: m.supervisor_of(m.some_unit()))),
    Fault("pause a logger", _pausing(lambda m: m.logger_of(m.some_unit()))),
    Fault("a corrupt xDS file", corrupt_xds),
    Fault("a write-ahead log that is cut off", cut_ahead_log, may_lose=True),
    Fault("a full disk", fill_disk, may_fail=1, needs_disk=True),
    Fault("a jump of the clock", jump_clock),
    Fault("a stolen port of an instance", steal_port),
    Fault("a stolen port of a new instance", steal_next_port),
    Fault("a stolen port of the ingress", steal_ingress, may_fail=None),
)
