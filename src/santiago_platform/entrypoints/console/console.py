"""The console's routes: pages, forms, the stream of what changed, and files; each request by whoever is signed in."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route, compile_path

from ...domain.errors import ErrorCode, PlatformError
from ...domain.identity import Principal
from ...ports import Ports
from ..authentication import Authenticator
from ..http_answer import http_status
from ..invocation import refusal
from ..rates import Rates
from ..resource_updates import ResourceUpdates
from .browser import HEADERS, KEY, cookie, form, local, require_key, set_cookie
from .page import Form, Page
from .pages import FORMS, PAGES
from .rendering import TYPES, document, fragment, statics
from .sign_in import SignIn, SignIns

SIGN_IN, SIGN_OUT, EVENTS = "/console/sign-in", "/console/sign-out", "/console/events"
STATIC = "/console/static/{name}"
BEAT_SECONDS = 5.0  # between two looks whether a stream's sign-in still holds
Handler = Callable[[Request], Awaitable[Response]]


def is_console(path: str) -> bool:
    """Whether the console answers it, which asks for a sign-in of its own."""
    return path == "/" or path.startswith(("/console/", "/approve/"))


class Console:
    """One per server. `updates` is to be run beside it."""

    def __init__(self, ports: Ports, authenticator: Authenticator, rates: Rates) -> None:
        self._ports = ports
        self._sign_ins = SignIns(ports, authenticator, rates)
        self._patterns = [(compile_path(page.path)[0], page) for page in PAGES]
        self.updates = ResourceUpdates(ports, self._read, loop="console")

    def routes(self) -> list[Route]:
        return [
            *(Route(page.path, _guarded(self._shows(page)), methods=["GET"]) for page in PAGES),
            *(Route(form.path, _guarded(self._takes(form)), methods=["POST"]) for form in FORMS),
            Route(SIGN_IN, _guarded(self._ask), methods=["GET"]),
            Route(SIGN_IN, _guarded(self._sign_in), methods=["POST"]),
            Route(SIGN_OUT, _guarded(self._sign_out), methods=["POST"]),
            Route(EVENTS, _guarded(self._events), methods=["GET"]),
            Route(STATIC, _guarded(_static), methods=["GET"]),
        ]

    def _shows(self, page: Page) -> Handler:
        async def show(request: Request) -> Response:
            sign_in, principal = await self._sign_ins.known(cookie(request))
            asked = {name: request.query_params[name] for name in page.query if name in request.query_params}
            values = await page.load(self._ports, principal, {**asked, **request.path_params})
            live = fragment(page.template, values)
            where = request.url.path + (f"?{urlencode(asked)}" if asked else "")
            events = f"{EVENTS}?{urlencode({'page': where, 'seen': _hash(live)})}" if page.live else ""
            return HTMLResponse(
                document(
                    live,
                    sign_in.form_key,
                    title=values.get("title", page.title),
                    section=page.section,
                    who=principal,
                    events=events,
                    figures=values.get("figures", ""),
                ),
                headers=HEADERS,
            )

        return show

    def _takes(self, form_: Form) -> Handler:
        async def take(request: Request) -> Response:
            sign_in, principal = await self._sign_ins.known(cookie(request))
            fields = await form(request)
            require_key(fields, sign_in.form_key)
            given = {name: value for name, value in fields.items() if name != KEY and value}
            target = await form_.handle(self._ports, principal, {**given, **request.path_params})
            return RedirectResponse(target, 303, HEADERS)

        return take

    async def _read(self, ports: Ports, principal: Principal, uri: str) -> tuple[str, str]:
        """What a page shows now, for `ResourceUpdates` to compare. Raises PlatformError."""
        path, _, query = uri.partition("?")
        for pattern, page in self._patterns:
            if page.live and (found := pattern.match(path)) is not None:
                given = {name: value for name, value in parse_qsl(query) if name in page.query}
                return fragment(page.template, await page.load(ports, principal, given | found.groupdict())), ""
        raise PlatformError(ErrorCode.NOT_FOUND, "there is no such page to listen to")

    async def _events(self, request: Request) -> Response:
        """Server-sent events: `changed` when the page would show something else, `ended` at the end of the sign-in."""
        sign_in, principal = await self._sign_ins.known(cookie(request))
        uri, seen = request.query_params.get("page", ""), request.query_params.get("seen", "")
        now = await self.updates.look(principal, uri)
        return StreamingResponse(
            self._stream(sign_in, principal, uri, now, changed=now != seen),
            media_type="text/event-stream",
            headers=HEADERS,
        )

    async def _stream(
        self, sign_in: SignIn, principal: Principal, uri: str, seen: str, *, changed: bool
    ) -> AsyncIterator[str]:
        """However often it changes, one event waits at most: the browser then asks for the page as it is."""
        wake = asyncio.Event()

        async def tell(_: str) -> None:
            nonlocal changed
            changed = True
            wake.set()

        try:
            unwatch = self.updates.watch(principal, uri, seen, tell)
        except PlatformError:  # too much is listened to: the page says that it is not live, and tries again
            yield "retry: 60000\n\n"
            return
        sign_in.wakes.add(wake)
        try:
            yield "retry: 3000\n\n"
            while True:
                if changed:
                    changed = False
                    yield "event: changed\ndata: now\n\n"
                await _wait(wake, BEAT_SECONDS)
                try:
                    await self._sign_ins.still(sign_in)
                except PlatformError:
                    yield "event: ended\ndata: signed out\n\n"
                    return
                if not changed:
                    yield ":\n\n"  # finds a client that has gone
        finally:
            sign_in.wakes.discard(wake)
            unwatch()

    async def _ask(self, request: Request) -> Response:
        return _sign_in_page(request, local(request.query_params.get("next", "/")))

    async def _sign_in(self, request: Request) -> Response:
        fields = await form(request)
        require_key(fields, cookie(request, "-form"))
        target = local(fields.get("next", "/"))
        client = request.client.host if request.client else ""
        try:
            value = await self._sign_ins.sign_in(fields.get("token", "").strip(), client)
        except PlatformError as exc:
            return _sign_in_page(request, target, exc)
        await self._forget_former(request)
        answer = RedirectResponse(target, 303, HEADERS)
        set_cookie(request, answer, value)
        set_cookie(request, answer, "", "-form")
        return answer

    async def _forget_former(self, request: Request) -> None:
        """Who signs in as somebody else is signed out as who it was."""
        try:
            await self._sign_ins.sign_out(*await self._sign_ins.known(cookie(request)))
        except PlatformError:
            return

    async def _sign_out(self, request: Request) -> Response:
        sign_in, principal = await self._sign_ins.known(cookie(request))
        require_key(await form(request), sign_in.form_key)
        await self._sign_ins.sign_out(sign_in, principal)
        answer = RedirectResponse(SIGN_IN, 303, HEADERS)
        set_cookie(request, answer, "")
        return answer


def _guarded(handler: Handler) -> Handler:
    """Failures as pages: who is not signed in is asked to, everybody else is told what failed and what to do."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Exception as exc:  # noqa: BLE001 - what is not a PlatformError is logged with its trace there
            error = refusal(exc, f"{request.method} {request.url.path}")
        if error.code is ErrorCode.UNAUTHENTICATED and request.url.path != EVENTS:
            here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            after = f"?next={quote(here)}" if request.method == "GET" else ""
            return RedirectResponse(SIGN_IN + after, 303, HEADERS)
        return _page(request, "error.html", {"error": error}, "Refused", http_status(error.code))

    return answer


def _page(request: Request, template: str, values: Mapping[str, Any], title: str, status: int) -> Response:
    """One that stands alone, for whoever it is."""
    key = cookie(request, "-form") or secrets.token_urlsafe(24)
    around = {"title": title, "section": "", "who": None, "events": "", "figures": ""}
    answer = HTMLResponse(document(fragment(template, values), key, **around), status, HEADERS)
    set_cookie(request, answer, key, "-form")
    return answer


def _sign_in_page(request: Request, target: str, error: PlatformError | None = None) -> Response:
    status = http_status(error.code) if error else 200
    return _page(request, "sign_in.html", {"next": target, "error": error}, "Sign in", status)


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    content = statics().get(name)
    if content is None:
        raise PlatformError(ErrorCode.NOT_FOUND, "there is no such file")
    headers = HEADERS | {"cache-control": "public, max-age=31536000, immutable"}
    return Response(content, media_type=TYPES[name.rpartition(".")[2]], headers=headers)


async def _wait(wake: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await wake.wait()
    except TimeoutError:
        return
    wake.clear()


def _hash(live: str) -> str:
    return hashlib.sha256(live.encode()).hexdigest()
