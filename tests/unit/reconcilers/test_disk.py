from __future__ import annotations

import logging

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.operation import OperationState
from santiago_platform.domain.ship_log import EntryKind
from santiago_platform.reconcilers.disk import TIDY_SECONDS, DiskReconciler
from santiago_platform.testing.rows import operation

MIB = 1 << 20


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform()


def notes(platform: FakePlatform) -> list[str]:
    return [entry.action for entry in platform.ship_log.entries if entry.kind is EntryKind.NOTED]


async def test_it_tidies_every_hour_and_tells_what_it_removed(
    platform: FakePlatform, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    loop = DiskReconciler(platform.ports)
    platform.disk.left_over = ["logs/web__production__abc__0 (3 bytes)"]
    await loop.pass_over()
    assert "removed logs/web__production__abc__0 (3 bytes)" in caplog.text
    platform.clock.advance(TIDY_SECONDS - 1)
    await loop.pass_over()
    assert len(platform.disk.tidied) == 1
    platform.clock.advance(1)
    await loop.pass_over()
    assert len(platform.disk.tidied) == 2


async def test_releases_that_exist_are_named_as_used(platform: FakePlatform) -> None:
    release = await platform.artifacts.build("web", "a" * 40)
    await DiskReconciler(platform.ports).pass_over()
    assert platform.disk.tidied[0] == (platform.workspace.current.retention, {release.digest})


async def test_little_space_is_told_once_and_tidied_at_once(platform: FakePlatform) -> None:
    loop = DiskReconciler(platform.ports)
    await loop.pass_over()
    platform.disk.free_bytes = 900 * MIB
    await loop.pass_over()
    await loop.pass_over()
    platform.disk.free_bytes = 1100 * MIB  # above the limit, and hardly
    await loop.pass_over()
    platform.disk.free_bytes = 900 * MIB
    await loop.pass_over()
    assert notes(platform) == ["disk.low"]
    assert len(platform.disk.tidied) == 2


async def test_the_way_down_and_back_is_in_the_ships_log(platform: FakePlatform) -> None:
    loop = DiskReconciler(platform.ports)
    for free in (100_000, 900, 100, 900, 100_000):
        platform.disk.free_bytes = free * MIB
        await loop.pass_over()
    assert notes(platform) == ["disk.low", "disk.full", "disk.low", "disk.enough"]


async def test_the_newest_operations_are_kept_and_the_others_forgotten(platform: FakePlatform) -> None:
    keep = platform.workspace.current.retention.operations
    rows = [operation(n, state=OperationState.SUCCEEDED, logged=True) for n in range(keep + 250)]
    await platform.store.write(lambda tx: [tx.save_operation(row) for row in rows])
    await DiskReconciler(platform.ports).pass_over()
    left = await platform.store.read(lambda v: v.operations(limit=2 * keep))
    assert [o.id for o in left] == [row.id for row in reversed(rows[250:])]
