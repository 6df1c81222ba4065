"""What a request over HTTP brings, and how it is answered: bodies, the caller, and errors with their status."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, assert_never

from mcp.server.transport_security import (
    DEFAULT_MAX_REQUEST_BODY_SIZE,
)
from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Principal
from .authentication import Caller
from .invocation import refusal
from .mcp_resources import error_object

BODY_BYTES = DEFAULT_MAX_REQUEST_BODY_SIZE
Handler = Callable[[Request], Awaitable[Response]]


def principal_of(request: Request) -> Principal:
    caller: Caller = request.user
    return caller.principal


async def json_body(request: Request) -> dict[str, Any]:
    """The JSON object that was sent; nothing is {}. Raises INVALID_ARGUMENT, also for what is too large or too deep."""
    body = await sent(request, BODY_BYTES)
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT, "the body is not declared as JSON", "send Content-Type: application/json"
        )
    try:
        value = from_json(body or b"{}", allow_inf_nan=False)
    except ValueError as exc:
        raise PlatformError(ErrorCode.INVALID_ARGUMENT, f"the body is not JSON: {str(exc)[:200]}") from exc
    if not isinstance(value, dict):
        raise PlatformError(ErrorCode.INVALID_ARGUMENT, "the body is not a JSON object", 'send {"argument": value}')
    return value


async def sent(request: Request, limit: int) -> bytes:
    """What was sent. Raises INVALID_ARGUMENT for more than `limit` bytes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise PlatformError(ErrorCode.INVALID_ARGUMENT, f"the body is larger than {limit} bytes")
    return bytes(body)


def json_answer(text: bytes, status: int = 200) -> Response:
    return Response(text, status, media_type="application/json")


def guarded(handler: Handler) -> Handler:
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Exception as exc:  # noqa: BLE001 - what is not a PlatformError is logged with its trace there
            return _error(refusal(exc, f"{request.method} {request.url.path}"))

    return answer


def _error(exc: PlatformError) -> Response:
    headers = {"retry-after": str(max(1, round(exc.retry_after)))} if exc.retry_after is not None else {}
    if exc.code is ErrorCode.UNAUTHENTICATED:
        headers["www-authenticate"] = 'Bearer realm="santiago"'
    return JSONResponse({"error": error_object(exc)}, http_status(exc.code), headers)


async def http_error(request: Request, exc: Exception) -> Response:
    """What the router refuses: no such path, or not by this method."""
    assert isinstance(exc, HTTPException)  # noqa: S101 - it is registered for this class
    code = ErrorCode.NOT_FOUND if exc.status_code == 404 else ErrorCode.UNSUPPORTED
    error = {"code": code, "message": f"{exc.detail}: {request.method} {request.url.path[:200]}", "hint": ""}
    return JSONResponse({"error": error}, exc.status_code, exc.headers)


def http_status(code: ErrorCode) -> int:
    """The HTTP status that says the same, as near as there is one."""
    match code:
        case ErrorCode.INVALID_ARGUMENT:
            return 400
        case ErrorCode.UNAUTHENTICATED:
            return 401
        case ErrorCode.PERMISSION_DENIED:
            return 403
        case ErrorCode.NOT_FOUND:
            return 404
        case ErrorCode.CONFLICT | ErrorCode.FAILED_PRECONDITION:
            return 409
        case ErrorCode.RESOURCE_EXHAUSTED:
            return 429
        case ErrorCode.INTERNAL | ErrorCode.DATA_CORRUPT:
            return 500
        case ErrorCode.UNSUPPORTED:
            return 501
        case ErrorCode.UNAVAILABLE:
            return 503
        case ErrorCode.DEADLINE_EXCEEDED:
            return 504
        case _:
            assert_never(code)
