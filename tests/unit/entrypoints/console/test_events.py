"""The stream that tells a page that it would show something else by now."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from html import unescape
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.entrypoints.authentication import Authenticator
from santiago_platform.entrypoints.console.console import Console
from santiago_platform.entrypoints.rates import Rates
from santiago_platform.entrypoints.resource_updates import WATCHES_OF_ONE
from santiago_platform.operations.issue_token import TokenRequest, issue_token
from santiago_platform.operations.messages import MailFields, send_mail

ROOT = Principal(name="root", role=Role.OWNER)
PAGE = "/console/messages"


class Place:
    """A console of its own, whose looks are made by hand, and a browser that has signed in."""

    def __init__(self, platform: FakePlatform, token: str) -> None:
        self.platform = platform
        self.console = Console(platform.ports, Authenticator(platform.ports), Rates(platform.ports))
        self.app = Starlette(routes=self.console.routes())
        self.http = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(self.app),
            base_url="http://localhost",
            headers={"origin": "http://localhost"},
        )
        self._token = token

    async def sign_in(self) -> None:
        key = await self.key("/console/sign-in")
        await self.http.post("/console/sign-in", data={"key": key, "token": self._token})

    async def key(self, path: str) -> str:
        found = re.search(r'name="key" value="([^"]+)"', (await self.http.get(path)).text)
        assert found
        return found[1]

    async def events_of(self, page: str) -> str:
        found = re.search(r'data-events="([^"]+)"', (await self.http.get(page)).text)
        assert found
        return unescape(found[1])

    @asynccontextmanager
    async def listening(self, url: str) -> AsyncIterator[asyncio.Queue[str]]:
        """What is sent, piece by piece; "" at the end."""
        pieces: asyncio.Queue[str] = asyncio.Queue()
        gone = asyncio.Event()
        cookies = "; ".join(f"{name}={value}" for name, value in self.http.cookies.items())
        path, _, query = url.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(b"host", b"localhost"), (b"cookie", cookies.encode())],
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
        }

        async def receive() -> dict[str, Any]:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                assert message["status"] == 200
            elif message.get("body") or not message.get("more_body"):
                await pieces.put(message["body"].decode())

        task = asyncio.create_task(self.app(scope, receive, send))
        try:
            assert (await asyncio.wait_for(pieces.get(), 5)).startswith("retry")
            yield pieces
        finally:
            gone.set()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def place(policy: Any) -> AsyncIterator[Place]:
    platform = FakePlatform(policy=policy)
    issued = await issue_token(platform.ports, ROOT, TokenRequest(name="owner", role=Role.OWNER))
    made = Place(platform, issued.token)
    await made.sign_in()
    yield made
    await made.http.aclose()


async def mail(place: Place, text: str) -> None:
    await send_mail(place.platform.ports, ROOT, MailFields(text=text), Role.OWNER)


async def test_a_page_is_told_once_that_it_changed_however_often_it_did(place: Place) -> None:
    async with place.listening(await place.events_of(PAGE)) as pieces:
        await place.console.updates.pass_over()
        assert pieces.empty()
        for number in range(50):
            await mail(place, f"mail {number}")
            await place.console.updates.pass_over()
        assert "event: changed" in await asyncio.wait_for(pieces.get(), 5)
        assert pieces.empty()


async def test_what_changed_before_it_listened_is_told_at_once(place: Place) -> None:
    url = await place.events_of(PAGE)
    await mail(place, "meanwhile")
    async with place.listening(url) as pieces:
        assert "event: changed" in await asyncio.wait_for(pieces.get(), 5)


async def test_a_page_that_may_not_be_seen_any_more_is_looked_at_again(place: Place, policy: Any) -> None:
    async with place.listening(await place.events_of(PAGE)) as pieces:
        policy.off = True
        await place.console.updates.pass_over()
        assert "event: changed" in await asyncio.wait_for(pieces.get(), 5)
        assert place.console.updates.count == 0
    assert (await place.http.get(PAGE)).status_code == 403


async def test_signing_out_ends_its_streams(place: Place) -> None:
    url = await place.events_of(PAGE)
    async with place.listening(url) as pieces:
        await place.http.post("/console/sign-out", data={"key": await place.key("/")})
        assert "event: ended" in await asyncio.wait_for(pieces.get(), 5)
        assert await asyncio.wait_for(pieces.get(), 5) == ""
    assert place.console.updates.count == 0
    assert (await place.http.get(url)).status_code == 401


async def test_a_reader_who_has_gone_is_forgotten(place: Place) -> None:
    async with place.listening(await place.events_of(PAGE)):
        assert place.console.updates.count == 1
    assert place.console.updates.count == 0


@pytest.mark.parametrize("page", ["/console/log/verification", "/console/figures/web/production", "/etc/passwd", ""])
async def test_nothing_else_is_listened_to(place: Place, page: str) -> None:
    assert (await place.http.get("/console/events", params={"page": page})).status_code == 404


async def test_streams_are_not_without_number(place: Place) -> None:
    url = await place.events_of(PAGE)
    async with AsyncExitStack() as stack:
        for _ in range(WATCHES_OF_ONE):
            await stack.enter_async_context(place.listening(url))
        assert (await place.http.get(url)).text == "retry: 60000\n\n", "and that is all"
        assert place.console.updates.count == WATCHES_OF_ONE
