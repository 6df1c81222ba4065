"""Looks whether this machine and a workspace have what the platform needs, and says how to mend what is missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from ...domain.disk import DiskLevel, size_text
from ...domain.environment import Addresses, DiskLimits, KeyPair, Tls
from ...domain.errors import PlatformError
from ...domain.value import Value
from ..layout import Layout
from ..workspace.workspace import FileWorkspace
from .binaries import NAMES, find
from .certificate import below, read_certificate
from .control_group import ControlGroups, enforced_here
from .disk import space_at
from .mounts import NAMESPACE_HINT, namespace
from .podman import problem_here
from .port_registry import PortRegistry, bindable
from .supervisor import Supervisor
from .tenants import Tenants


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
    found += [_disk(root or Path.home(), _disk_limits(root)), _cgroups(), _namespaces(), _images()]
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


def _disk(place: Path, limits: DiskLimits) -> Finding:
    space = space_at(place)
    mend = f"free some space: nothing is changed while less than {size_text(limits.stop_bytes)} is free"
    match space.level(limits):
        case DiskLevel.ENOUGH:
            return Finding(subject="disk", health=Health.OK, said=str(space))
        case DiskLevel.LOW:
            return Finding(subject="disk", health=Health.WARNING, said=str(space), mend=mend)
        case DiskLevel.FULL:
            return Finding(subject="disk", health=Health.PROBLEM, said=str(space), mend=mend)


def _disk_limits(root: Path | None) -> DiskLimits:
    """The workspace's; mistakes in its settings are told elsewhere."""
    try:
        return FileWorkspace(root).settings().disk if root is not None else DiskLimits()
    except PlatformError:
        return DiskLimits()


def _cgroups() -> Finding:
    """Whether the kernel enforces limits, tried on a process as a service would be started from here."""
    found = enforced_here(ControlGroups("doctor"))
    held = [name for name in ("memory", "cpu") if name in found.groups]
    if len(held) == 2:
        return Finding(subject="cgroups", health=Health.OK, said="limits of memory and CPU are enforced by the kernel")
    lost = {
        "memory": "memory limits are not kernel-enforced: a watchdog ends what exceeds its own",
        "cpu": "CPU limits are not enforced",
    }
    return Finding(
        subject="cgroups",
        health=Health.WARNING,
        said="; ".join(said for name, said in lost.items() if name not in held),
        mend="run as root, or let systemd delegate a slice to you (`santiago up --print-unit`)",
    )


def _namespaces() -> Finding:
    """Whether `files` and `volumes` of a service can be mounted at their paths."""
    way = namespace()
    if not way.problem:
        said = "files and volumes can be mounted" + (" in user namespaces" if way.leave else "")
        return Finding(subject="namespaces", health=Health.OK, said=said)
    return Finding(
        subject="namespaces",
        health=Health.WARNING,
        said=f"services with `files` or `volumes` cannot run here: {way.problem}",
        mend=NAMESPACE_HINT,
    )


def _images() -> Finding:
    """Whether releases with a base image can run."""
    problem, mend = problem_here()
    if not problem:
        return Finding(subject="podman", health=Health.OK, said="releases with a base image can run")
    return Finding(
        subject="podman", health=Health.WARNING, said=f"releases with a base image cannot run: {problem}", mend=mend
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
    yield from _tenants(layout, workspace)
    for service in services:
        try:
            score = workspace.score(service)
            for environment in workspace.settings().environments:
                where = f"services/{service}/score.yaml"
                workspace.template(score, release="sha256:" + "0" * 64, environment=environment, where=where)
        except PlatformError as exc:
            yield Finding(subject=f"service {service}", health=Health.PROBLEM, said=exc.message, mend=exc.hint)
    yield from _certificates(layout, workspace.settings().ingress.tls)
    tree = Supervisor(layout).running
    if tree is not None:
        yield Finding(subject="platform", health=Health.OK, said=f"running (s6-svscan is PID {tree.pid})")
        return
    yield Finding(subject="platform", health=Health.OK, said="not running", mend="`santiago up` starts it")
    yield from _ports(layout, addresses)


def _tenants(layout: Layout, workspace: FileWorkspace) -> Iterator[Finding]:
    settings = workspace.settings()
    for tenant in sorted(settings.tenants):
        try:
            Tenants(layout, workspace.settings).admit(tenant)
            yield Finding(subject=f"tenant {tenant}", health=Health.OK, said="can be kept apart")
        except PlatformError as exc:
            yield Finding(subject=f"tenant {tenant}", health=Health.PROBLEM, said=exc.message, mend=exc.hint)


def _certificates(layout: Layout, tls: Tls | None) -> Iterator[Finding]:
    pairs: dict[str, KeyPair] = {"the ingress": tls, **tls.hosts} if tls is not None else {}
    for whose, pair in pairs.items():
        subject = f"TLS of {whose}"
        try:
            found = read_certificate(below(layout.root, pair))
        except PlatformError as exc:
            yield Finding(subject=subject, health=Health.PROBLEM, said=exc.message, mend=exc.hint)
            continue
        concern = found.concern(datetime.now(UTC))
        yield Finding(
            subject=subject,
            health=Health.WARNING if concern else Health.OK,
            said=concern or f"the certificate is valid until {found.expires:%Y-%m-%d}",
            mend="put the renewed one in its place; it is served within a second or two" if concern else "",
        )


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
