"""The unit of systemd that starts a workspace's platform at boot, follows it, and takes it down."""

from __future__ import annotations

import pwd
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...domain.errors import ErrorCode, PlatformError
from ..layout import Layout

# What `up` reads or passes on. No SANTIAGO_TOKEN and no OTEL_EXPORTER_OTLP_HEADERS: a unit's file is for all to read.
_PASSED_ON = (
    "PATH", "LANG", "XDG_CACHE_HOME", "XDG_STATE_HOME",
    "SANTIAGO_HOST", "SANTIAGO_HOST_NAMES", "SANTIAGO_INGRESS_PORT", "SANTIAGO_PORT",
    "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG",
)  # fmt: skip

_UNIT = """\
# {name}
#
# To install it{privileges}:
#   mkdir -p {folder}
#   {up} --print-unit > {path}
#   {systemctl} daemon-reload
#   {systemctl} enable --now {name}{linger}
#
# `santiago down` and `{systemctl} stop {name}` both end the platform with its services, gracefully.

[Unit]
Description=Santiago platform of {root}
Documentation=man:systemd.service(5)
RequiresMountsFor={mounts}

[Service]
Type=exec
ExecStart={command}
WorkingDirectory={directory}
{user}{environment}
# SIGTERM goes to `up` alone, which drains the services before it ends them. If `up` itself is killed the services
# go on, and the next `up` takes them over.
KillMode=process
TimeoutStopSec=90
Restart=on-failure
RestartSec=5
# Limits of services are cgroups below this unit's; a service that exceeds its memory ends alone.
Delegate=yes
OOMPolicy=continue
TasksMax=infinity

[Install]
WantedBy={target}
"""

_LINGER = "\n#   loginctl enable-linger   # it then runs from boot on, also while you are not logged in"


@dataclass(frozen=True)
class SystemdUnit:
    """name: of its file. path: where systemd looks for it. text: its content."""

    name: str
    path: Path
    text: str


def systemd_unit(layout: Layout, up: Sequence[str], variables: Mapping[str, str], *, uid: int) -> SystemdUnit:
    """A unit of the system for root, else one of the user's own.

    up: the argv of `santiago up` in the foreground, by absolute path. variables: of the environment that it shall have.
    Raises PlatformError(INVALID_ARGUMENT) where one of them holds what no line of a unit can.
    """
    given = {key: variables[key] for key in _PASSED_ON if variables.get(key)}
    for text in (str(layout.root), *up, *given.values()):
        if not text.isprintable():
            raise PlatformError(
                ErrorCode.INVALID_ARGUMENT, f"{text!r:.120} cannot be written to a unit of systemd", "use a plain path"
            )
    system = uid == 0
    label = re.sub(r"[^A-Za-z0-9_.-]+", "-", layout.root.name).strip("-.") or "workspace"
    name = f"santiago-{label}-{layout.id[:6]}.service"
    configuration = variables.get("XDG_CONFIG_HOME") or Path(pwd.getpwuid(uid).pw_dir) / ".config"
    folder = Path("/etc/systemd/system") if system else Path(configuration) / "systemd" / "user"
    text = _UNIT.format(
        name=name,
        privileges=" as root" if system else "",
        up=shlex.join(up),
        path=shlex.quote(str(folder / name)),
        folder=shlex.quote(str(folder)),
        systemctl="systemctl" if system else "systemctl --user",
        linger="" if system else _LINGER,
        root=_literal(str(layout.root)),
        mounts=_quoted(str(layout.root)),
        command=" ".join(_quoted(word).replace("$", "$$") for word in up),
        directory=_literal(str(layout.root)),
        user=f"User={pwd.getpwuid(uid).pw_name}\n" if system else "",
        environment="".join(f"Environment={_quoted(f'{key}={value}')}\n" for key, value in given.items()),
        target="multi-user.target" if system else "default.target",
    )
    return SystemdUnit(name, folder / name, text)


def _literal(text: str) -> str:
    """For a value that takes the whole line: only specifiers mean something in it."""
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """One word, as systemd.syntax(7) has it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_literal(escaped)}"'
