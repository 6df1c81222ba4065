from __future__ import annotations

from typing import Any

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.operation import Operation, OperationState
from santiago_platform.domain.ship_log import Draft, EntryKind
from santiago_platform.operations.change import note_lost
from santiago_platform.testing.rows import operation

PLATFORM = Principal(name="platform", role=Role.PLATFORM)


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform()


async def logged(platform: FakePlatform, id: str, outcome: str, **body: Any) -> None:
    """A change that the ship's log has from its beginning to its end."""
    common = {"action": "deploy_service", "principal": "ann", "role": "developer", "tenant": "default", "operation": id}
    opened = await platform.ship_log.append(Draft(kind=EntryKind.OPENED, **common))
    await platform.ship_log.append(Draft(kind=EntryKind.COMPLETED, of=opened.seq, outcome=outcome, body=body, **common))


async def stored(platform: FakePlatform, *operations: Operation) -> None:
    await platform.store.write(lambda tx: [tx.save_operation(each) for each in operations])


async def test_an_operation_whose_end_the_database_does_not_have_is_named(platform: FakePlatform) -> None:
    for number in (1, 2, 3):
        await logged(platform, f"op-{number}", "succeeded", reason="")
    await stored(platform, operation(1, state=OperationState.SUCCEEDED, logged=True), operation(2))
    assert await note_lost(platform.ports, PLATFORM) == ["op-2", "op-3"]
    noted = platform.ship_log.entries[-1]
    assert (noted.action, noted.body["operations"]) == ("platform.lost", ["op-2", "op-3"])


async def test_what_never_had_a_row_is_not_missed(platform: FakePlatform) -> None:
    await logged(platform, "op-1", "refused", code="conflict")
    await logged(platform, "op-2", "failed", code="internal")
    await logged(platform, "op-3", "issued", token_id="t-1")
    before = len(platform.ship_log.entries)
    assert await note_lost(platform.ports, PLATFORM) == []
    assert len(platform.ship_log.entries) == before
