from __future__ import annotations

import hashlib
import re
from itertools import count

from ...domain.errors import ErrorCode, PlatformError


class FakePostmortems:
    """Implements ports.postmortems.Postmortems. files: by path."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}

    async def write(self, name: str, text: str, *, replaces: str = "") -> str:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}-[a-z0-9-]{1,60}\.md", name) is None:
            raise PlatformError(ErrorCode.INVALID_ARGUMENT, f"{name!r} is no name of a post-mortem")
        for number in count(1):
            path = f"postmortems/{name}" if number == 1 else f"postmortems/{name.removesuffix('.md')}-{number}.md"
            known = self.files.get(path)
            if known is None or known == text or hashlib.sha256(known.encode()).hexdigest() == replaces:
                break
        self.files[path] = text
        return path

    async def read(self, path: str) -> str | None:
        return self.files.get(path)
