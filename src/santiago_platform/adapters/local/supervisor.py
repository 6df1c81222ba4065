"""s6 on this machine: service directories that are written whole, linked into the scan directory, and followed.

What a unit does is read from files that its own launcher writes and from /proc, never from s6's private formats.
Everything here is idempotent and blocking (a few milliseconds); asynchronous callers use threads.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from ...domain.errors import ErrorCode, PlatformError
from ..file_lock import locked_if_free
from ..layout import WORKSPACE_VARIABLE, Layout
from ..process import Process, processes_of, recorded, started_ticks
from .binaries import Binary, keep
from .unit import Unit, UnitStatus

RESCAN_MILLISECONDS = 5000  # mends a scan that a crash left out
LATE_SECONDS = 3.0  # after which a removal no longer waits for what should happen by itself
EXIT_SECONDS, KILL_SECONDS = 0.5, 5.0  # what is left may end by itself; a killed process is waited for
TICK_NANOSECONDS = 100_000_000  # longer than between two ticks of any kernel's clock
STOP_SENT, UNLINKED = "stop sent", "unlinked"


class Supervisor:
    """The supervision tree of one workspace."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._units, self._scan = layout.units, layout.scan
        self._tools: dict[str, Binary] = {}
        self._statuses: dict[str, tuple[int, UnitStatus]] = {}

    # --- the tree -------------------------------------------------------------------------------------------

    @property
    def running(self) -> Process | None:
        """The s6-svscan of this workspace, if it lives; also where a crash kept it from being recorded."""
        found = recorded(self._layout.state / "svscan")
        return found if found and found.alive else next(processes_of(self._layout.id, "s6-svscan"), None)

    @property
    def alive(self) -> bool:
        """Whether anything is supervised: s6-svscan lives, or supervisors that have outlived a killed one."""
        return self.running is not None or any(map(self._supervised, map(self.directory, self.names())))

    def start_tree(self) -> None:
        """Starts s6-svscan, detached; it starts every unit. A running one is left as it is.

        Where s6-svscan was killed its supervisors live on, and their services with them. They keep their units: a
        second supervisor of a unit would end at once, and be started again and again.
        """
        layout = self._layout
        if self._ending.exists():  # a killed `down` has left it half way
            self.stop_tree()
        if self.running:
            return
        for directory in (layout.scan, layout.units, layout.logs):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for link in layout.scan.iterdir():
            if link.is_symlink():
                link.unlink()
        for left in layout.units.glob(".*"):  # a unit that was half written, or half removed
            shutil.rmtree(left, ignore_errors=True)
        for name in self.names():
            self._link(name)
        svscan = keep("s6-svscan", layout.binaries, layout.scan)
        with (layout.logs / "svscan.log").open("wb") as output:
            child = subprocess.Popen(
                [str(svscan.path), "-c", "4096", "-t", str(RESCAN_MILLISECONDS), str(layout.scan)],
                env=self._environment(),
                cwd=layout.state,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        (layout.state / "svscan.new").write_text(f"{child.pid} {started_ticks(child.pid)}\n")
        (layout.state / "svscan.new").rename(layout.state / "svscan")
        deadline = time.monotonic() + 10
        while not _has_reader(layout.scan / ".s6-svscan" / "control"):
            if child.poll() is not None or time.monotonic() > deadline:
                said = (layout.logs / "svscan.log").read_text(errors="replace")[-500:]
                raise PlatformError(
                    ErrorCode.UNAVAILABLE, f"s6-svscan did not start: {said.strip()}", "`santiago doctor` looks why"
                )
            time.sleep(0.01)

    def revive(self) -> bool:
        """Starts what a killed s6-svscan no longer does: itself, and units whose supervisor has died since.

        For the daemon, which is a unit itself: not while somebody starts or ends the platform, and not what a `down`
        has left half way. Returns whether there was anything to do.
        """
        with locked_if_free(self._layout.state) as free:
            if not free or self._ending.exists():
                return False
            if not self.running:
                self.start_tree()
                return True
            forsaken = [name for name in self.names() if self._link(name)]
            if forsaken:
                self._rescan()
            return bool(forsaken)

    def stop_tree(self, timeout_seconds: float = 30.0) -> list[Process]:
        """Ends every unit gracefully, then s6-svscan, then by force what is left of this workspace.

        Units stay, so that the next start brings them back. Returns what had to be killed.
        """
        if self.alive:
            self._ending.touch()  # nothing backs off any more
            if tree := self.running:
                tree.send(signal.SIGTERM)
            for name in self.names():
                if not tree or not (self._layout.scan / name).is_symlink():  # its supervisor has outlived another tree
                    self.control(name, "-dx")
                    self.control(f"{name}/log", "-x")
            deadline = time.monotonic() + timeout_seconds
            while self.alive and time.monotonic() < deadline:
                time.sleep(0.02)
        killed = self._kill_leftovers()
        self._ending.unlink(missing_ok=True)
        return killed

    @property
    def _ending(self) -> Path:
        return self._layout.state / "ending"

    def _kill_leftovers(self) -> list[Process]:
        """Kills what does not end by itself within a moment: a supervisor lets go of its unit just before it ends."""
        began, killed = time.monotonic(), list[Process]()
        while left := [p for p in processes_of(self._layout.id) if p.pid != os.getpid()]:
            if time.monotonic() - began > KILL_SECONDS:
                break
            if time.monotonic() - began > EXIT_SECONDS:
                killed = killed or left
                for process in left:
                    process.send(signal.SIGKILL)
            time.sleep(0.02)
        return killed

    # --- units ----------------------------------------------------------------------------------------------

    def names(self, beginning: str = "") -> list[str]:
        """Units that exist, linked or being taken away."""
        try:
            found = os.listdir(self._layout.units)
        except FileNotFoundError:
            return []
        return sorted(name for name in found if name.startswith(beginning) and not name.startswith("."))

    def directory(self, name: str) -> Path:
        return self._units / name

    def add(self, unit: Unit) -> None:
        """Makes the unit exist and run. One that exists is left as it is, but linked if a crash left it unlinked."""
        directory = self.directory(unit.name)
        if not directory.exists():
            self._written(unit).rename(directory)
        self.link(unit.name)

    def linked(self, name: str) -> bool:
        """Whether s6-svscan is shown the unit."""
        return os.path.islink(f"{self._scan}/{name}")

    def link(self, name: str) -> None:
        """Shows the unit to s6-svscan, unless it is being taken away or a supervisor has it already."""
        if self._link(name):
            self._rescan()

    def _link(self, name: str) -> bool:
        directory, link = self.directory(name), self._layout.scan / name
        if link.is_symlink() or (directory / "stopping").exists() or self._supervised(directory):
            return False
        if self._supervised(directory / "log"):  # of a supervisor that was killed: it must make room for the next
            self.control(f"{name}/log", "-x")
        try:
            link.symlink_to(Path("..") / "units" / name)
        except FileExistsError:  # somebody else has just done so
            return False
        return True

    def replace(self, unit: Unit, *, restart: bool = True) -> bool:
        """Writes the unit anew where its definition differs, and restarts it then. For daemons, not for instances.

        restart: or leaves that to the caller. Returns whether it differed.
        """
        directory = self.directory(unit.name)
        if not directory.exists():
            self.add(unit)
            return False
        partial = self._written(unit)
        differs = False
        for file in unit.files(self._layout, self._tool("s6-log")):
            new, old = partial / file, directory / file
            if not old.exists() or old.read_bytes() != new.read_bytes():
                new.replace(old)
                differs = True
        shutil.rmtree(partial)
        self.link(unit.name)
        if differs and restart:
            self.control(unit.name, "-r")
        return differs

    def status(self, name: str) -> UnitStatus:
        """While its process lives and no file of its directory comes or goes, it is as it was."""
        directory = self.directory(name)
        try:
            changed = directory.stat().st_mtime_ns
        except OSError:
            self._statuses.pop(name, None)
            return UnitStatus.read(directory)
        known = self._statuses.get(name)
        if known and known[0] == changed and known[1].process and known[1].process.alive:
            return known[1]
        status = UnitStatus.read(directory)
        if abs(time.time_ns() - changed) > TICK_NANOSECONDS:  # else a change might come that has the same time
            self._statuses[name] = changed, status
        return status

    def control(self, name: str, *flags: str) -> None:
        """`s6-svc FLAGS UNIT`; a unit that nobody supervises is no error."""
        self._run("s6-svc", *flags, str(self.directory(name)), check=False)

    def remove(self, name: str) -> bool:
        """One step of taking a unit away: stop, unlink, forget. Returns whether it is gone; call again until then.

        Each step looks at what there is, so that a crash between any two of them is mended by the next call.
        """
        directory, link = self.directory(name), self._layout.scan / name
        if not directory.exists():
            return True
        stopping = directory / "stopping"
        if _text(stopping) not in (STOP_SENT, UNLINKED):
            stopping.touch()  # first, so that whatever ends it, it is not started again
            self.control(name, "-d")
            stopping.write_text(STOP_SENT)  # a second -d would begin the grace anew
            return False
        supervised, process = self._supervised(directory), self.status(name).process
        # A killed supervisor is replaced within a second, and its successor ends the process with grace.
        if process is not None and (supervised or (link.is_symlink() and self.running)):
            return False
        logged = self._supervised(directory / "log")
        late = time.time() - stopping.stat().st_mtime > LATE_SECONDS
        if link.is_symlink():
            if self.running and not (supervised and logged) and not late:
                return False  # s6-svscan is about to start them, and would not end what it has not begun
            link.unlink()
            stopping.write_text(UNLINKED)
            self._rescan("-an")
            return False
        if supervised:
            self._rescan("-an")
            self.control(name, "-dx")
            return False
        if process is not None:
            process.send(signal.SIGKILL, group=True)
            return False
        if logged:  # it ends by itself when all is written
            self.control(f"{name}/log", "-dx" if late else "-x")
            return False
        partial = self._layout.units / f".{name}"
        shutil.rmtree(partial, ignore_errors=True)
        directory.rename(partial)
        shutil.rmtree(partial, ignore_errors=True)
        return True

    def _supervised(self, directory: Path) -> bool:
        return _has_reader(directory / "supervise" / "control")

    def _written(self, unit: Unit) -> Path:
        """The unit's service directory, whole, but not at its place yet."""
        partial = self._layout.units / f".{unit.name}"
        shutil.rmtree(partial, ignore_errors=True)
        unit.write(partial, self._layout, self._tool("s6-log"))
        return partial

    # --- s6 -------------------------------------------------------------------------------------------------

    def _rescan(self, flags: str = "-a") -> None:
        if self.running:
            self._run("s6-svscanctl", flags, str(self._layout.scan))

    def _run(self, tool: str, *words: str, check: bool = True) -> None:
        path = str(self._tool(tool).path)
        done = subprocess.run([path, *words], env=self._environment(), capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            raise PlatformError(
                ErrorCode.UNAVAILABLE, f"{tool} failed: {done.stderr.strip()[-300:]}", "`santiago doctor` looks why"
            )

    def _tool(self, name: str) -> Binary:
        if name not in self._tools:
            self._tools[name] = keep(name, self._layout.binaries)
        return self._tools[name]

    def _environment(self) -> dict[str, str]:
        """For s6's own programs. Services get theirs from `env -i`, so the library path ends with s6."""
        tools = [self._tool(name) for name in ("s6-svscan", "s6-supervise", "s6-log")]
        places = dict.fromkeys([*(str(t.path.parent) for t in tools), "/usr/local/bin", "/usr/bin", "/bin"])
        environment = {"PATH": ":".join(places), WORKSPACE_VARIABLE: self._layout.id, "LANG": "C.UTF-8"}
        if tools[0].libraries is not None:
            environment["LD_LIBRARY_PATH"] = str(tools[0].libraries)
        return environment


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _has_reader(fifo: Path) -> bool:
    """Whether a process reads the control FIFO: s6's own sign of life."""
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as exc:
        if exc.errno in (errno.ENXIO, errno.ENOENT, errno.ENOTDIR):
            return False
        raise
    return True
