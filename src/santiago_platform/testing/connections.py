"""The contract of an ingress as to connections: a service's own port, HTTP/2, gRPC, WebSockets, uploads, streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx2
import pytest

from ..domain.route import Backend, hostname
from ..ports.traffic import Traffic
from .eventually import eventually
from .grpc import GrpcClient, GrpcUpstream
from .traffic import ENVIRONMENT, SERVICE, Load, backend, followed, forgotten, route, seen
from .upstream import Upstream

Start = Callable[..., Awaitable[Upstream]]
HOST = hostname(SERVICE, ENVIRONMENT)
UPLOAD_BYTES = 200 << 20


class WebSocket:
    """As a client sees it, as far as the echo goes: bytes, without frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    @asynccontextmanager
    async def open(cls, port: int, host: str = HOST) -> AsyncIterator[WebSocket]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"GET /ws HTTP/1.1\r\nhost: {host}\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n".encode()
        )
        async with asyncio.timeout(5):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert head.startswith("HTTP/1.1 101 "), head
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        one = cls(reader, writer)
        one.version = headers["x-santiago-version"]
        try:
            yield one
        finally:
            writer.transport.abort()

    version = ""

    async def echoes(self, text: bytes = b"ping") -> bool:
        """Whether what is sent comes back; not where the connection has ended."""
        try:
            self._writer.write(text)
            async with asyncio.timeout(5):
                return await self._reader.readexactly(len(text)) == text
        except (ConnectionError, asyncio.IncompleteReadError):
            return False


async def switch(traffic: Traffic, old: Upstream, new: Upstream) -> None:
    """All traffic goes from one version to another, and the old one drains."""
    await traffic.apply(route(backend("v1", 1, old.endpoint()), backend("v2", 0, new.endpoint())))
    await seen(traffic, lambda s: new.instance in s.healthy)
    await traffic.apply(route(backend("v1", 0, old.endpoint(draining=True)), backend("v2", 1, new.endpoint())))
    await seen(traffic, lambda s: s.weights == {"v2": 1})


def grpc(version: str, weight: int, *upstreams: GrpcUpstream, draining: bool = False) -> Backend:
    endpoints = tuple(u.endpoint(draining=draining) for u in upstreams)
    return Backend(version=version, weight=weight, endpoints=endpoints, protocol="h2c")


