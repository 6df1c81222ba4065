"""Ends instances that hold more memory than their limit, where no control group does: a thread of the daemon.

It reads what the launchers noted and /proc, and nothing that the daemon's loops hold, so it works while those are busy.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ...domain.workload import Limits
from ..layout import WORKSPACE_VARIABLE, Layout
from ..process import Process, recorded
from .control_group import NOTED, Enforcement, out_of_memory
from .unit import INSTANCE_VARIABLE

log = logging.getLogger(__name__)

REST_SECONDS = 0.25
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class _Row:
    """A process by /proc. resident_bytes: shared pages too."""

    process: Process
    parent: int
    session: int
    resident_bytes: int


class MemoryWatchdog:
    """Watches the units of one workspace whose memory limit the kernel does not enforce."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._in_use: dict[str, int] = {}
        self._limits: dict[str, tuple[tuple[int, int], int | None]] = {}  # by unit, with the file's mark
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def memory_bytes(self, unit: str) -> int | None:
        """Resident memory at the last look; None for a unit that is not watched."""
        return self._in_use.get(unit)

    def _run(self) -> None:
        while not self._ended.wait(REST_SECONDS):
            try:
                self.look()
            except Exception:
                log.exception("the watchdog's look at memory failed")

    def look(self) -> list[str]:
        """One look at every watched unit. Returns those that it ended."""
        watched = dict(self._watched())
        if not watched:
            self._in_use = {}
            return []
        rows = _rows()
        in_use, ended = dict[str, int](), list[str]()
        for unit, (leader, limit) in watched.items():
            if not leader.alive:
                continue
            members = self._members(unit, leader, rows)
            in_use[unit] = sum(row.resident_bytes for row in members)
            if in_use[unit] > limit:  # pages that they share count once, which is dearer to find out
                in_use[unit] = sum(map(_proportional_bytes, members))
            if in_use[unit] > limit:
                self._end(unit, limit, in_use[unit], members)
                ended.append(unit)
        self._in_use = in_use
        return ended

    def _watched(self) -> Iterable[tuple[str, tuple[Process, int]]]:
        with suppress(FileNotFoundError):
            names = [name for name in os.listdir(self._layout.units) if "__" in name and not name.startswith(".")]
            self._limits = {name: self._limit(name) for name in names}
            for name, (_, limit) in self._limits.items():
                leader = recorded(self._layout.units / name / "process") if limit is not None else None
                if limit is not None and leader is not None:
                    yield name, (leader, limit)

    def _limit(self, name: str) -> tuple[tuple[int, int], int | None]:
        """Read where its file is another one than before: each start of the unit writes a new one in its place."""
        try:
            found = os.stat(f"{self._layout.units}/{name}/{NOTED}")
        except OSError:
            return (0, 0), None
        mark, known = (found.st_ino, found.st_mtime_ns), self._limits.get(name)
        if known is not None and known[0] == mark:
            return known
        return mark, Enforcement.read(self._layout.units / name).watched_bytes

    def _members(self, unit: str, leader: Process, rows: dict[int, _Row]) -> list[_Row]:
        """Of its session, its descendants, and what has left both but bears its mark."""
        pids = {leader.pid} | {row.process.pid for row in rows.values() if row.session == leader.pid}
        while grown := {row.process.pid for row in rows.values() if row.parent in pids} - pids:
            pids |= grown
        marks = (f"{INSTANCE_VARIABLE}={unit}".encode(), f"{WORKSPACE_VARIABLE}={self._layout.id}".encode())
        return [row for pid, row in rows.items() if pid in pids or _marked(pid, marks)]

    def _end(self, unit: str, limit: int, in_use: int, members: list[_Row]) -> None:
        log.warning("%s holds %d bytes of memory, more than its limit of %d, and is ended", unit, in_use, limit)
        with suppress(OSError):  # a full disk leaves the death without its cause
            (self._layout.units / unit / "cause").write_text(out_of_memory(Limits(memory_bytes=limit)) + "\n")
        for row in members:
            row.process.send(signal.SIGKILL)


def _rows() -> dict[int, _Row]:
    """Every process of the machine. In field 24 of /proc/PID/stat the kernel counts resident pages."""
    found = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                fields = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()
            except OSError:
                continue
            process = Process(int(entry.name), int(fields[19]))
            found[process.pid] = _Row(process, int(fields[1]), int(fields[3]), int(fields[21]) * _PAGE_BYTES)
    return found


def _marked(pid: int, marks: tuple[bytes, bytes]) -> bool:
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return all(mark in variables for mark in marks)


def _proportional_bytes(row: _Row) -> int:
    """Resident memory with each shared page divided among those who share it."""
    try:
        lines = Path(f"/proc/{row.process.pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return row.resident_bytes
