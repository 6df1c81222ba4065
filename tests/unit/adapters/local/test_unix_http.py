"""GET over a Unix socket: whole answers, a connection that is kept, and what a server may do wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from santiago_platform.adapters.local.unix_http import UnixHttp

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n4\r\n,two\r\n0\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain"


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[Awaitable[None]], None]]:
    """The daemon has the fast loop, tests have the other one as a rule: both must do."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        yield runner.run  # type: ignore[misc]


class Server:
    """answers: what each request gets; None: nothing. connections: that were made to it."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.asked: list[bytes] = []
        self.connections = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        while line := await reader.readline():
            self.asked.append(line)
            await reader.readuntil(b"\r\n\r\n")
            answer = self.answers.pop(0)
            if answer is not None:
                writer.write(answer)

    @asynccontextmanager
    async def listening(self, path: Path) -> Any:
        server = await asyncio.start_unix_server(self.serve, path)
        try:
            yield UnixHttp(path, timeout_seconds=5.0)
        finally:
            for writer in self.writers:
                writer.close()
            server.close()
            path.unlink(missing_ok=True)


def test_answers_come_whole_over_one_connection(run: Any, tmp_path: Path) -> None:
    async def body() -> None:
        server = Server(CHUNKED, PLAIN, CHUNKED)
        async with server.listening(tmp_path / "s") as client:
            assert [await client.get(target) for target in ("/a?b=c", "/b", "/c")] == [b"one,two", b"plain", b"one,two"]
            client.close()
        assert server.asked[0] == b"GET /a?b=c HTTP/1.1\r\n"
        assert server.connections == 1

    run(body())


def test_a_connection_kept_from_a_process_that_has_gone_is_made_anew(run: Any, tmp_path: Path) -> None:
    async def body() -> None:
        before, after = Server(PLAIN), Server(CHUNKED)
        async with before.listening(tmp_path / "s") as client:
            assert await client.get("/") == b"plain"
        async with after.listening(tmp_path / "s"):
            assert await client.get("/") == b"one,two"
            client.close()

    run(body())


def test_where_no_process_listens_is_told_apart_from_one_that_does_not_answer(run: Any, tmp_path: Path) -> None:
    async def body() -> None:
        with pytest.raises(FileNotFoundError):
            await UnixHttp(tmp_path / "s", 5.0).get("/")
        async with Server(None).listening(tmp_path / "t"):
            impatient = UnixHttp(tmp_path / "t", 0.05)
            with pytest.raises(TimeoutError):
                await impatient.get("/")

    run(body())


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(run: Any, tmp_path: Path) -> None:
    async def body() -> None:
        server = Server(None, CHUNKED)
        async with server.listening(tmp_path / "s"):
            client = UnixHttp(tmp_path / "s", 0.5)
            slow = asyncio.create_task(client.get("/slow"))
            while not server.asked:
                await asyncio.sleep(0.001)
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow
            server.writers[0].write(PLAIN)
            assert await client.get("/next") == b"one,two"
            client.close()

    run(body())


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", b"what?\r\n\r\n"], ids=["refused", "no HTTP"]
)
def test_what_is_no_success_is_an_error_that_says_so(run: Any, tmp_path: Path, answer: bytes) -> None:
    async def body() -> None:
        async with Server(answer, PLAIN).listening(tmp_path / "s") as client:
            with pytest.raises(ValueError, match=r"answered 404|not HTTP"):
                await client.get("/")
            assert await client.get("/") == b"plain"
            client.close()

    run(body())
