"""Files of evidence, by release and digest: .santiago/evidence/RELEASE/SHA256, for nobody else to read."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path

from ...domain.errors import ErrorCode, PlatformError
from ...domain.evidence import EvidenceKind
from ...ports.evidence import Parsed
from ..artifacts.oci import sync_folder
from .scan_reports import read_json
from .xml_reports import read_xml

CHUNK_BYTES = 1 << 20


class EvidenceFiles:
    """Implements ports.evidence.Evidence in the folder `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._parsing = asyncio.Lock()  # one file at a time, so that memory is bounded by the largest

    async def parse(self, content: bytes, kind: EvidenceKind | None) -> Parsed:
        async with self._parsing:
            parsed = await asyncio.to_thread(read_report, content)
        if kind not in (None, parsed.kind):
            raise PlatformError(
                ErrorCode.INVALID_ARGUMENT, f"this is {parsed.kind}, not {kind}", "leave the kind out: it is recognised"
            )
        return parsed

    async def keep(self, release: str, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        try:
            await asyncio.to_thread(_store, self._root, self._place(release, digest), content)
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                raise PlatformError(ErrorCode.RESOURCE_EXHAUSTED, "no space is left for evidence", "free some") from exc
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                f"evidence cannot be written: {exc.strerror}: {exc.filename}",
                "check the owner and the modes of .santiago",
            ) from exc
        return digest

    async def doubt(self, release: str, sha256: str) -> str:
        return await asyncio.to_thread(_doubt, self._place(release, sha256), sha256)

    async def forget(self, release: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self._folder(release), ignore_errors=True)

    def _folder(self, release: str) -> Path:
        return self._root / _hex(release.removeprefix("sha256:"))

    def _place(self, release: str, sha256: str) -> Path:
        return self._folder(release) / _hex(sha256)


def read_report(content: bytes) -> Parsed:
    """What the file says, whichever kind it is of. Raises PlatformError(INVALID_ARGUMENT)."""
    return read_json(content) if content.lstrip()[:1] in (b"{", b"[") else read_xml(content)


def _hex(digits: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ValueError(f"{digits[:80]!r} is no SHA-256")
    return digits


def _store(root: Path, place: Path, content: bytes) -> None:
    """Whole or not at all. What is there already is written anew: it may have been damaged."""
    for folder in (root, place.parent):
        folder.mkdir(mode=0o700, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=place.parent, prefix=".")  # 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).rename(place)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    for folder in (place.parent, root):
        sync_folder(folder)


def _doubt(place: Path, sha256: str) -> str:
    found = hashlib.sha256()
    try:
        with os.fdopen(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                found.update(chunk)
    except FileNotFoundError:
        return "its file is gone"
    except OSError as exc:
        return f"its file cannot be read: {exc.strerror}"
    return "" if found.hexdigest() == sha256 else "its file was changed since it was attested"
