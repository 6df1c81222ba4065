"""OFREP over HTTP: `/ENVIRONMENT/ofrep/v1/...`, one flag or all of them, and the stream of changes.

Evaluating needs no token: the address is on loopback, as that of a service, and a browser's page has no secret to send.
Pages are let in by the host that they name and by their origin.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any

from pydantic_core import from_json, to_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from .evaluation import Evaluation
from .stream import Changes, StreamTokens

BODY_BYTES = 64 * 1024
LOOPBACK_ORIGIN = r"https?://(([a-z0-9-]+\.)*localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?"
INACTIVITY_SECONDS = 120
_ENVIRONMENT = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")


class ContextError(ValueError):
    """What was sent is no context to evaluate in."""


def build_app(
    evaluation: Callable[[], Evaluation],
    changes: Changes,
    tokens: StreamTokens,
    *,
    problem: Callable[[], str] = lambda: "",
    origins: Sequence[str] = (),
    hosts: Sequence[str] = ("127.0.0.1", "localhost", "*.localhost"),
) -> Starlette:
    """evaluation: the flags that count now. problem: why they are not those of the file.

    origins: of pages that may read flags beside those of this machine; `*` for all.
    """
    endpoint = _Endpoint(evaluation, changes, tokens, problem)
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_origin_regex=LOOPBACK_ORIGIN,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=["ETag"],
        max_age=600,
    )
    return Starlette(
        routes=[
            Route("/{environment}/ofrep/v1/evaluate/flags/{key:path}", endpoint.one, methods=["POST"]),
            Route("/{environment}/ofrep/v1/evaluate/flags", endpoint.all, methods=["POST"]),
            Route("/{environment}/ofrep/v1/stream", endpoint.stream, methods=["GET"]),
            Route("/healthz", endpoint.health, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _refused, Exception: _failed},
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False), cors],
    )


class _Endpoint:
    def __init__(
        self,
        evaluation: Callable[[], Evaluation],
        changes: Changes,
        tokens: StreamTokens,
        problem: Callable[[], str],
    ) -> None:
        self._evaluation, self._changes, self._tokens, self._problem = evaluation, changes, tokens, problem

    async def one(self, request: Request) -> Response:
        key, environment = request.path_params["key"], request.path_params["environment"]
        if not _ENVIRONMENT.fullmatch(environment):
            return _no_environment(key)
        try:
            context = await _context(request)
        except ContextError as exc:
            return _json({"key": key, "errorCode": "INVALID_CONTEXT", "errorDetails": str(exc)}, 400)
        answer = self._evaluation().one(environment, key, context)
        if answer is None:
            details = f"there is no flag {key[:100]!r}"
            return _json({"key": key, "errorCode": "FLAG_NOT_FOUND", "errorDetails": details}, 404)
        return _json(answer, 400 if "errorCode" in answer else 200)

    async def all(self, request: Request) -> Response:
        environment = request.path_params["environment"]
        if not _ENVIRONMENT.fullmatch(environment):
            return _no_environment("")
        try:
            context = await _context(request)
        except ContextError as exc:
            return _json({"errorCode": "INVALID_CONTEXT", "errorDetails": str(exc)}, 400)
        evaluation = self._evaluation()
        url = (
            f"{request.url.scheme}://{request.url.netloc}/{environment}/ofrep/v1/stream"
            f"?token={self._tokens.issue(environment)}&since={self._changes.revision}"
        )
        stream = {"type": "sse", "url": url, "inactivityDelaySec": INACTIVITY_SECONDS}
        answers = evaluation.all(environment, context)
        body = to_json({"flags": answers, "metadata": evaluation.metadata, "eventStreams": [stream]})
        # Of the whole answer: a token that is about to end is another answer, else a client would keep the old one.
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = {"etag": etag, "cache-control": "no-cache"}
        if etag in _etags(request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
        return Response(body, 200, headers, "application/json")

    async def stream(self, request: Request) -> Response:
        environment = request.path_params["environment"]
        left = self._tokens.seconds_left(request.query_params.get("token", ""), environment)
        if left <= 0:
            return _json({"errorDetails": "the token of the stream has ended: fetch the flags anew"}, 401)
        if self._changes.full:
            return _json({"errorDetails": "too many streams are open"}, 429, {"retry-after": "5"})
        since = request.headers.get("last-event-id") or request.query_params.get("since", "")
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(self._changes.events(since, left), media_type="text/event-stream", headers=headers)

    async def health(self, _: Request) -> Response:
        evaluation = self._evaluation()
        return _json({"flags": len(evaluation), "version": evaluation.version, "problem": self._problem()})


async def _context(request: Request) -> dict[str, Any]:
    """Raises ContextError. None at all is an empty one, since a flag may need none."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            raise ContextError(f"the body is larger than {BODY_BYTES} bytes")
    try:
        value = from_json(bytes(body) or b"{}", allow_inf_nan=False)
    except ValueError as exc:
        raise ContextError(f"the body is not JSON: {str(exc)[:200]}") from exc
    context = value.get("context", {}) if isinstance(value, dict) else None
    if not isinstance(context, dict):
        raise ContextError('the body has no context: {"context": {"targetingKey": "..."}}')
    if not isinstance(context.get("targetingKey", ""), str):
        raise ContextError("targetingKey must be a text")
    return context


def _etags(header: str) -> set[str]:
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}


def _no_environment(key: str) -> Response:
    details = "the address names no environment: http://HOST:PORT/ENVIRONMENT is the base URL"
    return _json({"key": key, "errorCode": "FLAG_NOT_FOUND", "errorDetails": details}, 404)


async def _refused(_: Request, exc: Exception) -> Response:
    """A path or a method that there is not."""
    assert isinstance(exc, HTTPException)  # noqa: S101 - it is the handler of these
    return _json({"errorDetails": exc.detail}, exc.status_code, dict(exc.headers or {}))


async def _failed(_: Request, __: Exception) -> Response:
    return _json({"errorDetails": "the flags cannot be evaluated; the log of the unit `flags` says why"}, 500)


def _json(value: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(to_json(value), status, headers, "application/json")
