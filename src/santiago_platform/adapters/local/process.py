"""Processes of this machine, known by pid and start time, so that a reused pid is never taken for an old one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
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

    def send(self, number: signal.Signals) -> None:
        """Signals it; one that is gone is no error."""
        if self.alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return


def started_ticks(pid: int) -> int | None:
    """When the process started; None where there is none, or only its zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def recorded(path: Path) -> Process | None:
    """The process that a launcher noted as `PID TICKS`, alive or not; None where nothing is noted."""
    try:
        pid, ticks = path.read_text().split()
        return Process(int(pid), int(ticks))
    except (OSError, ValueError):
        return None


def processes_of(workspace_id: str) -> Iterator[Process]:
    """Every living process of a workspace, by the mark in its environment."""
    mark = f"{WORKSPACE_VARIABLE}={workspace_id}".encode()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            environment = Path(entry.path, "environ").read_bytes()
        except OSError:
            continue
        if mark in environment.split(b"\0"):
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
        if entry.name.isdigit():
            try:
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == leader:
                members.append(int(entry.name))
    return members
