"""The base of every domain value: immutable, strict about unknown fields, serialisable."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """An immutable value. Unknown fields are refused, so a typing mistake is an error and not a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")
