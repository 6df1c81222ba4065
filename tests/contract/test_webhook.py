from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from santiago_platform.adapters.fake.gates import FakeWebhook
from santiago_platform.adapters.webhook import HttpWebhook
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.gate import Reply
from santiago_platform.testing.webhook import WebhookContract

Says = Callable[[bool, str], None]


class TestFakeWebhook(WebhookContract):
    @pytest.fixture
    def webhook(self) -> FakeWebhook:
        return FakeWebhook()

    @pytest.fixture
    def url(self) -> str:
        return "http://hook/"

    @pytest.fixture
    def deaf_url(self) -> str:
        return "http://deaf/"

    @pytest.fixture
    def says(self, webhook: FakeWebhook, url: str) -> Says:
        return lambda passed, reason: webhook.replies.update({url: Reply(passed=passed, reason=reason)})

    @pytest.fixture
    def asked(self, webhook: FakeWebhook) -> list[dict[str, Any]]:
        return webhook.asked


class Server:
    """Answers each request with `status` and `content`, and keeps what came."""

    def __init__(self) -> None:
        self.status, self.content, self.location = 200, b"", ""
        self.heads: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.silent = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        length = next(
            int(line.split(":")[1]) for line in head.lower().splitlines() if line.startswith("content-length")
        )
        self.bodies.append(json.loads(await reader.readexactly(length)))
        if self.silent:
            await reader.read()  # until the other side gives up
        else:
            location = f"Location: {self.location}\r\n" if self.location else ""
            writer.write(f"HTTP/1.1 {self.status} X\r\n{location}Content-Length: {len(self.content)}\r\n\r\n".encode())
            writer.write(self.content)
        writer.close()


class TestHttpWebhook(WebhookContract):
    @pytest.fixture
    def webhook(self, tmp_path: Path) -> HttpWebhook:
        return HttpWebhook(tmp_path)

    @pytest.fixture
    def server(self) -> Server:
        return Server()

    @pytest.fixture
    async def url(self, server: Server) -> AsyncIterator[str]:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/gate"
        listening.close()

    @pytest.fixture
    def deaf_url(self, server: Server, url: str) -> str:
        server.silent = True
        return url

    @pytest.fixture
    def says(self, server: Server) -> Says:
        def say(passed: bool, reason: str) -> None:
            server.content = json.dumps({"pass": passed, "reason": reason}).encode()

        return say

    @pytest.fixture
    def asked(self, server: Server) -> list[dict[str, Any]]:
        return server.bodies

    @pytest.mark.parametrize(
        ("status", "content", "words"),
        [
            (500, b'{"pass": true}', "answered 500"),
            (204, b"", "did not answer"),
            (200, b"yes", "did not answer"),
            (200, b'{"pass": "true"}', "did not answer"),
            (200, b'{"passed": true}', "did not answer"),
            (200, b'{"pass": true, "x": "' + b"x" * 70_000 + b'"}', "answered more than 65536 bytes"),
        ],
    )
    async def test_whatever_is_no_clear_yes_or_no_is_unavailable(
        self, webhook: HttpWebhook, server: Server, url: str, status: int, content: bytes, words: str
    ) -> None:
        server.status, server.content = status, content
        with pytest.raises(PlatformError, match=words) as raised:
            await webhook.ask(url, {}, timeout_seconds=10, token_file=None)
        assert raised.value.code is ErrorCode.UNAVAILABLE

    async def test_a_redirect_is_not_followed(self, webhook: HttpWebhook, server: Server, url: str) -> None:
        server.status, server.location = 307, url
        with pytest.raises(PlatformError, match="answered 307"):
            await webhook.ask(url, {}, timeout_seconds=10, token_file=None)
        assert len(server.heads) == 1

    async def test_nobody_there_is_unavailable(self, webhook: HttpWebhook) -> None:
        with pytest.raises(PlatformError, match="could not be asked"):
            await webhook.ask("http://127.0.0.1:1/", {}, timeout_seconds=10, token_file=None)

    async def test_the_token_comes_from_a_file_and_is_in_no_error(
        self, webhook: HttpWebhook, server: Server, url: str, says: Says, tmp_path: Path
    ) -> None:
        (tmp_path / "token").write_text("s3cret\n")
        says(True, "")
        await webhook.ask(url, {}, timeout_seconds=10, token_file="token")
        assert "bearer s3cret" in server.heads[0].lower()
        server.status = 500
        with pytest.raises(PlatformError) as raised:
            await webhook.ask(url, {}, timeout_seconds=10, token_file=str(tmp_path / "token"))
        assert "s3cret" not in f"{raised.value} {raised.value.internal}"
        with pytest.raises(PlatformError, match="token cannot be read"):
            await webhook.ask(url, {}, timeout_seconds=10, token_file="gone")