class ConnectionContract:
    """Fixtures: `traffic`; `upstream(version, index)`, a new Upstream; `ingress`, the port on 127.0.0.1; `own_port`,
    which gives the port of a service."""

    # --- a port of its own ------------------------------------------------------------------------------------

    async def test_a_service_is_reached_at_a_port_of_its_own_without_a_name(
        self, traffic: Traffic, upstream: Start, own_port: Callable[[str], int]
    ) -> None:
        port = own_port(SERVICE)
        await traffic.apply(route(backend("v1", 1, (await upstream("v1")).endpoint())))
        status = await seen(traffic, followed(1))
        assert status.address == f"127.0.0.1:{port}"
        async with httpx2.AsyncClient(trust_env=False) as client:
            for place in ("127.0.0.1", "localhost"):
                answer = await client.get(f"http://{place}:{port}/some?path")
                assert (answer.status_code, answer.text) == (200, "v1")

    async def test_its_port_stays_and_answers_in_words_while_it_is_not_deployed(
        self, traffic: Traffic, upstream: Start, own_port: Callable[[str], int]
    ) -> None:
        port = own_port("later")
        async with httpx2.AsyncClient(trust_env=False) as client:

            async def ask() -> str:
                await traffic.status("later", ENVIRONMENT)
                try:
                    answer = await client.get(f"http://127.0.0.1:{port}/")
                except httpx2.ConnectError:
                    return "nobody listens"
                return f"{answer.status_code} {answer.text}"

            await eventually(ask, lambda text: text == f"503 later is not deployed in {ENVIRONMENT} yet\n")
            await traffic.apply(route(backend("v7", 1, (await upstream("v7")).endpoint()), service="later"))
            await eventually(ask, lambda text: text == "200 v7")
            await traffic.remove("later", ENVIRONMENT)
            await eventually(ask, lambda text: text.startswith("503 later is not deployed"))
        assert own_port("later") == port

    async def test_a_new_port_disturbs_no_request_of_the_others(
        self, traffic: Traffic, upstream: Start, ingress: int, own_port: Callable[[str], int]
    ) -> None:
        await traffic.apply(route(backend("v1", 1, (await upstream("v1")).endpoint())))
        await seen(traffic, followed(1))
        async with (
            Load(ingress).running() as load,
            WebSocket.open(own_port(SERVICE), f"localhost:{own_port(SERVICE)}") as held,
        ):
            for number in range(5):
                port = own_port(f"neighbour-{number}")

                async def listens(port: int = port) -> bool:
                    await traffic.status(SERVICE, ENVIRONMENT)
                    try:
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                    except OSError:
                        return False
                    writer.close()
                    return True

                await eventually(listens)
                await load.wait()
            assert await held.echoes()
        assert load.failed({"v1"}) == {}

    # --- HTTP/2 and gRPC --------------------------------------------------------------------------------------

    async def test_http_2_is_spoken_to_those_who_begin_with_it(
        self, traffic: Traffic, upstream: Start, ingress: int
    ) -> None:
        await traffic.apply(route(backend("v1", 1, (await upstream("v1")).endpoint())))
        await seen(traffic, followed(1))
        transport = httpx2.AsyncHTTPTransport(http1=False, http2=True, verify=False)
        async with httpx2.AsyncClient(transport=transport) as client:
            answers = await asyncio.gather(
                *(client.get(f"http://127.0.0.1:{ingress}/", headers={"host": HOST}) for _ in range(20))
            )
        assert {(a.status_code, a.text, a.http_version) for a in answers} == {(200, "v1", "HTTP/2")}

    async def test_grpc_works_through_a_switch_and_a_held_stream_stays_where_it_began(
        self, traffic: Traffic, ingress: int, own_port: Callable[[str], int]
    ) -> None:
        old = await GrpcUpstream("v1", f"{SERVICE}__{ENVIRONMENT}__v1__0").start()
        new = await GrpcUpstream("v2", f"{SERVICE}__{ENVIRONMENT}__v2__0").start()
        try:
            await traffic.apply(route(grpc("v1", 1, old)))
            await seen(traffic, followed(1))
            own = own_port(SERVICE)
            async with GrpcClient(ingress, HOST) as client, GrpcClient(own, f"127.0.0.1:{own}") as holder:
                assert await client.version() == "v1"
                held = await holder.begin("/test/Watch")
                await holder.send(held)
                assert await holder.receive(held) == "v1"
                await traffic.apply(route(grpc("v1", 1, old), grpc("v2", 0, new)))
                await seen(traffic, lambda s: new.instance in s.healthy)
                await traffic.apply(route(grpc("v1", 0, old, draining=True), grpc("v2", 1, new)))
                await seen(traffic, lambda s: s.weights == {"v2": 1})
                for _ in range(20):
                    assert await client.version() == "v2"
                await holder.send(held)
                assert await holder.receive(held) == "v1"
                assert (await traffic.status(SERVICE, ENVIRONMENT)).active_requests[old.instance] == 1
                await holder.send(held, end=True)
                assert await holder.receive(held) == "v1"
                await holder.end(held)
                assert await holder.version() == "v2"
            await seen(traffic, forgotten(old.instance))
        finally:
            await old.stop()
            await new.stop()

    async def test_a_grpc_call_to_nobody_gets_a_grpc_status(self, traffic: Traffic, ingress: int) -> None:
        async with GrpcClient(ingress, "nobody.production.localhost") as client:
            with pytest.raises(ValueError, match="grpc-status 12"):
                await client.version()

    # --- what lasts -------------------------------------------------------------------------------------------

    async def test_a_websocket_stays_with_the_version_that_it_began_with(
        self, traffic: Traffic, upstream: Start, ingress: int
    ) -> None:
        old, new = await upstream("v1"), await upstream("v2")
        await traffic.apply(route(backend("v1", 1, old.endpoint())))
        await seen(traffic, followed(1))
        async with WebSocket.open(ingress) as held:
            assert (held.version, await held.echoes()) == ("v1", True)
            await switch(traffic, old, new)
            async with WebSocket.open(ingress) as second:
                assert (second.version, await second.echoes()) == ("v2", True)
                assert await held.echoes()
                assert (await traffic.status(SERVICE, ENVIRONMENT)).active_requests[old.instance] == 1
                await old.stop()  # as at the end of the drain's limit
                assert not await held.echoes()
                assert await second.echoes()
        await seen(traffic, forgotten(old.instance))

    async def test_a_large_upload_and_a_streaming_answer_go_on_through_a_switch(
        self, traffic: Traffic, upstream: Start, ingress: int
    ) -> None:
        old, new = await upstream("v1"), await upstream("v2")
        await traffic.apply(route(backend("v1", 1, old.endpoint())))
        await seen(traffic, followed(1))
        half, go_on, chunk = asyncio.Event(), asyncio.Event(), bytes(1 << 20)

        async def body() -> AsyncIterator[bytes]:
            for number in range(UPLOAD_BYTES // len(chunk)):
                if number == UPLOAD_BYTES // len(chunk) // 2:
                    half.set()
                    await go_on.wait()
                yield chunk

        url, headers = f"http://127.0.0.1:{ingress}", {"host": HOST}
        async with httpx2.AsyncClient(trust_env=False, timeout=30, headers=headers) as client:
            length = {"content-length": str(UPLOAD_BYTES)}
            upload = asyncio.create_task(client.post(f"{url}/upload", content=body(), headers=length))
            async with client.stream("GET", f"{url}/stream") as stream:
                lines = stream.aiter_lines()
                assert await anext(lines) == "v1"
                await half.wait()
                await switch(traffic, old, new)
                assert (await client.get(url)).text == "v2"
                go_on.set()
                assert (await upload).text == "v1"
                old.release.set()
                assert {line async for line in lines} == {"v1"}
        assert old.received == UPLOAD_BYTES
        await seen(traffic, forgotten(old.instance))

    async def test_clients_that_go_away_leave_nothing_behind(
        self, traffic: Traffic, upstream: Start, ingress: int
    ) -> None:
        one = await upstream("v1")
        await traffic.apply(route(backend("v1", 1, one.endpoint())))
        await seen(traffic, followed(1))
        starts = [b"GET /hold HTTP/1.1\r\nhost: %b\r\n\r\n", b"GET /stream HTTP/1.1\r\nhost: %b\r\n\r\n"]
        starts.append(b"POST /upload HTTP/1.1\r\nhost: %b\r\ncontent-length: 1000000\r\n\r\nbegun")
        writers = []
        for number in range(30):
            _, writer = await asyncio.open_connection("127.0.0.1", ingress)
            writer.write(starts[number % len(starts)] % HOST.encode())
            writers.append(writer)
        await seen(traffic, lambda s: s.active_requests == {one.instance: 30})
        for writer in writers:
            writer.transport.abort()
        await seen(traffic, lambda s: s.active_requests == {one.instance: 0})
        async with Load(ingress).running() as load:
            await load.wait()
        assert load.failed({"v1"}) == {}
