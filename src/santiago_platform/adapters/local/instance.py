"""What an instance is on this machine: its record, and what a process can be given at all."""

from __future__ import annotations

import os
import sys
from functools import cached_property
from pathlib import Path

from ...domain.errors import ErrorCode, PlatformError
from ...domain.route import Endpoint
from ...domain.value import Value
from ...domain.workload import Instance, Template

RECORD = "instance.json"
LOOPBACK = "127.0.0.1"


class InstanceRecord(Value):
    """What `instance.json` holds. ports: allocated, by port name. environment: of the first container's process, whole,
    with secrets by reference. beside: those of further containers, by name. prefix: words in front of their commands.
    image: it runs in containers of the release's image."""

    instance: Instance
    ports: dict[str, int]
    directory: str
    environment: dict[str, str]
    beside: dict[str, dict[str, str]] = {}
    prefix: tuple[str, ...] = ()
    image: bool = False

    @cached_property
    def endpoints(self) -> dict[str, Endpoint]:
        return {
            name: Endpoint(instance=self.instance.id, host=LOOPBACK, port=port) for name, port in self.ports.items()
        }


def is_instance(unit: str) -> bool:
    """Whether a unit of this name is one: SERVICE__ENVIRONMENT__VERSION__INDEX."""
    return unit.count("__") == 3


def service_path() -> str:
    """PATH of the services: this machine's, without the virtual environment that the platform itself runs in."""
    given = os.environ.get("PATH", os.defpath).split(":")
    own = Path(sys.prefix) if sys.prefix != sys.base_prefix else None
    return ":".join(p for p in given if os.path.isabs(p) and not (own and Path(p).is_relative_to(own)))


def check_runnable(template: Template) -> None:
    """What no process can be started with. Raises INVALID_ARGUMENT."""
    for container in template.containers:
        for name, value in container.variables:
            if not name or "=" in name:
                raise _unrunnable(template, f"{name!r:.60} cannot name an environment variable")
            if not _is_text(name + value):
                raise _unrunnable(template, f"the variable {name!r:.60} holds a NUL or a half character")
        if not container.command or "=" in container.command[0] or not all(map(_is_text, container.command)):
            raise _unrunnable(template, "its command is empty, holds a NUL, or its first word has a `=`")


def _is_text(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def _unrunnable(template: Template, what: str) -> PlatformError:
    return PlatformError(
        ErrorCode.INVALID_ARGUMENT,
        f"{template.service} cannot be started in {template.environment}: {what}",
        "mend `command`, `args` or `variables` in its score.yaml, or `variables` in santiago.yaml",
    )
