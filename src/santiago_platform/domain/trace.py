"""The trace of an operation: its ids follow from the operation's own, so that nothing of it has to be remembered.

Passes of a loop, hours and restarts apart, add to the same trace; and whoever knows an operation finds its trace.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

Attributes = Mapping[str, str | int | float | bool]


def operation_ids(operation: str) -> tuple[int, int]:
    """The id of its trace and that of its root span, as W3C Trace Context has them: 128 and 64 bits, never 0."""
    digest = hashlib.sha256(operation.encode()).digest()
    return int.from_bytes(digest[:16], "big") or 1, int.from_bytes(digest[16:24], "big") or 1
