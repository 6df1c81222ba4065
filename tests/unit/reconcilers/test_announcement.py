"""Deployments announce themselves, over the platform in memory."""

from __future__ import annotations

from contextlib import suppress

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.operations.change import complete_operation
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service
from santiago_platform.operations.messages import MailboxQuery, read_mailbox
from santiago_platform.reconcilers.announcement import AnnouncementReconciler
from santiago_platform.reconcilers.rollout import RolloutReconciler

ANN = Principal(name="ann", role=Role.DEVELOPER)
PAM = Principal(name="pam", role=Role.PM)


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform()


async def texts(platform: FakePlatform, who: Principal = ANN) -> list[str]:
    """Oldest first."""
    view = await read_mailbox(platform.ports, who, MailboxQuery(limit=50))
    return [mail.text for mail in reversed(view.mails)]


def beginnings(told: list[str]) -> list[str]:
    return [text.split(";")[0] for text in told]


async def deploy(platform: FakePlatform, environment: str = "production", ref: str = "v1") -> str:
    request = DeployRequest(service="web", environment=environment, git_ref=ref)
    return (await deploy_service(platform.ports, ANN, request)).id


async def run_to_the_end(platform: FakePlatform) -> None:
    loop = RolloutReconciler(platform.ports)
    for _ in range(400):
        with suppress(PlatformError):  # as in its loop
            await loop.pass_over_all()
        platform.clock.advance(0.2)
        if not await platform.store.read(lambda v: v.operations(running=True)):
            return
    raise AssertionError("it hangs")


BEGUN = "the deployment of web to production by ann (developer) has begun"
ENDED = "the deployment of web to production by ann (developer) succeeded"


async def test_everybody_hears_of_a_deployment_to_production_once(platform: FakePlatform) -> None:
    await deploy(platform)
    await AnnouncementReconciler(platform.ports).pass_over()
    await AnnouncementReconciler(platform.ports).pass_over()  # of a daemon that was started again
    await run_to_the_end(platform)
    await AnnouncementReconciler(platform.ports).pass_over()
    assert beginnings(await texts(platform, PAM)) == [BEGUN, ENDED]


async def test_a_crash_before_the_end_was_stored_as_told_neither_loses_nor_doubles_it(platform: FakePlatform) -> None:
    operation_id = await deploy(platform)
    write = platform.store.write

    async def crashes(unit):  # type: ignore[no-untyped-def]
        found = await platform.store.read(lambda v: v.operation(operation_id))
        if found is not None and found.state.finished and not found.logged:
            raise PlatformError(ErrorCode.UNAVAILABLE, "killed")
        return await write(unit)

    platform.store.write = crashes  # type: ignore[method-assign]
    await run_to_the_end(platform)
    assert await texts(platform) == []
    platform.store.write = write  # type: ignore[method-assign]
    await RolloutReconciler(platform.ports).pass_over_all()
    ended = await platform.store.read(lambda v: v.operation(operation_id))
    assert ended is not None
    assert ended.logged
    await complete_operation(platform.ports, ended)
    assert beginnings(await texts(platform)) == [ENDED]


async def test_a_build_that_fails_in_staging_is_told_to_developers_and_not_to_all(platform: FakePlatform) -> None:
    commit = await platform.artifacts.resolve("v1")
    platform.artifacts.failing[commit] = PlatformError(ErrorCode.FAILED_PRECONDITION, "make: *** [all] Error 2")
    await deploy(platform, "staging")
    await AnnouncementReconciler(platform.ports).pass_over()
    await run_to_the_end(platform)
    [told] = await texts(platform)
    assert told.startswith("the deployment of web to staging by ann (developer) failed")
    assert "Error 2" in told
    assert await texts(platform, PAM) == []
