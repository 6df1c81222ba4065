from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx2
import pytest

from santiago_platform.adapters.fake.traffic import EDGES, FakeTraffic
from santiago_platform.adapters.local.envoy import EnvoyTraffic
from santiago_platform.domain.route import hostname
from santiago_platform.testing.canary import ALWAYS, canary, follow
from santiago_platform.testing.counters import Clients, CountersContract
from santiago_platform.testing.envoy_pair import EnvoyPair
from santiago_platform.testing.upstream import Upstream

Start = Callable[..., Awaitable[Upstream]]
Restart = Callable[[], Awaitable[None]]


@pytest.fixture
async def pair(upstream: Start) -> tuple[Upstream, Upstream]:
    return await upstream("v1"), await upstream("v2")


class FakeClients:
    """In turns through both proxies, as connections are."""

    def __init__(self, traffic: FakeTraffic, pair: tuple[Upstream, Upstream]) -> None:
        self._traffic = traffic
        self._pair = pair

    async def _count(self, version: str, times: int, requests: int, errors: int = 0, abandoned: int = 0) -> None:
        within = dict.fromkeys(EDGES, int(requests > errors))
        (route,) = self._traffic.routes.values()
        for n in range(times):
            proxy = ("proxy-a", "proxy-b")[n % 2]
            self._traffic.count(
                version, requests=requests, errors=errors, abandoned=abandoned, within=within, proxy=proxy
            )
            if route.mirror:
                failed = int(self._pair[1].status == 500)
                self._traffic.count(route.mirror.version, requests=1, errors=failed, mirrored=True, proxy=proxy)

    async def succeed(self, version: str, times: int) -> None:
        await self._count(version, times, 1)

    async def fail(self, version: str, times: int) -> None:
        await self._count(version, times, 1, 1)

    async def be_repeated(self, version: str, times: int) -> None:
        await self._count(version, times, 2, 1)

    async def be_refused(self, version: str, times: int) -> None:
        await self._count(version, times, 1, 1)

    async def be_cut(self, version: str, times: int) -> None:
        await self._count(version, times, 1, 1)

    async def give_up(self, version: str, times: int) -> None:
        await self._count(version, times, 0, 0, 1)


class TestFakeCounters(CountersContract):
    @pytest.fixture
    def traffic(self) -> FakeTraffic:
        return FakeTraffic()

    @pytest.fixture
    def clients(self, traffic: FakeTraffic, pair: tuple[Upstream, Upstream]) -> Clients:
        return FakeClients(traffic, pair)

    @pytest.fixture
    def restart(self, traffic: FakeTraffic) -> Restart:
        async def restart() -> None:
            traffic.restart("proxy-a")

        return restart


class HttpClients:
    """Through the ingress, on fresh connections, which reach both Envoys."""

    def __init__(self, port: int, pair: tuple[Upstream, Upstream]) -> None:
        self._port = port
        self._upstreams = dict(zip(("v1", "v2"), pair, strict=True))

    async def _ask(self, version: str, method: str = "GET", path: str = "/", timeout: float = 10) -> int | str:
        headers = {"host": hostname("web", "production"), "x-canary": "always" if version == "v2" else "never"}
        try:
            async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=timeout) as client:
                answer = await client.request(method, f"http://127.0.0.1:{self._port}{path}", headers=headers)
                return answer.status_code
        except httpx2.HTTPError as exc:
            return type(exc).__name__

    async def succeed(self, version: str, times: int) -> None:
        assert [await self._ask(version) for _ in range(times)] == [200] * times

    async def fail(self, version: str, times: int) -> None:
        self._upstreams[version].status = 500
        assert [await self._ask(version) for _ in range(times)] == [500] * times
        self._upstreams[version].status = 200

    async def be_repeated(self, version: str, times: int) -> None:
        for _ in range(times):
            self._upstreams[version].resets = 1
            assert await self._ask(version) == 200

    async def be_refused(self, version: str, times: int) -> None:
        for _ in range(times):
            self._upstreams[version].resets = 1
            assert await self._ask(version, "POST") == 503

    async def be_cut(self, version: str, times: int) -> None:
        for _ in range(times):
            self._upstreams[version].truncates = 1
            assert await self._ask(version) == "RemoteProtocolError"

    async def give_up(self, version: str, times: int) -> None:
        assert [await self._ask(version, path="/hold", timeout=0.1) for _ in range(times)] == ["ReadTimeout"] * times


class TestEnvoyCounters(CountersContract):
    @pytest.fixture
    def traffic(self, envoy_traffic: EnvoyTraffic) -> EnvoyTraffic:
        return envoy_traffic

    @pytest.fixture
    def clients(self, envoys: EnvoyPair, pair: tuple[Upstream, Upstream]) -> Clients:
        return HttpClients(envoys.ingress_port, pair)

    @pytest.fixture
    def restart(self, envoys: EnvoyPair) -> Restart:
        async def restart() -> None:
            envoys.kill("envoy-b")
            await asyncio.to_thread(envoys.start, "envoy-b")

        return restart

    async def test_an_envoy_that_is_down_or_frozen_is_left_out(
        self, traffic: EnvoyTraffic, pair: tuple[Upstream, Upstream], envoys: EnvoyPair
    ) -> None:
        await follow(traffic, canary(*pair, matches=(ALWAYS,)))
        envoys.freeze("envoy-b")
        try:
            began = time.monotonic()
            assert [c.proxy for c in await traffic.counters("web", "production")] == ["envoy-a"]
            assert time.monotonic() - began < 4
        finally:
            envoys.thaw("envoy-b")
        assert [c.proxy for c in await traffic.counters("web", "production")] == ["envoy-a", "envoy-b"]
