"""Ports that end the process at a chosen effect, or do each effect twice: for walks over every crash."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from ..ports import Ports

PORTS = (
    "store",
    "ship_log",
    "artifacts",
    "compute",
    "jobs",
    "traffic",
    "probe",
    "logs",
    "rules",
)  # that change something
# What only looks leaves the world as it was, so a crash there is like the one after the last effect.
LOOKS = frozenset(
    {"admit", "admit_images", "completed", "counters", "disk_bytes", "get", "has_base", "head", "list"}
) | {*("check", "loaded", "observe", "read", "resolve", "status", "unfinished", "verify")}
Call = Callable[..., Awaitable[Any]]


class Killed(BaseException):
    """The process ends here: nothing after it runs."""


class Reaper:
    """Kills after the `fatal`-th effect; with 0, before the first. armed: whether effects are counted."""

    def __init__(self, fatal: int, *, armed: bool = True) -> None:
        self.armed = armed
        self.effects = 0
        self._fatal = fatal

    def ports(self, ports: Ports) -> Ports:
        return around(ports, self._around)

    async def _around(self, port: str, call: Call, *args: Any, **kwargs: Any) -> Any:
        self._step(0)
        value = await call(*args, **kwargs)
        self._step(1)
        return value

    def _step(self, effects: int) -> None:
        if self.armed:
            self.effects += effects
            if self.effects == self._fatal:
                raise Killed


async def twice(port: str, call: Call, *args: Any, **kwargs: Any) -> Any:
    """As one that died before it had stored what it did, and does it again. Rows are fenced by their epoch instead."""
    if port not in ("store", "ship_log"):
        await call(*args, **kwargs)
    return await call(*args, **kwargs)


def around(ports: Ports, wrapped: Callable[..., Awaitable[Any]]) -> Ports:
    """wrapped: is given each effect's port, the call, and its arguments."""
    return replace(ports, **{name: _Proxy(name, getattr(ports, name), wrapped) for name in PORTS})


class _Proxy:
    def __init__(self, name: str, target: Any, wrapped: Callable[..., Awaitable[Any]]) -> None:
        self._name, self._target, self._wrapped = name, target, wrapped

    def __getattr__(self, method: str) -> Any:
        attribute = getattr(self._target, method)
        if method in LOOKS or not inspect.iscoroutinefunction(attribute):
            return attribute

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self._wrapped(self._name, attribute, *args, **kwargs)

        return call
