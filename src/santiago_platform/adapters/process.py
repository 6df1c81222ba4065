"""Processes of this machine, known by pid and start time, so that a reused pid is never taken for an old one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .layout import WORKSPACE_VARIABLE


@dataclass(frozen=True, slots=True)
class Process:
    """started_ticks: /proc/PID/stat field 22, clock ticks since boot."""

    pid: int
    started_ticks: int

    @property
    def alive(self) -> bool:
        """Whether it is there and no zombie."""
        return started_ticks(self.pid) == self.started_ticks

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        """Signals it, or the process group that it leads; one that is gone is no error."""
        if self.alive:
            with suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(self.pid, number)


def started_ticks(pid: int) -> int | None:
    """When the process started; None where there is none, or only its zombie."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in b"ZX" else int(fields[19])


def _stat(pid: int | str) -> list[bytes] | None:
    """The fields of /proc/PID/stat that follow the name, which may hold any bytes."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None


def boot_id() -> str:
    """Of this start of the machine: pids and start times of two starts may coincide."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def user_of(pid: int) -> int | None:
    """The uid that a process runs as, by its status: /proc/PID itself may be another one's. None where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_bytes().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(b"Uid:")), None)


def recorded(path: Path) -> Process | None:
    """The process that a launcher noted as `PID TICKS`, alive or not; None where nothing is noted."""
    try:
        pid, ticks = path.read_text().split()
        return Process(int(pid), int(ticks))
    except (OSError, ValueError):
        return None


def processes_of(workspace_id: str, name: str = "") -> Iterator[Process]:
    """Every living process of a workspace, by the mark in its environment; of those, the ones of this
    name, up to a dot in it."""
    mark = f"{WORKSPACE_VARIABLE}={workspace_id}".encode()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            if name and Path(entry.path, "comm").read_bytes().split(b".")[0].strip() != name.encode():
                continue
            environment = Path(entry.path, "environ").read_bytes()
        except OSError:
            continue
        if mark in environment.split(b"\0"):
            ticks = started_ticks(int(entry.name))
            if ticks is not None:
                yield Process(int(entry.name), ticks)


def processes_at_home(below: Path) -> Iterator[Process]:
    """Every living process whose HOME lies below a directory: those of builds, whatever group they moved to."""
    beginning = f"HOME={below}/".encode()
    for entry in os.scandir("/proc"):
        try:
            environment = Path(entry.path, "environ").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if any(variable.startswith(beginning) for variable in environment.split(b"\0")):
            ticks = started_ticks(int(entry.name))
            if ticks is not None:
                yield Process(int(entry.name), ticks)


def listening_ports(pid: int) -> set[int]:
    """TCP ports that the processes of `pid`'s session listen on."""
    inodes = set()
    for member in _session(pid):
        try:
            links = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{member}/fd")]
        except OSError:
            continue
        inodes |= {link[8:-1] for link in links if link.startswith("socket:[")}
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add(int(fields[1].rpartition(":")[2], 16))
    return found


def _session(leader: int) -> list[int]:
    members = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (fields := _stat(entry.name)) and int(fields[3]) == leader:
            members.append(int(entry.name))
    return members
