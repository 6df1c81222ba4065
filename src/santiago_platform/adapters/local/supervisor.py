"""s6 on this machine: service directories that are written whole, linked into the scan directory, and followed.

What a unit does is read from files that its own launcher writes and from /proc, never from s6's private formats.
Everything here is idempotent and blocking (a few milliseconds); asynchronous callers use threads.
"""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from ...domain.errors import ErrorCode, PlatformError
from .binaries import Binary, keep
from .layout import WORKSPACE_VARIABLE, Layout
from .process import Process, processes_of, recorded, started_ticks

RAPID_SECONDS = 10  # a life shorter than this counts towards giving up
LONGEST_BACK_OFF_SECONDS = 8

_RUN = """\
#!/bin/sh
# Ends what a former supervisor left behind, leaves its own pid and start time, and becomes the service.
exec 2>&1
unset LD_LIBRARY_PATH
cd {unit} || exit 111
ticks_of() {{
  {{ read -r stat <"/proc/$1/stat"; }} 2>/dev/null || return 1
  set -- ${{stat##*) }}
  case $1 in Z|X) return 1 ;; esac
  shift 19
  echo "$1"
}}
if {{ read -r pid ticks <process; }} 2>/dev/null && [ "$(ticks_of "$pid")" = "$ticks" ]; then
  kill -TERM "$pid"
  left={grace_tenths}
  while [ "$left" -gt 0 ] && [ "$(ticks_of "$pid")" = "$ticks" ]; do sleep 0.1; left=$((left - 1)); done
  kill -KILL "-$pid" 2>/dev/null
fi
exec 9>>lock
flock -w 5 9 || {{ echo "another process holds the lock of {name}"; exit 111; }}
echo "$$ $(ticks_of $$)" >process.new && mv process.new process
cd {directory} || exit 111
exec env -i {environment} {command}
"""

_FINISH = """\
#!/bin/sh
# Notes the death, ends what the service left in its process group, and slows down or gives up.
unset LD_LIBRARY_PATH
{{ read -r pid ticks <process; }} 2>/dev/null && kill -KILL "-$pid" 2>/dev/null
[ -e ../../ending ] && exit 0
now=$(date +%s)
life=$((now - $(stat -c %Y process 2>/dev/null || echo "$now")))
echo "$now $1 $2 $life" >>deaths
rapid=0
[ "$life" -ge {rapid_seconds} ] || {{ {{ read -r rapid <rapid; }} 2>/dev/null; rapid=$((rapid + 1)); }}
echo "$rapid" >rapid
[ {give_up_after} -gt 0 ] && [ "$rapid" -ge {give_up_after} ] && {{ : >failed; exit 125; }}
pause=0
[ "$rapid" -ge 2 ] && pause=$((1 << (rapid - 2)))
[ "$pause" -gt {back_off} ] && pause={back_off}
left=$((pause * 5))
until [ "$left" -le 0 ] || [ -e stopping ] || [ -e ../../ending ]; do sleep 0.2; left=$((left - 1)); done
exit 0
"""


@dataclass(frozen=True, slots=True)
class Unit:
    """A service for s6. directory: its working directory. give_up_after: rapid deaths in a row until it is FAILED
    for good; 0 means never. extra: further files of the service directory, by name."""

    name: str
    command: tuple[str, ...]
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    stop_grace_seconds: float = 10.0
    give_up_after: int = 0
    back_off_seconds: int = LONGEST_BACK_OFF_SECONDS
    extra: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Death:
    """at: Unix seconds. code: exit code, or 256 where `signal` ended it. life_seconds: from start to death."""

    at: int
    code: int
    signal: int
    life_seconds: int

    def __str__(self) -> str:
        if self.code < 256:
            return f"exited with code {self.code}"
        try:
            return f"was ended by {signal.Signals(self.signal).name}"
        except ValueError:
            return f"was ended by signal {self.signal}"


