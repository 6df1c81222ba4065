"""Feature flags on this machine: flags.json, written whole, and the unit of s6 that serves it."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from ...domain.errors import ErrorCode, PlatformError
from ...domain.flag import FlagEntry, FlagFile
from ..flags.file import EMPTY, FLAGS_FILE, parse_flags, with_entry
from ..layout import Layout
from ..workspace.text_file import read_within
from .port_registry import PortRegistry, bindable
from .supervisor import Supervisor
from .unit import Unit

UNIT = "flags"


class LocalFlags:
    """Implements ports.flags.Flags. port: of the endpoint, on loopback. origins: of pages that may read flags."""

    def __init__(
        self, layout: Layout, supervisor: Supervisor, port: int, origins: Callable[[], Sequence[str]] = tuple
    ) -> None:
        self._layout = layout
        self._supervisor = supervisor
        self._port = port
        self._origins = origins
        self._writing = asyncio.Lock()
        self._serving = False  # in this process: a former one may have been killed half way

    async def read(self) -> FlagFile:
        return await asyncio.to_thread(lambda: _parsed(self._text() or EMPTY))

    async def put(self, key: str, before: FlagEntry, after: FlagEntry) -> None:
        async with self._writing:
            await asyncio.to_thread(self._put, key, before, after)

    def _put(self, key: str, before: FlagEntry, after: FlagEntry) -> None:
        text = self._text() or EMPTY
        now = _parsed(text).entry(key)
        if now == after:
            return
        if now != before:
            raise PlatformError(
                ErrorCode.CONFLICT,
                f"the flag {key} was edited in {FLAGS_FILE} meanwhile, and is left as it is",
                "look at it, and ask again",
            )
        _replace((self._layout.root / FLAGS_FILE).resolve(), with_entry(text, key, after))

    async def serve(self) -> None:
        if has_flags(self._layout) and not self._serving:
            unit = flag_unit(self._layout, self._port, self._origins())
            await asyncio.to_thread(self._supervisor.add, unit)
            self._serving = True

    def url(self, environment: str) -> str:
        if not has_flags(self._layout):
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                f"the workspace has no {FLAGS_FILE}",
                "`santiago flag set NAME` makes the first flag",
            )
        return f"http://127.0.0.1:{self._port}/{environment}"

    def _text(self) -> str | None:
        return read_within(self._layout.root, FLAGS_FILE)


def has_flags(layout: Layout) -> bool:
    """Whether anything has to be served: the last good flags are, when the file is gone."""
    return (layout.root / FLAGS_FILE).exists() or (layout.flags / "last-good.json").exists()


def flag_unit(layout: Layout, port: int, origins: Sequence[str]) -> Unit:
    module = "santiago_platform.adapters.flags.endpoint"
    return Unit(
        UNIT,
        # -P: a file of the workspace must not pass for a module.
        (sys.executable, "-P", "-m", module, str(layout.root), str(port), *origins),
        layout.state,
        {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(layout.state)},
        stop_grace_seconds=5,
        back_off_seconds=1,
    )


def claim_flag_port(layout: Layout, registry: PortRegistry, *, running: bool, report: Callable[[str], None]) -> int:
    """The port that programs know as part of a URL: the same at every start, and on a restored workspace if free.

    Raises PlatformError(CONFLICT) where a stranger has it.
    """
    note = layout.flags / "port"
    before = int(note.read_text()) if note.exists() else None
    owner = registry.owners().get(before, str(layout.root)) if before is not None else ""
    if before is None or owner != str(layout.root):
        port = registry.claim(UNIT)
        if before is not None and has_flags(layout):
            report(f"flags are on port {port} now, since {owner} has {before}: deploy again what reads them")
    elif running or bindable(before):
        port = registry.claim(UNIT, port=before)
    elif not has_flags(layout):
        registry.release(UNIT)
        port = registry.claim(UNIT)
    else:
        raise PlatformError(
            ErrorCode.CONFLICT,
            f"another program listens on 127.0.0.1:{before}, where services read their flags",
            f"`ss -ltnp 'sport = :{before}'` names it; end it",
        )
    if port != before:
        layout.flags.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(note, f"{port}\n")
    return port


@lru_cache(maxsize=4)
def _parsed(text: str) -> FlagFile:
    return parse_flags(text)


def _replace(path: Path, text: str) -> None:
    """The file whole, or as it was; with the mode and owner that it had."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with partial.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            status = path.stat()
            partial.chmod(status.st_mode & 0o7777)
            if os.geteuid() == 0:
                os.chown(partial, status.st_uid, status.st_gid)
        partial.rename(path)
    except OSError as exc:
        partial.unlink(missing_ok=True)
        code = ErrorCode.RESOURCE_EXHAUSTED if exc.errno in (errno.ENOSPC, errno.EDQUOT) else ErrorCode.UNAVAILABLE
        raise PlatformError(
            code, f"{path.name} cannot be written: {exc.strerror}", "see the disk and its owner"
        ) from exc
