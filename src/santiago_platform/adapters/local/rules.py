"""Rules in files beside the supervised Prometheus, reloaded; promtool checks them before."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

import httpx2

from ...domain.errors import ErrorCode, PlatformError
from ...domain.rules import RuleGroup, RuleTest
from ..rules.loaded import loaded_rules
from .promtool import check_rules, render_rules

RELOAD_SECONDS = 10.0
_OWNER = re.compile(r"[a-z_][a-z0-9_-]{0,60}")


class PrometheusRules:
    """Implements ports.rules.Rules. directory: that its configuration names; port: of Prometheus, on loopback."""

    verifiable = True
    settles_seconds = 10.0

    def __init__(self, directory: Path, port: int) -> None:
        self._directory = directory
        self._client = httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=RELOAD_SECONDS, trust_env=False, verify=False
        )
        self._writing = asyncio.Lock()
        self._reload_due = True  # the process before may have ended between its write and its reload
        self._in_force: dict[str, tuple[tuple[RuleGroup, ...], tuple[int, int, int] | None]] = {}

    async def close(self) -> None:
        await self._client.aclose()

    async def check(self, groups: Sequence[RuleGroup], tests: Sequence[RuleTest] = ()) -> None:
        await check_rules(groups, tests)

    async def apply(self, owner: str, groups: Sequence[RuleGroup]) -> None:
        file = rule_file(self._directory, owner)
        async with self._writing:
            # YAML of a service takes 10 ms to render, and a loop asks for all services again and again.
            if not self._reload_due and self._in_force.get(owner) == (tuple(groups), identity(file)):
                return
            before = await asyncio.to_thread(written, file)
            text = render_rules(groups) if groups else None
            if text == before and not self._reload_due:
                self._in_force[owner] = tuple(groups), identity(file)
                return
            await asyncio.to_thread(write, file, text)
            self._reload_due = True
            try:
                await self._reload()
            except PlatformError as exc:
                # At its next start Prometheus would refuse to run with what it refuses now.
                if exc.code is ErrorCode.FAILED_PRECONDITION and text != before:
                    await asyncio.to_thread(write, file, before)
                raise
            self._reload_due = False
            self._in_force[owner] = tuple(groups), identity(file)

    async def loaded(self, owner: str) -> tuple[RuleGroup, ...]:
        return await loaded_rules(self._client, owner)

    async def _reload(self) -> None:
        try:
            answer = await self._client.post("/-/reload")
        except httpx2.HTTPError as exc:
            raise PlatformError(
                ErrorCode.UNAVAILABLE,
                "Prometheus does not answer: its rules are written, and not loaded yet",
                "`santiago status` says whether it runs; they are loaded once it does",
                internal=repr(exc),
                retry_after=1.0,
            ) from exc
        if answer.status_code != 200:
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                f"Prometheus refuses the rules and keeps the former ones: {answer.text.strip()[:500]}",
                f"its log says which one: {self._directory.parent.parent / 'logs' / 'prometheus' / 'current'}",
            )


def rule_file(directory: Path, owner: str) -> Path:
    """Raises INVALID_ARGUMENT for an owner that is no name of a file."""
    if not _OWNER.fullmatch(owner):
        raise PlatformError(ErrorCode.INVALID_ARGUMENT, f"{owner[:80]!r} cannot own rules", "a service's name can")
    return directory / f"{owner}.yaml"


def identity(file: Path) -> tuple[int, int, int] | None:
    """Another one for each file that was ever there; None where there is none."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def written(file: Path) -> str | None:
    """None where there is no file."""
    return file.read_text() if file.exists() else None


def write(file: Path, text: str | None) -> None:
    """Whole or not at all. None removes it."""
    if text is None:
        file.unlink(missing_ok=True)
        return
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(file)
