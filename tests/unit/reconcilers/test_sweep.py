"""Services at rest: nobody passes over them, and one look at all of them sees what has changed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service
from santiago_platform.reconcilers import rollout
from santiago_platform.reconcilers.rollout import RolloutReconciler
from santiago_platform.testing.eventually import eventually

ANN = Principal(name="ann", role=Role.DEVELOPER)


@dataclass
class Running:
    """A platform whose loop runs, and the passes that were counted."""

    platform: FakePlatform = field(default_factory=FakePlatform)
    passes: Counter[str] = field(default_factory=Counter)

    def count(self, loop: str, _outcome: str, _seconds: float) -> None:
        self.passes[loop] += 1

    async def swept(self, times: int) -> None:
        until = self.passes["sweep"] + times
        await eventually(self.sweeps, lambda sweeps: sweeps >= until)

    async def sweeps(self) -> int:
        return self.passes["sweep"]

    async def instances(self) -> set[str]:
        return {status.instance.id for status in await self.platform.compute.list()}

    async def routes(self) -> set[tuple[str, str]]:
        return set(self.platform.traffic.routes)


@pytest.fixture
async def running(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """With one service that is deployed and at rest."""
    monkeypatch.setattr(rollout, "SWEEP_SECONDS", 0.0)
    running = Running()
    asked = DeployRequest(service="web", environment="production", git_ref="v1", replicas=2)
    loop = RolloutReconciler(running.platform.ports, running.count)
    await deploy_service(running.platform.ports, ANN, asked)
    task = asyncio.create_task(loop.run())

    async def settled() -> bool:
        running.platform.clock.advance(0.5)
        return not await running.platform.store.read(lambda v: v.operations(running=True))

    await eventually(settled)
    await running.swept(3)
    yield running
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_service_at_rest_is_not_passed_over(running: Running) -> None:
    before = running.passes["rollout"]
    await running.swept(20)
    assert running.passes["rollout"] == before


async def test_an_instance_that_is_gone_comes_back(running: Running) -> None:
    wanted = await running.instances()
    await running.platform.compute.stop(min(wanted))
    await eventually(running.instances, lambda instances: instances == wanted)


async def test_a_route_that_is_gone_comes_back_without_a_pass(running: Running) -> None:
    before = running.passes["rollout"]
    await running.platform.traffic.remove("web", "production")
    await eventually(running.routes, lambda routes: ("web", "production") in routes)
    assert running.passes["rollout"] == before
