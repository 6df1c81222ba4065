"""Post-mortems as Markdown files in the workspace, beside the ship's log."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
from itertools import count
from pathlib import Path

from ...domain.errors import ErrorCode, PlatformError
from .text_file import read_within

FOLDER = "ships-logs/platform/postmortems"
_NAME = re.compile(r"(\d{4}-\d{2}-\d{2}-[a-z0-9-]{1,60})\.md")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FilePostmortems:
    """Implements ports.postmortems.Postmortems. root: of the workspace, resolved."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def write(self, name: str, text: str, *, replaces: str = "") -> str:
        return await asyncio.to_thread(self._write, name, text, replaces)

    async def read(self, path: str) -> str | None:
        return await asyncio.to_thread(read_within, self._root, path)

    def _write(self, name: str, text: str, replaces: str) -> str:
        found = _NAME.fullmatch(name)
        if found is None:
            raise PlatformError(
                ErrorCode.INVALID_ARGUMENT, f"{name[:100]!r} is no name of a post-mortem", "YYYY-MM-DD-ID.md"
            )
        try:
            for number in count(1):
                path = f"{FOLDER}/{found[1]}" + (f"-{number}.md" if number > 1 else ".md")
                known = read_within(self._root, path)
                if known is None or _sha256(known) == replaces:
                    self._replace(self._root / path, text)
                    return path
                if known == text:
                    return path
        except OSError as exc:
            code = ErrorCode.RESOURCE_EXHAUSTED if exc.errno in _NO_SPACE else ErrorCode.UNAVAILABLE
            raise PlatformError(
                code, f"{FOLDER} cannot be written: {exc.strerror}", "it is tried again", internal=repr(exc)
            ) from exc
        raise AssertionError("numbers do not end")

    def _replace(self, path: Path, text: str) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
