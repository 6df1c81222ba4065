"""One error type for everything that can be refused or fail, with a closed set of codes."""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never


class ErrorCode(StrEnum):
    INVALID_ARGUMENT = "invalid_argument"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    FAILED_PRECONDITION = "failed_precondition"
    UNAUTHENTICATED = "unauthenticated"
    PERMISSION_DENIED = "permission_denied"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    UNAVAILABLE = "unavailable"
    UNSUPPORTED = "unsupported"
    DATA_CORRUPT = "data_corrupt"
    INTERNAL = "internal"


def retryable(code: ErrorCode) -> bool:
    """Whether the same call, unchanged, may succeed later."""
    match code:
        case ErrorCode.UNAVAILABLE | ErrorCode.RESOURCE_EXHAUSTED | ErrorCode.DEADLINE_EXCEEDED:
            return True
        case (
            ErrorCode.INVALID_ARGUMENT
            | ErrorCode.NOT_FOUND
            | ErrorCode.CONFLICT
            | ErrorCode.FAILED_PRECONDITION
            | ErrorCode.UNAUTHENTICATED
            | ErrorCode.PERMISSION_DENIED
            | ErrorCode.UNSUPPORTED
            | ErrorCode.DATA_CORRUPT
            | ErrorCode.INTERNAL
        ):
            return False
        case _:
            assert_never(code)


class PlatformError(Exception):
    """What failed, on which object, and what to do next.

    message, hint: for the caller. internal: for the log alone, never for the caller.
    retry_after: seconds to wait before the same call may succeed, where that is known.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        hint: str = "",
        *,
        internal: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.internal = internal
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message
