"""How an image of a registry is named: HOST/PATH:TAG, HOST/PATH@sha256:DIGEST, or both."""

from __future__ import annotations

import re
from dataclasses import dataclass

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"((?:[a-z0-9-]+(?:\.[a-z0-9-]+)+|localhost)(?::\d{{1,5}})?(?:/{_COMPONENT})+)"
    r"(?::(\w[\w.-]{0,127}))?(?:@(sha256:[0-9a-f]{64}))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class ImageReference:
    """repository: HOST[:PORT]/PATH. digest: None where a tag is all there is."""

    repository: str
    tag: str | None
    digest: str | None

    @property
    def reference(self) -> str:
        return self.digest or self.tag or ""

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        """Raises ValueError, in words."""
        found = _REFERENCE.fullmatch(text)
        if found is None:
            raise ValueError(
                f"{text[:120]!r} names no image of a registry: write it whole, HOST/PATH:TAG or "
                "HOST/PATH@sha256:DIGEST (docker.io/library/python:3.13-slim)"
            )
        if not (found[2] or found[3]):
            raise ValueError(f"{text!r} has neither a tag nor a digest")
        return cls(found[1], found[2], found[3])
