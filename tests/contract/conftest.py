from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.local import binaries
from santiago_platform.adapters.local.envoy import EnvoyTraffic
from santiago_platform.testing.envoy_pair import EnvoyPair
from santiago_platform.testing.traffic import ENVIRONMENT, SERVICE, seen
from santiago_platform.testing.upstream import Upstream


@pytest.fixture(scope="session")
def binary() -> Callable[[str], Path]:
    """The daemons of one machine by name, fetched at first where they are not on PATH."""

    def find(name: str) -> Path:
        if binaries.find(name) is None:
            binaries.fetch()
        found = binaries.find(name)
        assert found is not None, f"{name} is missing"
        return found.path

    return find


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A workspace of the test module's own."""
    return Layout.of(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module")
def free_port() -> Callable[[], int]:
    """Ports that nobody listens on, none twice."""
    given: set[int] = set()

    def choose() -> int:
        while True:
            port = random.randrange(31000, 32700)
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
            if port not in given:
                given.add(port)
                return port

    return choose


@pytest.fixture(scope="module")
def claim(free_port: Callable[[], int]) -> Callable[[str], int]:
    """Ports by purpose, as a registry gives them."""
    given: dict[str, int] = {}

    def claim(purpose: str) -> int:
        if purpose not in given:
            given[purpose] = free_port()
        return given[purpose]

    return claim


@pytest.fixture(scope="module")
def envoys(layout: Layout, free_port: Callable[[], int], binary: Callable[[str], Path]) -> Iterator[EnvoyPair]:
    pair = EnvoyPair(layout, binary("envoy"), free_port)
    pair.start()
    yield pair
    pair.stop()


@pytest.fixture
async def envoy_traffic(envoys: EnvoyPair, claim: Callable[[str], int]) -> AsyncIterator[EnvoyTraffic]:
    """Of the running pair, without routes."""
    traffic = EnvoyTraffic(envoys.layout, claim)
    yield traffic
    for service in (SERVICE, "shop"):
        await traffic.remove(service, ENVIRONMENT)
        await seen(traffic, lambda status: not status.known, service)
    await traffic.close()


@pytest.fixture
async def upstream() -> AsyncIterator[Callable[..., Awaitable[Upstream]]]:
    """Starts tiny services: `await upstream(VERSION, index)`; all end with the test."""
    running: list[Upstream] = []

    async def start(version: str, index: int = 0) -> Upstream:
        running.append(await Upstream(version, f"{SERVICE}__{ENVIRONMENT}__{version}__{index}").start())
        return running[-1]

    yield start
    for one in running:
        await one.stop()
