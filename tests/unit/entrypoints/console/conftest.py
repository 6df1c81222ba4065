"""The console over the platform in memory, and browsers that sign in to it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.adapters.policies.cedar import CedarPolicy
from santiago_platform.domain.change_request import ApprovalRule
from santiago_platform.domain.environment import Environment, Settings, Tenant
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.policy import Decision, Question, Verdict
from santiago_platform.entrypoints.http import build_app
from santiago_platform.operations.issue_token import TokenRequest, issue_token

ROOT = Principal(name="root", role=Role.OWNER)
SETTINGS = Settings(
    environments={"production": Environment(approvals=ApprovalRule(required=True)), "staging": Environment()},
    tenants={"bank": Tenant(services=("vault",))},
)


class Switch:
    """The default policies, or once it is `off`, none that permits anything."""

    def __init__(self) -> None:
        self.off = False
        self._policy = CedarPolicy()

    def decide(self, question: Question) -> Decision:
        return Decision(verdict=Verdict.DENY, rules=("harbour-closed",)) if self.off else self._policy.decide(question)

    def version(self) -> str:
        return self._policy.version()

    def problems(self) -> list[str]:
        return []


class Visitor:
    """A browser: it keeps cookies, says where its forms come from, and sends them as they stand on the page."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http

    async def get(self, path: str) -> httpx2.Response:
        return await self.http.get(path)

    async def key(self, path: str = "/") -> str:
        found = re.search(r'name="key" value="([^"]+)"', (await self.get(path)).text)
        assert found, "a page with a form"
        return found[1]

    async def send(self, path: str, page: str = "/", **fields: str) -> httpx2.Response:
        return await self.http.post(path, data={"key": await self.key(page), **fields})

    async def sign_in(self, token: str, target: str = "/") -> httpx2.Response:
        page = "/console/sign-in"
        return await self.send(page, page, token=token, next=target)


SignedIn = Callable[..., Awaitable[Visitor]]


@pytest.fixture
def policy() -> Switch:
    return Switch()


@pytest.fixture
def platform(policy: Switch) -> FakePlatform:
    return FakePlatform(policy=policy, workspace=FakeWorkspace(("web", "vault"), SETTINGS))


@pytest.fixture
def app(platform: FakePlatform) -> Any:
    async def nothing() -> Any:
        return {}

    return build_app(platform.ports, status=nothing, problems=nothing, hook_token="hook", hosts=("localhost",))


@pytest.fixture
async def visit(app: Any) -> AsyncIterator[Callable[..., Awaitable[Visitor]]]:
    """A browser of nobody's, at http://localhost:8700 or by what else is said."""
    async with AsyncExitStack() as stack:

        async def open(base: str = "http://localhost:8700") -> Visitor:
            client = httpx2.AsyncClient(
                transport=httpx2.ASGITransport(app), base_url=base, headers={"origin": base}, follow_redirects=False
            )
            return Visitor(await stack.enter_async_context(client))

        yield open


@pytest.fixture
async def signed_in(platform: FakePlatform, visit: Callable[..., Awaitable[Visitor]]) -> SignedIn:
    async def sign_in(name: str = "owner", role: Role = Role.OWNER, tenant: str | None = None) -> Visitor:
        issued = await issue_token(platform.ports, ROOT, TokenRequest(name=name, role=role, tenant=tenant))
        visitor = await visit()
        assert (await visitor.sign_in(issued.token)).status_code == 303
        return visitor

    return sign_in
