"""A plan: what a change will do, for a person to read, and exactly, for an approval to be bound to. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from .value import Value


class Plan(Value):
    """changes: what will be different, a line each. way_back: how it is undone. risk, cost: in words, where there is
    something to say. exact: all that decides what will be done, as canonical JSON."""

    changes: tuple[str, ...]
    way_back: str
    risk: str = ""
    cost: str = ""
    exact: str

    @property
    def hash(self) -> str:
        """Of all that will be done: 64 hex digits. The words follow from it and from what is live, which an approval is
        bound to beside it; how many instances run before may change meanwhile."""
        return hashlib.sha256(self.exact.encode()).hexdigest()


def exactly(parts: Mapping[str, Any]) -> str:
    """Canonical JSON: equal for equal parts, whatever their order."""
    return json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)


def fingerprint(parts: Mapping[str, Any]) -> str:
    """Of a state that an approval is bound to, too: 64 hex digits."""
    return hashlib.sha256(exactly(parts).encode()).hexdigest()
