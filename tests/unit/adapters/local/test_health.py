from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from santiago_platform.adapters.local import health
from santiago_platform.adapters.local.health import check
from santiago_platform.adapters.process import processes_of
from santiago_platform.domain.route import Endpoint
from santiago_platform.domain.workload import HttpGet, Probe
from santiago_platform.testing.eventually import eventually

Answer = Callable[[bytes], Awaitable[dict[str, Endpoint]]]
GET = Probe(http_get=HttpGet(path="/healthz", port="http"))


@pytest.fixture
async def answer() -> AsyncIterator[Answer]:
    """A server that says these bytes to every request, and hangs up."""
    servers: list[asyncio.Server] = []

    async def serve(said: bytes) -> dict[str, Endpoint]:
        async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(said)
            writer.close()

        heard: list[bytes] = []
        server = await asyncio.start_server(reply, "127.0.0.1", 0)
        servers.append(server)
        serve.heard = heard  # type: ignore[attr-defined]
        return {"http": Endpoint(instance="i", host="127.0.0.1", port=server.sockets[0].getsockname()[1])}

    yield serve
    for server in servers:
        server.close()


async def looked(probe: Probe, endpoints: dict[str, Endpoint] | None = None, tmp: Path = Path("/")) -> str | None:
    return await check(probe, endpoints or {}, tmp, dict(os.environ))


@pytest.mark.parametrize("status", [200, 204, 301, 399])
async def test_an_answer_below_400_is_healthy(answer: Answer, status: int) -> None:
    assert await looked(GET, await answer(f"HTTP/1.1 {status} Fine\r\n\r\n".encode())) is None


@pytest.mark.parametrize("status", [100, 400, 404, 500, 503])
async def test_another_answer_is_told(answer: Answer, status: int) -> None:
    said = await looked(GET, await answer(f"HTTP/1.0 {status}\r\n\r\n".encode()))
    assert said == f"GET /healthz answered {status}"


@pytest.mark.parametrize(
    "said", [b"", b"\r\n", b"HTTP/1.1", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n", b"\xff\x00 200\n"]
)
async def test_what_is_not_http_is_told(answer: Answer, said: bytes) -> None:
    assert await looked(GET, await answer(said)) == "GET /healthz was not answered in HTTP"


async def test_an_endless_first_line_breaks_off(answer: Answer) -> None:
    assert "broke off" in (await looked(GET, await answer(b"HTTP/1.1 " + b"2" * 200_000)) or "")


async def test_the_request_has_the_host_and_headers_that_the_probe_says(answer: Answer) -> None:
    endpoints = await answer(b"HTTP/1.1 200 OK\r\n\r\n")
    get = HttpGet(path="/live?deep=1", port="http", host="shop.example", headers=(("X-Probe", "yes"),))
    assert await looked(Probe(http_get=get), endpoints) is None
    (request,) = answer.heard  # type: ignore[attr-defined]
    lines = request.decode().split("\r\n")
    assert lines[0] == "GET /live?deep=1 HTTP/1.1"
    assert {"Host: shop.example", "X-Probe: yes"} <= set(lines)


@pytest.mark.parametrize("probe", [GET, Probe()], ids=["HTTP", "a connection"])
async def test_a_port_that_nobody_listens_on_is_told(answer: Answer, probe: Probe) -> None:
    endpoints = {"http": Endpoint(instance="i", host="127.0.0.1", port=1)}
    assert await looked(probe, endpoints) == "nothing listens on PORT=1"


async def test_a_port_that_accepts_is_healthy_without_a_word(answer: Answer) -> None:
    assert await looked(Probe(), await answer(b"")) is None


async def test_without_a_port_and_a_command_it_is_healthy_while_it_runs() -> None:
    assert await looked(Probe()) is None


async def test_an_answer_that_does_not_come_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "TIMEOUT_SECONDS", 0.05)
    silent = await asyncio.start_server(lambda reader, writer: asyncio.sleep(5), "127.0.0.1", 0)
    endpoints = {"http": Endpoint(instance="i", host="127.0.0.1", port=silent.sockets[0].getsockname()[1])}
    assert await looked(GET, endpoints) == "GET /healthz did not answer within 0.05 s"
    silent.close()


async def test_a_command_runs_in_the_release_with_the_environment_of_the_instance(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    probe = Probe(command=("sh", "-c", 'test "$WORD" = "two words" && test -f file'))
    environment = {"PATH": os.defpath, "WORD": "two words"}
    assert await check(probe, {}, tmp_path, environment) is None
    assert await check(probe, {}, tmp_path / "..", environment) == "the probe's command exited with code 1"


async def test_a_command_that_is_missing_is_told() -> None:
    assert "cannot be started" in (await looked(Probe(command=("no-such-program",))) or "")


async def test_a_command_that_hangs_ends_with_all_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "COMMAND_TIMEOUT_SECONDS", 0.2)
    environment = {**os.environ, "SANTIAGO_WORKSPACE_ID": "hanging-probe"}
    said = await check(Probe(command=("sh", "-c", "sleep 60 & wait")), {}, Path("/"), environment)
    assert said == "the probe's command did not answer within 0.2 s"
    await eventually(_none_left)


async def test_what_a_command_leaves_in_the_background_ends_too() -> None:
    environment = {**os.environ, "SANTIAGO_WORKSPACE_ID": "hanging-probe"}
    assert await check(Probe(command=("sh", "-c", "sleep 60 &")), {}, Path("/"), environment) is None
    await eventually(_none_left)


async def _none_left() -> bool:
    return list(processes_of("hanging-probe")) == []
