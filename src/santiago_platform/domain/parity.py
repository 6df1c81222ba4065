"""Parity: what differs between two environments for one service, and why it may.

Source: The Twelve-Factor App, "Dev/prod parity".
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from .environment import ServiceSettings
from .secret import unversioned
from .value import Value
from .workload import Template

NOT_DEPLOYED = "not deployed"


class Side(Value):
    """A service in one environment. live: None where nothing of it is. gates: their names, in order."""

    environment: str
    settings: ServiceSettings
    live: Template | None = None
    replicas: int | None = None
    gates: tuple[str, ...] = ()


class Difference(Value):
    """name: what differs; a variable is `variables.NAME`. values: there and here; of a variable never the value itself,
    which may be secret. allowed: why it may differ; empty where nobody said that it may."""

    name: str
    values: tuple[str, str]
    allowed: str = ""

    def __str__(self) -> str:
        there, here = self.values
        return f"{self.name}: {there} | {here}" + (f" (allowed: {self.allowed})" if self.allowed else "")


def compare(there: Side, here: Side, allowed: Mapping[str, str]) -> tuple[Difference, ...]:
    """Sorted by name. allowed: reasons by name, which may be a pattern such as `variables.*`."""
    first, second = _texts(there), _texts(here)
    # What one of them does not have yet differs as a whole, and not in each of its parts.
    names = first.keys() | second.keys() if there.live and here.live else first.keys() & second.keys()
    found = {name: (first.get(name, ""), second.get(name, "")) for name in names}
    found |= _variables(there, here)
    return tuple(
        Difference(name=name, values=(a or "none", b or "none"), allowed=_why(name, allowed))
        for name, (a, b) in sorted(found.items())
        if a != b
    )


def _texts(side: Side) -> dict[str, str]:
    settings = side.settings.model_dump(exclude={"variables", "replicas"})
    texts = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in settings.items()}
    replicas = side.settings.replicas if side.replicas is None else side.replicas
    texts |= {"replicas": str(replicas), "gates": ", ".join(side.gates)}
    live = side.live
    texts["release"] = live.release if live else NOT_DEPLOYED
    if live is not None:
        texts |= {
            "command": " ".join(live.command),
            "ports": ", ".join(f"{port.name}={port.target}" for port in live.ports),
            "protocol": live.protocol,
            "limits.memory": str(live.limits.memory_bytes or ""),
            "limits.cpu": str(live.limits.cpu_cores or ""),
            "containers": ", ".join(container.name for container in live.containers),
            "files": ", ".join(sorted(file.path for c in live.containers for file in c.files)),
            "volumes": ", ".join(sorted(volume.path for c in live.containers for volume in c.volumes)),
        }
    return texts


def _variables(there: Side, here: Side) -> dict[str, tuple[str, str]]:
    if there.live is None or here.live is None:
        first, second = there.settings.variables, here.settings.variables
    else:
        first, second = _rendered(there.live), _rendered(here.live)
    return {
        f"variables.{name}": ("set" if name in first else "", _beside(first.get(name), second.get(name)))
        for name in first.keys() | second.keys()
    }


def _rendered(template: Template) -> dict[str, str]:
    """Of all containers; those beside the first one by their names."""
    first, *beside = template.containers
    named = {f"{c.name}.{name}": value for c in beside for name, value in c.variables}
    found = dict(first.variables) | named
    return {name: unversioned(value) for name, value in found.items()} if template.secrets else found


def _beside(there: str | None, here: str | None) -> str:
    if here is None:
        return ""
    return "set" if there in (None, here) else "another value"


def _why(name: str, allowed: Mapping[str, str]) -> str:
    return allowed.get(name) or next((why for pattern, why in allowed.items() if fnmatchcase(name, pattern)), "")
