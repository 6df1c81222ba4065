from __future__ import annotations

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.rate import RateLimit
from santiago_platform.entrypoints import rates
from santiago_platform.entrypoints.rates import Rates

ANN = Principal(name="ann", role=Role.DEVELOPER)


@pytest.fixture
def platform() -> FakePlatform:
    made = FakePlatform()
    made.workspace.current = made.workspace.current.model_copy(update={"rates": RateLimit(calls_per_second=1, burst=2)})
    return made


async def test_a_principal_is_held_to_its_rate_whatever_its_token_and_the_others_are_not(
    platform: FakePlatform,
) -> None:
    limits = Rates(platform.ports)
    limits.admit(ANN)
    limits.admit(ANN.model_copy(update={"role": Role.PM, "session": "se-2"}))
    with pytest.raises(PlatformError) as raised:
        limits.admit(ANN)
    assert (raised.value.code, raised.value.retry_after) == (ErrorCode.RESOURCE_EXHAUSTED, pytest.approx(1.0))
    limits.admit(ANN.model_copy(update={"tenant": "shop"}))
    await platform.clock.sleep(1)
    limits.admit(ANN)


def test_the_owner_is_never_held_up(platform: FakePlatform) -> None:
    limits = Rates(platform.ports)
    for _ in range(10):
        limits.admit(Principal(name="root", role=Role.OWNER))


async def test_a_limit_that_was_raised_holds_a_moment_later(platform: FakePlatform) -> None:
    limits = Rates(platform.ports)
    limits.admit(ANN)
    platform.workspace.current = platform.workspace.current.model_copy(update={"rates": RateLimit(burst=50)})
    await platform.clock.sleep(1)
    for _ in range(50):
        limits.admit(ANN)


async def test_many_principals_do_not_fill_the_memory(platform: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "PRINCIPALS_KEPT", 10)
    limits = Rates(platform.ports)
    for number in range(100):
        limits.admit(Principal(name=f"p{number}", role=Role.QA))
        await platform.clock.sleep(1)
    assert len(limits._full_at) <= 11
