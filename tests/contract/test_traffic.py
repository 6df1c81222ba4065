from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from santiago_platform.adapters.fake.traffic import FakeTraffic
from santiago_platform.adapters.layout import ENVOYS
from santiago_platform.adapters.local.envoy import EnvoyTraffic
from santiago_platform.adapters.local.envoy_process import drain
from santiago_platform.domain.route import Endpoint
from santiago_platform.testing.canary import CanaryContract
from santiago_platform.testing.connections import UPLOAD_BYTES, ConnectionContract, WebSocket
from santiago_platform.testing.envoy_pair import EnvoyPair
from santiago_platform.testing.eventually import eventually
from santiago_platform.testing.traffic import (
    IngressContract,
    Load,
    Serve,
    TrafficContract,
    backend,
    followed,
    route,
    seen,
)
from santiago_platform.testing.upstream import Upstream

Start = Callable[..., Awaitable[Upstream]]


class TestFakeTraffic(TrafficContract):
    @pytest.fixture
    def traffic(self) -> FakeTraffic:
        return FakeTraffic()

    @pytest.fixture
    def serve(self) -> Serve:
        async def serve(instance: str) -> Endpoint:
            return Endpoint(instance=instance, host="127.0.0.1", port=1)

        return serve

    @pytest.fixture
    def written(self, traffic: FakeTraffic) -> Callable[[], object]:
        return lambda: len(traffic.history)


