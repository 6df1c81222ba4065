"""Sessions belong to who opened them, expire, and are renewed by asking again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.session import KEPT
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service
from santiago_platform.operations.sessions import (
    SessionRequest,
    end_session,
    list_sessions,
    open_session,
    renew_session,
    within_session,
)

OWNER = Principal(name="root", role=Role.OWNER)
ANN = Principal(name="ann", role=Role.DEVELOPER)
OTHERS = [
    Principal(name="bob", role=Role.DEVELOPER),
    ANN.model_copy(update={"role": Role.PM}),
    ANN.model_copy(update={"tenant": "shop"}),
]
TWO_HOURS = 7200


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform()


async def refused(platform: FakePlatform, who: Principal, session: str) -> PlatformError:
    with pytest.raises(PlatformError) as raised:
        await within_session(platform.ports, who, session)
    assert raised.value.code is ErrorCode.FAILED_PRECONDITION
    return raised.value


async def test_who_opens_none_is_given_one_and_keeps_it_for_two_hours(platform: FakePlatform) -> None:
    first = await within_session(platform.ports, ANN, None)
    assert first.session.startswith("se-")
    await platform.clock.sleep(TWO_HOURS - 1)
    assert await within_session(platform.ports, ANN, None) == first
    await platform.clock.sleep(1)
    assert (await within_session(platform.ports, ANN, None)).session != first.session
    shown = (await list_sessions(platform.ports, ANN)).sessions
    assert [(s.purpose, s.open) for s in shown] == [("unstated", True), ("unstated", False)]


async def test_a_session_that_was_opened_expires_with_words_and_is_renewed_by_asking(platform: FakePlatform) -> None:
    opened = await open_session(platform.ports, ANN, SessionRequest(purpose="release day"))
    assert (await within_session(platform.ports, ANN, opened.id)).session == opened.id
    await platform.clock.sleep(TWO_HOURS)
    error = await refused(platform, ANN, opened.id)
    assert f"session {opened.id} expired at" in error.message
    assert "santiago session renew" in error.hint
    await renew_session(platform.ports, ANN, opened.id)
    assert (await within_session(platform.ports, ANN, opened.id)).session == opened.id


async def test_using_a_session_does_not_make_it_longer_nor_does_a_wish_beyond_the_settings(
    platform: FakePlatform,
) -> None:
    short = await open_session(platform.ports, ANN, SessionRequest(purpose="a look", ttl_seconds=60))
    long = await open_session(platform.ports, ANN, SessionRequest(purpose="for ever", ttl_seconds=10**9))
    assert (long.expires_at - long.opened_at) == timedelta(seconds=TWO_HOURS)
    for _ in range(3):
        await platform.clock.sleep(15)
        await within_session(platform.ports, ANN, short.id)
    await platform.clock.sleep(15)
    await refused(platform, ANN, short.id)


async def test_a_session_is_its_principals_alone_and_told_apart_from_none_by_nobody(platform: FakePlatform) -> None:
    opened = await open_session(platform.ports, ANN, SessionRequest(purpose="mine"))
    for other in OTHERS:
        mine, none = await refused(platform, other, opened.id), await refused(platform, other, "se-none")
        assert mine.message.replace(opened.id, "X") == none.message.replace("se-none", "X")
        if other.tenant == "default":
            assert (await list_sessions(platform.ports, other)).sessions == ()
            for ask in (renew_session, end_session):
                with pytest.raises(PlatformError, match="you have no session"):
                    await ask(platform.ports, other, opened.id)
    assert [s.id for s in (await list_sessions(platform.ports, OWNER)).sessions] == [opened.id]


async def test_an_ended_session_is_refused_and_what_began_within_it_goes_on(platform: FakePlatform) -> None:
    opened = await open_session(platform.ports, ANN, SessionRequest(purpose="one deploy"))
    caller = await within_session(platform.ports, ANN, opened.id)
    asked = DeployRequest(service="web", environment="production", git_ref="v1")
    operation = await deploy_service(platform.ports, caller, asked)
    assert platform.ship_log.entries[-1].body["session"] == opened.id
    await end_session(platform.ports, OWNER, opened.id)
    await refused(platform, ANN, opened.id)
    row = await platform.store.read(lambda v: v.operation(operation.id))
    assert row is not None
    assert (row.principal.session, row.state) == (opened.id, "running")


async def test_old_sessions_are_forgotten_when_a_new_one_opens(platform: FakePlatform) -> None:
    await open_session(platform.ports, ANN, SessionRequest(purpose="long ago"))
    await platform.clock.sleep((KEPT + timedelta(days=1)).total_seconds())
    await open_session(platform.ports, ANN, SessionRequest(purpose="today"))
    assert [s.purpose for s in (await list_sessions(platform.ports, ANN)).sessions] == ["today"]


async def test_a_full_disk_keeps_nobody_from_being_within_a_session(
    platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(_: object) -> None:
        raise PlatformError(ErrorCode.RESOURCE_EXHAUSTED, "the disk is full")

    monkeypatch.setattr(platform.store, "write", full)
    assert (await within_session(platform.ports, ANN, None)).session
