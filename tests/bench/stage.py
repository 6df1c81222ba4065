"""What benches share: a running platform with a deployed service, and a place to tell how far they are."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
from rich.console import Console

from santiago_platform.testing.lifeline import Lifeline
from santiago_platform.testing.running_platform import RunningPlatform

WHERE = {"service": "hello", "environment": "production"}
HOST = "hello.production.localhost"
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


class Stage:
    """Used as a context manager, which takes down everything that was started."""

    def __init__(self, console: Console) -> None:
        self.lifeline = Lifeline()
        self._console = console
        self._began = time.monotonic()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.callback(self.lifeline.close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def tell(self, text: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._began:5.0f} s[/dim]  {text}", highlight=False)

    @cached_property
    def platform(self) -> RunningPlatform:
        """Up, with `hello` live in production."""
        self.tell("starting a platform and deploying hello to production")
        running = self._stack.enter_context(RunningPlatform(self.lifeline))
        running.santiago("deploy", "hello", "--env", "production", "--wait")
        return running


def answers(platform: RunningPlatform) -> bool:
    """Whether the daemon says that it is ready for everything."""
    try:
        return httpx2.get(f"{platform.url}/readyz", trust_env=False, timeout=2).status_code == 200
    except httpx2.TransportError:
        return False


def pid_of(platform: RunningPlatform, unit: str) -> int:
    """0 while it does not run."""
    return next(view.pid for view in platform.platform.units() if view.name == unit)


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES


def cpu_seconds(pid: int) -> float:
    """Of all threads of a process, in user and kernel mode, since it was started; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def post(platform: RunningPlatform, tool: str, **arguments: Any) -> dict[str, Any]:
    """A tool's answer, asked for in plain JSON. Raises RuntimeError with its words where it refused."""
    answer = httpx2.post(
        f"{platform.url}/api/tools/{tool}",
        json=arguments,
        headers={"authorization": f"Bearer {platform.token}"},
        trust_env=False,
        timeout=120,
    )
    if answer.status_code != 200:
        raise RuntimeError(f"{tool}: {answer.text}")
    found: dict[str, Any] = answer.json()
    return found