class TestEnvoyTraffic(TrafficContract, IngressContract, ConnectionContract, CanaryContract):
    @pytest.fixture
    def traffic(self, envoy_traffic: EnvoyTraffic) -> EnvoyTraffic:
        return envoy_traffic

    @pytest.fixture
    def own_port(self, traffic: EnvoyTraffic) -> Callable[[str], int]:
        return lambda service: traffic.port(service, "production")

    @pytest.fixture
    def ingress(self, envoys: EnvoyPair) -> int:
        return envoys.ingress_port

    @pytest.fixture
    async def serve(self) -> AsyncIterator[Serve]:
        running: list[Upstream] = []

        async def serve(instance: str) -> Endpoint:
            running.append(await Upstream(instance.split("__")[2], instance).start())
            return running[-1].endpoint()

        yield serve
        for one in running:
            await one.stop()

    @pytest.fixture
    def written(self, envoys: EnvoyPair) -> Callable[[], object]:
        return lambda: sorted((e.name, e.inode(), e.stat().st_mtime_ns) for e in os.scandir(envoys.layout.xds))

    async def test_a_killed_envoy_costs_no_acknowledgement_and_follows_when_it_is_back(
        self, traffic: EnvoyTraffic, upstream: Start, envoys: EnvoyPair
    ) -> None:
        one, two = await upstream("v1"), await upstream("v2")
        await traffic.apply(route(backend("v1", 1, one.endpoint()), backend("v2", 0, two.endpoint())))
        await seen(traffic, followed(2))
        envoys.kill("envoy-a")
        try:
            await traffic.apply(route(backend("v1", 0, one.endpoint()), backend("v2", 1, two.endpoint())))
            await seen(traffic, lambda s: s.weights == {"v2": 1} and len(s.healthy) == 2)
        finally:
            envoys.start("envoy-a")
        await seen(traffic, lambda s: s.weights == {"v2": 1} and len(s.healthy) == 2)
        async with Load(envoys.ingress_port).running() as load:
            await load.wait(100)
        assert load.failed({"v2"}) == {}

    async def test_without_a_live_envoy_nothing_is_claimed_and_the_route_is_there_when_they_are_back(
        self, traffic: EnvoyTraffic, upstream: Start, envoys: EnvoyPair
    ) -> None:
        for name in ("envoy-a", "envoy-b"):
            envoys.kill(name)
        try:
            await traffic.apply(route(backend("v1", 1, (await upstream("v1")).endpoint())))
            status = await traffic.status("web", "production")
            assert (status.weights, status.healthy, status.known) == (None, frozenset(), frozenset())
        finally:
            envoys.start()
        await seen(traffic, lambda s: s.weights == {"v1": 1} and s.healthy)

    async def test_an_ingress_port_that_was_stolen_meanwhile_is_reported_and_taken_back_once_it_is_free(
        self, traffic: EnvoyTraffic, upstream: Start, envoys: EnvoyPair
    ) -> None:
        await traffic.apply(route(backend("v1", 1, (await upstream("v1")).endpoint())))
        await seen(traffic, followed(1))
        for name in ENVOYS:
            envoys.kill(name)
        with socket.create_server(("127.0.0.1", envoys.ingress_port)):
            coming_back = asyncio.create_task(asyncio.to_thread(envoys.start))

            async def concerns() -> list[str]:
                await traffic.status("web", "production")
                return traffic.concerns()

            said = await eventually(concerns, lambda found: len(found) == len(ENVOYS))
            assert "does not listen as it should: is a port of it taken?" in said[0]
        while not coming_back.done():
            await concerns()
        await coming_back
        assert await eventually(concerns, lambda found: not found) == []
        async with Load(envoys.ingress_port).running() as load:
            await load.wait()
        assert load.failed({"v1"}) == {}

    async def test_a_frozen_envoy_acknowledges_nothing(
        self, traffic: EnvoyTraffic, upstream: Start, envoys: EnvoyPair
    ) -> None:
        one, two = await upstream("v1"), await upstream("v2")
        await traffic.apply(route(backend("v1", 1, one.endpoint()), backend("v2", 0, two.endpoint())))
        await seen(traffic, followed(2))
        envoys.freeze("envoy-b")
        try:
            status = await seen(traffic, lambda s: s.weights is None)
            assert "envoy-b does not answer" in status.error
            assert status.healthy == frozenset()
        finally:
            envoys.thaw("envoy-b")
        await seen(traffic, lambda s: s.weights == {"v1": 1} and len(s.healthy) == 2)

    @pytest.mark.parametrize("text", ["{", '{"resources": [{"@type": "no.such/Thing"}]}'])
    async def test_a_file_that_somebody_broke_is_reported_then_mended_and_no_request_fails(
        self, traffic: EnvoyTraffic, upstream: Start, envoys: EnvoyPair, text: str
    ) -> None:
        await traffic.apply(route(backend("v1", 1, (await upstream("v1")).endpoint())))
        await seen(traffic, followed(1))
        file = envoys.layout.xds / "rds.json"
        async with Load(envoys.ingress_port).running() as load:
            broken = file.with_suffix(".broken")
            broken.write_text(text)
            broken.replace(file)
            status = await seen(traffic, lambda s: s.error)
            assert "refused rds.json and keeps its last good one" in status.error
            await load.wait()
            await seen(traffic, lambda s: not s.error and s.weights == {"v1": 1})
            await load.wait()
        assert load.failed({"v1"}) == {}
        assert json.loads(file.read_text())["version_info"]

    async def test_a_daemon_that_starts_again_goes_on_with_all_routes_and_writes_nothing(
        self,
        traffic: EnvoyTraffic,
        upstream: Start,
        written: Callable[[], object],
        envoys: EnvoyPair,
        claim: Callable[[str], int],
    ) -> None:
        wanted = route(backend("v1", 1, (await upstream("v1")).endpoint()))
        shop = route(backend("v7", 1, (await upstream("v7")).endpoint()), service="shop")
        for one in (wanted, shop):
            await traffic.apply(one)
            await seen(traffic, followed(1), one.service)
        before = written()
        again = EnvoyTraffic(envoys.layout, claim)
        await again.apply(wanted)
        assert (await again.status("shop", "production")).weights == {"v7": 1}
        assert written() == before
        await again.close()

    async def test_the_files_and_the_admin_are_private(self, traffic: EnvoyTraffic, envoys: EnvoyPair) -> None:
        layout = envoys.layout
        for path in (layout.xds, layout.runtime, *layout.xds.iterdir(), layout.envoy_admin("envoy-a")):
            assert path.stat().st_mode & 0o077 == 0, path

    async def test_each_request_is_a_line_of_json_without_its_query(
        self, traffic: EnvoyTraffic, upstream: Start, envoys: EnvoyPair
    ) -> None:
        one = await upstream("v1")
        await traffic.apply(route(backend("v1", 1, one.endpoint())))
        await seen(traffic, followed(1))
        path = f"/orders/{os.urandom(4).hex()}"
        hostile = "/" + '"\\x' * 400
        for asked in (f"{path}?token=secret", hostile):
            await self.ask(envoys.ingress_port, path=asked, headers={"x-request-id": "i" * 500})

        async def lines() -> list[dict[str, Any]]:
            written = "".join(envoys.log(name).read_text() for name in ("envoy-a", "envoy-b"))
            return [json.loads(line) for line in written.splitlines() if line.endswith("}")]

        found = await eventually(lines, lambda lines: any(line["path"] == path for line in lines))
        (line,) = [line for line in found if line["path"] == path]
        assert {key: line[key] for key in ("service", "environment", "version", "instance", "method", "status")} == {
            "service": "web",
            "environment": "production",
            "version": "v1",
            "instance": one.instance,
            "method": "GET",
            "status": 200,
        }
        assert (line["bytes"], line["request_id"], line["flags"]) == (2, "i" * 64, "-")
        assert line["traceparent"] is None
        assert datetime.fromisoformat(line["time"]).tzinfo is not None
        assert line["duration_ms"] >= 0
        assert max(len(json.dumps(line)) for line in found) < 2000
        assert "secret" not in json.dumps(found)

    async def test_a_large_upload_is_not_kept_in_memory(
        self, traffic: EnvoyTraffic, upstream: Start, envoys: EnvoyPair
    ) -> None:
        one = await upstream("v1")
        await traffic.apply(route(backend("v1", 1, one.endpoint())))
        await seen(traffic, followed(1))
        reader, writer = await asyncio.open_connection("127.0.0.1", envoys.ingress_port)
        head = "POST /upload HTTP/1.1\r\nhost: web.production.localhost\r\ncontent-length: %d\r\n\r\n"
        writer.write((head % UPLOAD_BYTES).encode())
        before, most = _resident(envoys), 0
        for _ in range(UPLOAD_BYTES >> 20):
            writer.write(bytes(1 << 20))
            await writer.drain()
            most = max(most, _resident(envoys))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
        assert one.received == UPLOAD_BYTES
        assert most - before < UPLOAD_BYTES // 5

    async def test_an_envoy_leaves_its_port_and_comes_back_without_a_failed_request(
        self, traffic: EnvoyTraffic, upstream: Start, envoys: EnvoyPair
    ) -> None:
        await traffic.apply(route(backend("v1", 1, (await upstream("v1")).endpoint())))
        await seen(traffic, followed(1))
        async with Load(envoys.ingress_port).running() as load:
            for name in ("envoy-a", "envoy-b", "envoy-a"):
                await load.wait()
                cut = await asyncio.to_thread(drain, envoys.layout.envoy_admin(name), envoys.pid(name), 30)
                assert cut == 0
                envoys.kill(name)
                await load.wait()
                await asyncio.to_thread(envoys.start, name)
            await load.wait()
        assert load.failed({"v1"}) == {}

    async def test_what_lasts_longer_than_the_limit_is_cut_when_an_envoy_leaves(
        self, traffic: EnvoyTraffic, upstream: Start, envoys: EnvoyPair
    ) -> None:
        await traffic.apply(route(backend("v1", 1, (await upstream("v1")).endpoint())))
        await seen(traffic, followed(1))
        async with AsyncExitStack() as stack:
            held = [await stack.enter_async_context(WebSocket.open(envoys.ingress_port)) for _ in range(12)]
            admin, pid = envoys.layout.envoy_admin("envoy-b"), envoys.pid("envoy-b")
            leaving = asyncio.create_task(asyncio.to_thread(drain, admin, pid, 1))
            while not leaving.done():
                assert all([await one.echoes() for one in held])
            cut = await leaving
            envoys.kill("envoy-b")
            stay = [await one.echoes() for one in held]
        await asyncio.to_thread(envoys.start, "envoy-b")
        assert stay.count(False) == cut


def _resident(envoys: EnvoyPair) -> int:
    """Bytes of memory that both have."""
    pages = (Path(f"/proc/{envoys.pid(name)}/statm").read_text().split()[1] for name in ("envoy-a", "envoy-b"))
    return sum(map(int, pages)) * os.sysconf("SC_PAGE_SIZE")
