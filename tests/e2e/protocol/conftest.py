"""The real server on real sockets over the platform in memory, with its loop running beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.system import SystemClock
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.entrypoints.http import build_app
from santiago_platform.entrypoints.listener import listen_tcp, listen_unix, serve
from santiago_platform.entrypoints.metrics import ServerMetrics
from santiago_platform.operations.issue_token import IssuedToken, TokenRequest, issue_token
from santiago_platform.reconcilers.rollout import RolloutReconciler

ROOT = Principal(name="root", role=Role.OWNER)
HOOK_TOKEN = "hook-secret"


@dataclass
class Served:
    """A server that answers. problems: what /readyz shall say."""

    platform: FakePlatform
    url: str
    socket: Path
    owner: str
    problems: list[str] = field(default_factory=list)

    async def token(self, role: Role, tenant: str = "default") -> IssuedToken:
        request = TokenRequest(name=f"some-{role}", role=role, tenant=tenant)
        return await issue_token(self.platform.ports, ROOT, request)

    def http(self, token: str | None = None, **headers: str) -> httpx2.AsyncClient:
        bearer = {"authorization": f"Bearer {self.owner if token is None else token}"} if token != "" else {}
        return httpx2.AsyncClient(base_url=self.url, headers={**bearer, **headers}, timeout=30)

    @asynccontextmanager
    async def client(
        self, mode: str = "auto", path: str = "/mcp", token: str | None = None, **options: Any
    ) -> AsyncIterator[Client]:
        async with (
            self.http(token) as http,
            Client(streamable_http_client(self.url + path, http_client=http), mode=mode, **options) as client,
        ):
            yield client


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@asynccontextmanager
async def running(platform: FakePlatform, socket: Path) -> AsyncIterator[Served]:
    """Serves `platform` until the block ends. The same socket may be served again."""
    owner = await issue_token(platform.ports, ROOT, TokenRequest(name="owner", role=Role.OWNER))
    tcp = listen_tcp("127.0.0.1", 0)
    served = Served(platform, f"http://127.0.0.1:{tcp.getsockname()[1]}", socket, owner.token)

    async def status() -> dict[str, Any]:
        return {"services": 1}

    async def problems() -> list[str]:
        return served.problems

    app = build_app(platform.ports, status=status, problems=problems, hook_token=HOOK_TOKEN, metrics=ServerMetrics())
    ready = asyncio.Event()
    tasks = [
        asyncio.create_task(RolloutReconciler(platform.ports).run()),
        asyncio.create_task(serve(app, [tcp, listen_unix(socket)], started=ready.set)),
    ]
    try:
        async with asyncio.timeout(10):
            await ready.wait()
        yield served
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def serve_again() -> Callable[[FakePlatform, Path], AbstractAsyncContextManager[Served]]:
    return running


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform(clock=SystemClock())  # type: ignore[arg-type]


@pytest.fixture
async def served(platform: FakePlatform, tmp_path: Path) -> AsyncIterator[Served]:
    async with running(platform, tmp_path / "daemon.sock") as server:
        yield server


@pytest.fixture
def eventually() -> Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]:
    async def wait(condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(10):
            while not await condition():
                await asyncio.sleep(0.01)

    return wait
