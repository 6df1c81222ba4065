"""A span for each HTTP request, which goes on from the caller's where it sends a `traceparent`."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..ports.traces import Kind, Traces

UNTRACED = frozenset({"/metrics", "/healthz", "/readyz"})  # asked by machines every few seconds
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
CARRIED = (b"traceparent", b"tracestate")


class TracingMiddleware:
    """Around everything else, so that refusals are seen too. The path is told as the route has it: what somebody puts
    in its place, or behind a question mark, is not."""

    def __init__(self, app: ASGIApp, traces: Traces) -> None:
        self._app = app
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNTRACED:
            await self._app(scope, receive, send)
            return
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in CARRIED}
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        with self._traces.span(method, kind=Kind.SERVER, caller=headers) as span:
            try:
                await self._app(scope, receive, watched)
            finally:
                told: dict[str, str | int] = {"http.request.method": method}
                if route := getattr(scope.get("route"), "path", ""):
                    told["http.route"] = route
                if status:
                    told["http.response.status_code"] = status
                span.tell(told, failed=status >= 500)
