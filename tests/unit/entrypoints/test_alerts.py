"""Alertmanager's webhook: answered once its alerts are stored, and otherwise so that they are sent again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.entrypoints.http import build_app
from santiago_platform.entrypoints.mcp_resources import read_resource
from santiago_platform.testing.alerts import alert, webhook

HOOK = "/hooks/alertmanager"
ANN = Principal(name="ann", role=Role.DEVELOPER)


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform()


@pytest.fixture
async def alertmanager(platform: FakePlatform) -> AsyncIterator[httpx2.AsyncClient]:
    async def nothing() -> Any:
        return {}

    app = build_app(platform.ports, status=nothing, problems=nothing, hook_token="hook")
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://localhost", headers={"authorization": "Bearer hook"}
    ) as client:
        yield client


async def test_a_message_is_stored_once_however_often_it_is_sent_and_read_as_a_resource(
    platform: FakePlatform, alertmanager: httpx2.AsyncClient
) -> None:
    body = webhook(alert(platform.clock.now()))
    answers = [await alertmanager.post(HOOK, json=body) for _ in range(2)]
    (id,) = answers[0].json()["incidents"]
    assert [answer.json() for answer in answers] == [
        {"received": 1, "incidents": [id]},
        {"received": 1, "incidents": []},
    ]
    listed, _ = await read_resource(platform.ports, ANN, "santiago://incidents")
    assert f'"id":"{id}"' in listed
    one, _ = await read_resource(platform.ports, ANN, f"santiago://incidents/{id}")
    assert "TooManyErrors fires" in one


@pytest.mark.parametrize("code", [ErrorCode.UNAVAILABLE, ErrorCode.RESOURCE_EXHAUSTED, ErrorCode.DEADLINE_EXCEEDED])
async def test_what_cannot_be_stored_is_answered_so_that_alertmanager_sends_it_again(
    platform: FakePlatform, alertmanager: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, code: ErrorCode
) -> None:
    async def refuse(_: Any) -> Any:
        raise PlatformError(code, "the store cannot write")

    body = webhook(alert(platform.clock.now()))
    with monkeypatch.context() as patch:
        patch.setattr(platform.store, "write", refuse)
        assert (await alertmanager.post(HOOK, json=body)).status_code == 503
    assert len((await alertmanager.post(HOOK, json=body)).json()["incidents"]) == 1


async def test_what_alertmanager_would_not_send_and_who_is_not_alertmanager_are_refused(
    alertmanager: httpx2.AsyncClient,
) -> None:
    assert (await alertmanager.post(HOOK, json={"status": "firing"})).status_code == 400
    stranger = {"authorization": "Bearer guessed"}
    assert (await alertmanager.post(HOOK, json={}, headers=stranger)).status_code == 401
