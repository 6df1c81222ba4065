from __future__ import annotations

import asyncio

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.ship_log import Draft, Entry, EntryKind
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service
from santiago_platform.reconcilers.rollout import RolloutReconciler

ANN = Principal(name="ann", role=Role.DEVELOPER)


async def test_an_entry_is_completed_once_where_two_look_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    platform = FakePlatform()
    append = platform.ship_log.append
    writable = False

    async def slow(draft: Draft) -> Entry:
        await asyncio.sleep(0.01)
        if draft.kind is EntryKind.COMPLETED and not writable:
            raise PlatformError(ErrorCode.RESOURCE_EXHAUSTED, "the disk is full", "free some space")
        return await append(draft)

    monkeypatch.setattr(platform.ship_log, "append", slow)
    await deploy_service(platform.ports, ANN, DeployRequest(service="web", environment="production", git_ref="v1"))
    loop = RolloutReconciler(platform.ports)
    while await platform.store.read(lambda v: v.operations(running=True)):
        await asyncio.gather(loop.pass_over_all(), return_exceptions=True)
        platform.clock.advance(0.2)
    writable = True
    await asyncio.gather(loop.pass_over_all(), loop.pass_over_all())
    assert await platform.ship_log.unfinished() == []
    assert await platform.store.read(lambda v: v.operations(unlogged=True)) == []
