"""A stored value: JSON without what equals its default, and what is said where it cannot be read or written."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from ...domain.errors import ErrorCode, PlatformError
from ...domain.value import Value

V = TypeVar("V", bound=Value)

VALUES_KEPT = 256


def document(value: Value) -> str:
    try:
        return value.stored()
    except PydanticSerializationError as exc:
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT,
            f"this {type(value).__name__.lower()} cannot be stored: it holds text or values that JSON cannot",
            "send valid Unicode and plain JSON values",
            internal=str(exc),
        ) from exc


@lru_cache(maxsize=VALUES_KEPT)
def value_of(kind: type[V], document: str) -> V:
    """Kept by its text: values are immutable, and most reads find what they found before."""
    try:
        return kind.model_validate_json(document)
    except ValidationError as exc:
        name = kind.__name__.lower()
        errors = exc.errors(include_url=False, include_input=False)
        unknown = [".".join(map(str, e["loc"])) for e in errors if e["type"] == "extra_forbidden"]
        if len(unknown) == len(errors):
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                f"a stored {name} has fields that this version of the platform does not know: {', '.join(unknown)}",
                "a newer version stored it: start that one again",
                internal=document[:2000],
            ) from exc
        where = ".".join(map(str, errors[0]["loc"]))
        raise PlatformError(
            ErrorCode.DATA_CORRUPT,
            f"a stored {name} cannot be read: {errors[0]['msg']}, at {where or 'its start'}",
            "restore a backup of the database; what is deployed keeps running",
            internal=document[:2000],
        ) from exc
