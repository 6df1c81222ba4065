"""A workspace with a supervision tree and nothing else of a platform: what instances need to run."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..adapters.layout import Layout
from ..adapters.local.compute import LocalCompute
from ..adapters.local.port_registry import PortRegistry
from ..adapters.local.supervisor import Supervisor
from ..adapters.process import Process, processes_of
from ..adapters.system import SystemClock
from ..domain.workload import Instance, Template
from ..ports.compute import Compute
from .compute import UnpackedRelease
from .eventually import eventually
from .lifeline import Lifeline


class FastClock(SystemClock):
    """Health is looked at again after 5 s of it: 50 ms."""

    def monotonic(self) -> float:
        return time.monotonic() * 100


class SupervisedWorkspace:
    """A context manager, which leaves no process. Its release is `release.folder`; see testing.compute."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self.layout = Layout.of(root)
        self.layout.state.mkdir(mode=0o700)
        self.supervisor = Supervisor(self.layout)
        self.release = UnpackedRelease(self.layout.state / "release")
        self._lifeline = Lifeline()

    def __enter__(self) -> Self:
        self._lifeline.watch(self.layout.root)
        self.supervisor.start_tree()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.supervisor.stop_tree(5)
        self._lifeline.close()
        assert list(processes_of(self.layout.id)) == []

    def compute(self, **options: Any) -> LocalCompute:
        registry = PortRegistry(self.layout.root)
        return LocalCompute(self.layout, self.supervisor, registry, self.release, FastClock(), **options)

    async def empty(self, compute: Compute) -> None:
        """Stops every instance and waits until it is gone."""
        for status in await compute.list():
            await compute.stop(status.instance.id)
        await eventually(compute.list, lambda listed: not listed)

    def processes(self, instance: Instance) -> list[Process]:
        """Everything that runs as the instance, its children too."""
        mark = f"SANTIAGO_INSTANCE={instance.id}".encode()
        found = []
        for process in processes_of(self.layout.id):
            try:
                environment = Path(f"/proc/{process.pid}/environ").read_bytes()
            except OSError:
                continue
            if mark in environment.split(b"\0"):
                found.append(process)
        return found

    def log(self, instance: Instance) -> str:
        """What it has said, stamps and all."""
        return (self.layout.logs / instance.id / "current").read_text()

    def home(self, template: Template) -> Path:
        return self.layout.state / "home" / f"{template.service}__{template.environment}"
