"""The base of every domain value: immutable, strict about unknown fields, serialisable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """An immutable value. Unknown fields are refused, so a typing mistake is an error and not a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Without what a cached property has kept, since that may follow from what is updated."""
        copied = super().model_copy(update=update, deep=deep)
        for derived in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[derived]
        return copied

    def stored(self) -> str:
        """As JSON for the disk, without what equals its default.

        So a version of the platform that does not know a field yet can read what does not use it, and taking an
        upgrade back is possible. Hence the default of a field that is stored never changes.
        """
        return self.model_dump_json(exclude_defaults=True)
