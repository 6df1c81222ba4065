"""Text files of a workspace, read with care: people, and links that they made, say what is in it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ...domain.errors import ErrorCode, PlatformError
from .yaml_document import LIMIT_BYTES


def read_within(root: Path, relative: str) -> str | None:
    """The text of a file of the workspace `root`, which is resolved; None where there is none.

    Raises PlatformError(INVALID_ARGUMENT) for what is no text file of the workspace's own, or too large.
    """
    path = (root / relative).resolve()
    if not path.is_relative_to(root):
        raise _refused(relative, "is a link out of the workspace", "put the file itself there")
    try:
        # Not blocking: opening a pipe would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise _refused(relative, f"cannot be read ({exc.strerror})", "check its owner and mode") from exc
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _refused(relative, "is not a regular file", "put a text file there")
        content = file.read(LIMIT_BYTES + 1)
    if len(content) > LIMIT_BYTES:
        raise _refused(relative, f"is larger than {LIMIT_BYTES // 1024} KiB", "split it, or move data out of it")
    return decode(content, relative)


def decode(content: bytes, where: str) -> str:
    """Raises PlatformError(INVALID_ARGUMENT) with the line of the first byte that is not UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError as exc:
        line = content[: exc.start].count(b"\n") + 1
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT, f"{where}:{line}: is not UTF-8 text", "save it as UTF-8"
        ) from exc


def _refused(relative: str, problem: str, hint: str) -> PlatformError:
    return PlatformError(ErrorCode.INVALID_ARGUMENT, f"{relative}:1: {problem}", hint)
