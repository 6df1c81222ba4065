"""Reads a file of evidence back from the disk. It shares no code with what keeps it."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from ...domain.evidence import ABSENT, kept_as
from ...domain.proof import Observation


async def observe_evidence(subject: str, root: Path) -> Observation:
    """subject: `evidence sha256:RELEASE SHA256`. root: where files of evidence are kept."""
    _, release, sha256 = subject.split(" ")
    path = root / release.removeprefix("sha256:") / sha256
    value, detail = await asyncio.to_thread(_read, path)
    return Observation(subject=subject, value=value, source="the file on disk", detail=detail)


def _read(path: Path) -> tuple[str | None, str]:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return kept_as(file.tell(), digest), ""
    except FileNotFoundError:
        return ABSENT, ""
    except OSError as exc:
        return None, f"it cannot be read: {exc.strerror}"
