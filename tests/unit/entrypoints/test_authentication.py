"""A caller is remembered for a moment, and a revoked one is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.errors import PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.session import alone
from santiago_platform.entrypoints.authentication import REMEMBERED_SECONDS, Authenticator, bearer
from santiago_platform.operations.issue_token import IssuedToken, TokenRequest, issue_token, revoke_token

ROOT = Principal(name="root", role=Role.OWNER)


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform()


async def issue(platform: FakePlatform) -> IssuedToken:
    return await issue_token(platform.ports, ROOT, TokenRequest(name="ann", role=Role.QA))


async def test_a_caller_is_looked_up_once_in_a_moment(platform: FakePlatform) -> None:
    issued = await issue(platform)
    authenticator = Authenticator(platform.ports)
    first = await authenticator.caller(issued.token)
    assert alone(first.principal) == issued.principal
    assert first.principal.session, "it is given one"
    assert await authenticator.caller(issued.token) is first
    platform.clock.advance(REMEMBERED_SECONDS)
    assert await authenticator.caller(issued.token) is not first


async def test_a_revoked_caller_is_refused_at_once(platform: FakePlatform) -> None:
    issued = await issue(platform)
    authenticator = Authenticator(platform.ports)
    await authenticator.caller(issued.token)
    await revoke_token(platform.ports, ROOT, issued.id)
    authenticator.forget()
    with pytest.raises(PlatformError, match="revoked"):
        await authenticator.caller(issued.token)


async def test_what_was_read_before_a_revocation_is_not_remembered_after_it(platform: FakePlatform) -> None:
    issued = await issue(platform)
    authenticator = Authenticator(platform.ports)
    read, looked, go_on = platform.store.read, asyncio.Event(), asyncio.Event()

    async def slow(view: Callable[[Any], Any]) -> Any:
        found = await read(view)
        looked.set()
        await go_on.wait()
        return found

    platform.store.read = slow  # type: ignore[method-assign]
    late = asyncio.create_task(authenticator.caller(issued.token))
    await looked.wait()
    platform.store.read = read  # type: ignore[method-assign]
    await revoke_token(platform.ports, ROOT, issued.id)
    authenticator.forget()
    go_on.set()
    await late
    with pytest.raises(PlatformError):
        await authenticator.caller(issued.token)


@pytest.mark.parametrize("value", [b"", b"Bearer", b"Bearer  ", b"Basic x", b"Bearerx"])
def test_what_is_no_bearer_token_is_refused_with_the_way_to_one(value: bytes) -> None:
    with pytest.raises(PlatformError, match="a bearer token is needed") as raised:
        bearer({"headers": [(b"authorization", value)]})
    assert "santiago token issue" in raised.value.hint


def test_the_scheme_may_be_written_in_any_case() -> None:
    assert bearer({"headers": [(b"authorization", b"bEARER sntg_1_2")]}) == "sntg_1_2"
