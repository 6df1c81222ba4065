"""Looks whether this machine and a workspace have what the platform needs, and says how to mend what is missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from ...domain.environment import Addresses
from ...domain.errors import PlatformError
from ...domain.value import Value
from ..layout import Layout
from ..workspace.workspace import FileWorkspace
from .binaries import NAMES, find
from .port_registry import PortRegistry, bindable
from .supervisor import Supervisor

LOW_DISK_BYTES = 1 << 30
CGROUPS = Path("/sys/fs/cgroup")


class Health(StrEnum):
    OK = "ok"
    WARNING = "warning"  # it works, with less
    PROBLEM = "problem"  # it does not work


class Finding(Value):
    """mend: what to do; empty where nothing is to do."""

    subject: str
    health: Health
    said: str
    mend: str = ""


def examine(root: Path | None) -> list[Finding]:
    """root: a workspace, or None for the machine alone."""
    found = [*_binaries(), _tool("git", "apt-get install git"), _tool("flock", "apt-get install util-linux")]
    found += [_disk(root or Path.home()), _cgroups()]
    if root is not None:
        found += _workspace(Layout.of(root))
    return found


def _binaries() -> Iterator[Finding]:
    for name in (*NAMES, "envoy"):
        binary = find(name)
        if binary is None:
            yield Finding(
                subject=name,
                health=Health.PROBLEM,
                said="not found",
                mend="`santiago doctor --fetch` fetches it on Debian and Ubuntu; elsewhere put it on PATH",
            )
        else:
            yield Finding(subject=name, health=Health.OK, said=f"{binary.path} ({binary.source})")


def _tool(name: str, mend: str) -> Finding:
    path = shutil.which(name)
    if path is None:
        return Finding(subject=name, health=Health.PROBLEM, said="not on PATH", mend=mend)
    return Finding(subject=name, health=Health.OK, said=path)


def _disk(place: Path) -> Finding:
    usage = shutil.disk_usage(place if place.exists() else place.parent)
    said = f"{usage.free / (1 << 30):.1f} GiB free of {usage.total / (1 << 30):.1f} GiB"
    if usage.free < LOW_DISK_BYTES:
        mend = "free some space: changes stop when the ship's log cannot be written"
        return Finding(subject="disk", health=Health.WARNING, said=said, mend=mend)
    return Finding(subject="disk", health=Health.OK, said=said)


def _cgroups() -> Finding:
    """Whether limits could be enforced by the kernel: version 2 in one hierarchy, or version 1 by controller."""
    unified = (CGROUPS / "cgroup.controllers").exists()
    places = [CGROUPS] if unified else [CGROUPS / "memory", CGROUPS / "cpu"]
    kind = "version 2" if unified else "version 1" if (CGROUPS / "memory").is_dir() else "none"
    if kind != "none" and all(os.access(place, os.W_OK) for place in places):
        return Finding(subject="cgroups", health=Health.OK, said=f"{kind}, writable")
    return Finding(
        subject="cgroups",
        health=Health.WARNING,
        said=f"{kind}, not writable by this user",
        mend="memory and CPU limits are not kernel-enforced; run as root, or let systemd delegate a slice to you",
    )


def _workspace(layout: Layout) -> Iterator[Finding]:
    workspace = FileWorkspace(layout.root)
    try:
        addresses = workspace.settings().addresses
        services = workspace.services()
        yield Finding(
            subject="santiago.yaml", health=Health.OK, said=f"valid; services: {', '.join(services) or 'none'}"
        )
    except PlatformError as exc:
        yield Finding(subject="santiago.yaml", health=Health.PROBLEM, said=exc.message, mend=exc.hint)
        return
    for service in services:
        try:
            score = workspace.score(service)
            for environment in workspace.settings().environments:
                where = f"services/{service}/score.yaml"
                workspace.template(score, release="sha256:" + "0" * 64, environment=environment, where=where)
        except PlatformError as exc:
            yield Finding(subject=f"service {service}", health=Health.PROBLEM, said=exc.message, mend=exc.hint)
    tree = Supervisor(layout).running
    if tree is not None:
        yield Finding(subject="platform", health=Health.OK, said=f"running (s6-svscan is PID {tree.pid})")
        return
    yield Finding(subject="platform", health=Health.OK, said="not running", mend="`santiago up` starts it")
    yield from _ports(layout, addresses)


def _ports(layout: Layout, addresses: Addresses) -> Iterator[Finding]:
    claims = PortRegistry(layout.root).owners()
    for purpose, port in (("server", addresses.server_port), ("ingress", addresses.ingress_port)):
        subject, mend = f"{purpose} port {port}", "choose another one under `addresses` in santiago.yaml"
        owner = claims.get(port, str(layout.root))
        if owner != str(layout.root):
            yield Finding(subject=subject, health=Health.PROBLEM, said=f"belongs to the workspace {owner}", mend=mend)
        elif not bindable(port):
            yield Finding(subject=subject, health=Health.PROBLEM, said="another program listens on it", mend=mend)
        else:
            yield Finding(subject=subject, health=Health.OK, said="free")