@dataclass(frozen=True, slots=True)
class UnitStatus:
    """process: None while nothing runs. failed: given up on. stopping: it is being taken away."""

    process: Process | None
    deaths: tuple[Death, ...]
    failed: bool
    stopping: bool


class Supervisor:
    """The supervision tree of one workspace."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._tools: dict[str, Binary] = {}

    # --- the tree -------------------------------------------------------------------------------------------

    @property
    def running(self) -> Process | None:
        """The s6-svscan of this workspace, if it lives."""
        found = recorded(self._layout.state / "svscan")
        return found if found and found.alive else None

    def start_tree(self) -> None:
        """Starts s6-svscan, detached; it starts every unit that is linked. A running one is left as it is."""
        if self.running:
            return
        layout = self._layout
        for directory in (layout.scan, layout.units, layout.logs):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._drop_dangling_links()
        (layout.state / "ending").unlink(missing_ok=True)
        svscan = keep("s6-svscan", layout.binaries, layout.scan)
        with (layout.logs / "svscan.log").open("ab") as output:
            child = subprocess.Popen(
                [str(svscan.path), "-c", "4096", str(layout.scan)],
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

    def stop_tree(self, timeout_seconds: float = 30.0) -> list[Process]:
        """Ends every unit gracefully, then s6-svscan, then by force what is left of this workspace.

        Links stay, so that the next start brings the same units back. Returns what had to be killed.
        """
        tree = self.running
        if tree is not None:
            (self._layout.state / "ending").touch()  # nothing backs off any more
            tree.send(signal.SIGTERM)
            deadline = time.monotonic() + timeout_seconds
            while tree.alive and time.monotonic() < deadline:
                time.sleep(0.02)
            tree.send(signal.SIGKILL)
        return self._kill_leftovers()

    def _kill_leftovers(self) -> list[Process]:
        ourselves = os.getpid()
        killed = []
        for attempt in range(100):
            left = [p for p in processes_of(self._layout.id) if p.pid != ourselves]
            if not left:
                break
            if attempt == 0:
                killed = left
            for process in left:
                process.send(signal.SIGKILL)
            time.sleep(0.02)
        return killed

    def _drop_dangling_links(self) -> None:
        for link in self._layout.scan.iterdir():
            if link.is_symlink() and not link.exists():
                link.unlink()

    # --- units ----------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Units that exist, linked or being taken away."""
        try:
            return sorted(e.name for e in os.scandir(self._layout.units) if not e.name.startswith("."))
        except FileNotFoundError:
            return []

    def directory(self, name: str) -> Path:
        return self._layout.units / name

    def add(self, unit: Unit) -> None:
        """Makes the unit exist and run. One that exists is left as it is, but linked if a crash left it unlinked."""
        directory = self.directory(unit.name)
        if not directory.exists():
            partial = self._layout.units / f".{unit.name}"
            shutil.rmtree(partial, ignore_errors=True)
            self._write(unit, partial)
            partial.rename(directory)
        link = self._layout.scan / unit.name
        if not link.is_symlink() and not (directory / "stopping").exists():
            link.symlink_to(Path("..") / "units" / unit.name)
            self._rescan()

    def replace(self, unit: Unit) -> None:
        """Writes the unit anew where its definition differs, and restarts it then. For daemons, not for instances."""
        directory = self.directory(unit.name)
        partial = self._layout.units / f".{unit.name}"
        shutil.rmtree(partial, ignore_errors=True)
        self._write(unit, partial)
        differs = False
        for file in ("run", "finish", "timeout-kill", "log/run", *unit.extra):
            new = (partial / file).read_bytes()
            if not (directory / file).exists() or (directory / file).read_bytes() != new:
                differs = True
                if directory.exists():
                    (partial / file).replace(directory / file)
        if not directory.exists():
            partial.rename(directory)
        shutil.rmtree(partial, ignore_errors=True)
        (directory / "stopping").unlink(missing_ok=True)
        link = self._layout.scan / unit.name
        if not link.is_symlink():
            link.symlink_to(Path("..") / "units" / unit.name)
            self._rescan()
        elif differs and self.running:
            self.control(unit.name, "-r")

    def status(self, name: str) -> UnitStatus:
        directory = self.directory(name)
        process = recorded(directory / "process")
        return UnitStatus(
            process=process if process and process.alive else None,
            deaths=_deaths(directory / "deaths"),
            failed=(directory / "failed").exists(),
            stopping=(directory / "stopping").exists(),
        )

    def control(self, name: str, *flags: str) -> None:
        """`s6-svc FLAGS UNIT`; a unit that nobody supervises is no error."""
        self._run("s6-svc", *flags, str(self.directory(name)), check=False)

    def remove(self, name: str) -> bool:
        """One step of taking a unit away: stop, unlink, forget. Returns whether it is gone; call again until then."""
        directory = self.directory(name)
        if not directory.exists():
            return True
        if not (directory / "stopping").exists():
            (directory / "stopping").touch()
            if self.running:
                self.control(name, "-d")
                return False
        if self.status(name).process is not None and self._supervised(directory):
            return False
        link = self._layout.scan / name
        if link.is_symlink():
            link.unlink()
            self._rescan("-an")
        if self.running and (self._supervised(directory) or self._supervised(directory / "log")):
            return False
        if process := self.status(name).process:
            process.send(signal.SIGKILL)
            return False
        partial = self._layout.units / f".{name}"
        shutil.rmtree(partial, ignore_errors=True)
        directory.rename(partial)
        shutil.rmtree(partial, ignore_errors=True)
        return True

    def _supervised(self, directory: Path) -> bool:
        return _has_reader(directory / "supervise" / "control")

    def _write(self, unit: Unit, directory: Path) -> None:
        log = self._layout.logs / unit.name
        log.mkdir(parents=True, exist_ok=True, mode=0o700)
        final = self.directory(unit.name)
        environment = {**unit.environment, WORKSPACE_VARIABLE: self._layout.id}
        values = {
            "name": unit.name,
            "unit": shlex.quote(str(final)),
            "directory": shlex.quote(str(unit.directory)),
            "environment": " ".join(shlex.quote(f"{k}={v}") for k, v in sorted(environment.items())),
            "command": shlex.join(unit.command),
            "grace_tenths": max(1, round(unit.stop_grace_seconds * 10)),
        }
        finish = {
            "rapid_seconds": RAPID_SECONDS,
            "give_up_after": unit.give_up_after,
            "back_off": unit.back_off_seconds,
        }
        logger = self._tool("s6-log")
        files = {
            "run": _RUN.format(**values),
            "finish": _FINISH.format(**finish),
            "timeout-kill": f"{max(1, round(unit.stop_grace_seconds * 1000))}\n",
            "timeout-finish": f"{(unit.back_off_seconds + 5) * 1000}\n",
            "log/run": f"#!/bin/sh\nexec {logger.path} -l 65536 t n20 s1000000 {shlex.quote(str(log))}\n",
            **unit.extra,
        }
        (directory / "log").mkdir(parents=True, mode=0o700)
        for name, text in files.items():
            path = directory / name
            path.write_text(text)
            path.chmod(0o700 if name in ("run", "finish", "log/run") else 0o600)

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


def _has_reader(fifo: Path) -> bool:
    """Whether a process reads the control FIFO: s6's own sign of life."""
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as exc:
        if exc.errno in (errno.ENXIO, errno.ENOENT, errno.ENOTDIR):
            return False
        raise
    return True


def _deaths(path: Path) -> tuple[Death, ...]:
    try:
        rows = [line.split() for line in path.read_text().splitlines()[-50:]]
    except OSError:
        return ()
    return tuple(Death(*map(int, row)) for row in rows if len(row) == 4)
