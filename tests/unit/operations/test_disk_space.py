from __future__ import annotations

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.environment import DiskLimits
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.operations.change import change
from santiago_platform.operations.disk_space import disk_state

OWNER = Principal(name="owner", role=Role.OWNER)
MIB = 1 << 20


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform()


async def begin(platform: FakePlatform) -> None:
    async with change(platform.ports, OWNER, "deploy_service", "web/production", {}):
        pass


async def test_a_change_on_a_disk_that_is_too_full_is_refused_before_anything_is_written(
    platform: FakePlatform,
) -> None:
    before = await platform.ship_log.head()
    platform.disk.free_bytes = 255 * MIB
    with pytest.raises(PlatformError, match=r"255\.0 MiB free") as refused:
        await begin(platform)
    assert refused.value.code is ErrorCode.RESOURCE_EXHAUSTED
    assert "free some space" in refused.value.hint
    assert await platform.ship_log.head() == before


async def test_space_that_is_freed_lets_changes_through_again(platform: FakePlatform) -> None:
    platform.disk.free_bytes = 0
    with pytest.raises(PlatformError):
        await begin(platform)
    platform.disk.free_bytes = 256 * MIB
    await begin(platform)
    assert (await platform.ship_log.head()).seq == 2


async def test_a_disk_that_is_nearly_full_still_takes_changes_and_is_a_warning(platform: FakePlatform) -> None:
    platform.disk.free_bytes = 300 * MIB
    await begin(platform)
    state = disk_state(platform.ports)
    assert state.problems == []
    assert state.warnings == [state.words]
    assert "changes stop below 256.0 MiB" in state.words


async def test_the_limits_are_those_of_the_settings(platform: FakePlatform) -> None:
    platform.disk.free_bytes = 10 << 30
    platform.workspace.current = platform.workspace.current.model_copy(
        update={"disk": DiskLimits(warn_bytes=50 << 30, stop_bytes=20 << 30)}
    )
    with pytest.raises(PlatformError):
        await begin(platform)


async def test_settings_that_cannot_be_read_leave_the_defaults(
    platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise PlatformError(ErrorCode.INVALID_ARGUMENT, "santiago.yaml:1: no")

    monkeypatch.setattr(platform.workspace, "settings", broken)
    platform.disk.free_bytes = 0
    with pytest.raises(PlatformError) as refused:
        await begin(platform)
    assert refused.value.code is ErrorCode.RESOURCE_EXHAUSTED
