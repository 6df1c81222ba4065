"""The rules of a service's SLOs: planned with their differences, in force once they are read back, and taken back."""

from __future__ import annotations

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.operation import OperationState
from santiago_platform.domain.slo import Events, Slo
from santiago_platform.domain.slo_rules import rule_groups
from santiago_platform.operations.configure_monitoring import MonitoringChange, configure_monitoring
from santiago_platform.operations.manage_operation import OperationCommand, manage_operation
from santiago_platform.operations.operation_view import OperationView
from santiago_platform.reconcilers.monitoring import DOWN_SECONDS, MonitoringReconciler
from santiago_platform.testing.rows import deployment, version

ANN = Principal(name="ann", role=Role.DEVELOPER)
WHERE = {"service": "web", "environment": "production"}


def objective(target: float) -> Slo:
    indicator = Events(total="requests_total", bad='requests_total{code="500"}')
    return Slo(**WHERE, name="availability", indicator=indicator, target=target)


class World:
    def __init__(self) -> None:
        self.platform = FakePlatform()
        self.ports = self.platform.ports
        self.rules = self.platform.rules
        self.loop = MonitoringReconciler(self.ports)

    def write(self, *targets: float) -> None:
        self.platform.workspace.objectives["web"] = tuple(objective(target) for target in targets)

    async def live(self) -> None:
        row = deployment(**WHERE, live=version("sha256:" + "a" * 64))
        await self.platform.store.write(lambda tx: tx.save_deployment(row))
        await self.loop.pass_over()

    async def ask(self, **fields: object) -> OperationView:
        return await configure_monitoring(self.ports, ANN, MonitoringChange.model_validate({**WHERE, **fields}))

    async def ended(self, id: str) -> OperationView:
        await self.loop.pass_over()
        command = OperationCommand(action="status", operation=id)
        return (await manage_operation(self.ports, ANN, command)).operations[0]

    async def refused(self, code: ErrorCode, **fields: object) -> PlatformError:
        with pytest.raises(PlatformError) as caught:
            await self.ask(**fields)
        assert caught.value.code is code, caught.value
        return caught.value


@pytest.fixture
async def world() -> World:
    world = World()
    world.write(0.99)
    await world.live()
    return world


async def test_a_service_that_is_live_is_watched_by_its_slos_unasked(world: World) -> None:
    assert world.rules.groups["web"] == rule_groups(objective(0.99))
    assert [test.name for test in world.rules.checked] != []


async def test_an_edit_comes_into_force_when_it_is_asked_for_and_is_read_back(world: World) -> None:
    world.write(0.999)
    await world.loop.pass_over()
    assert world.rules.groups["web"] == rule_groups(objective(0.99))
    done = await world.ended((await world.ask()).id)
    assert (done.state, done.proof and done.proof.verdict) == (OperationState.SUCCEEDED, "MATCH")
    assert world.rules.groups["web"] == rule_groups(objective(0.999))


async def test_a_dry_run_shows_the_difference_and_changes_nothing(world: World) -> None:
    world.write(0.999)
    shown = await world.ask(dry_run=True)
    assert (shown.state, shown.plan is not None and shown.plan.changes != ()) == (OperationState.PLANNED, True)
    await world.loop.pass_over()
    assert world.rules.groups["web"] == rule_groups(objective(0.99))


async def test_it_can_be_taken_back(world: World) -> None:
    world.write(0.999)
    done = await world.ended((await world.ask()).id)
    command = OperationCommand(action="rollback", operation=done.id)
    undone = (await manage_operation(world.ports, ANN, command)).operations[0]
    assert (await world.ended(undone.id)).state == OperationState.SUCCEEDED
    assert world.rules.groups["web"] == rule_groups(objective(0.99))


async def test_what_was_changed_since_is_not_taken_back(world: World) -> None:
    world.write(0.999)
    first = await world.ended((await world.ask()).id)
    world.write(0.9)
    await world.ended((await world.ask()).id)
    with pytest.raises(PlatformError, match="no longer as operation"):
        await manage_operation(world.ports, ANN, OperationCommand(action="rollback", operation=first.id))


async def test_what_is_in_force_already_is_no_change(world: World) -> None:
    error = await world.refused(ErrorCode.FAILED_PRECONDITION)
    assert "are so already" in error.message


async def test_rules_that_fail_their_own_tests_are_not_loaded(world: World) -> None:
    world.write(0.999)
    world.rules.failing = {test.name for test in world.rules.checked}
    await world.refused(ErrorCode.INVALID_ARGUMENT)
    await world.loop.pass_over()
    assert world.rules.groups["web"] == rule_groups(objective(0.99))


async def test_what_the_evaluator_refuses_leaves_the_rules_of_before(world: World) -> None:
    world.write(0.999)
    begun = await world.ask()
    world.rules.refused = {"0.999"}
    ended = await world.ended(begun.id)
    assert (ended.state, ended.reason) == (OperationState.FAILED, "Prometheus refuses the rules")
    await world.loop.pass_over()
    assert world.rules.groups["web"] == rule_groups(objective(0.99))
    assert await world.platform.ship_log.unfinished() == []


async def test_it_waits_for_an_evaluator_that_is_down_and_fails_after_a_minute(world: World) -> None:
    world.write(0.999)
    begun = await world.ask()
    world.rules.down = True
    assert (await world.ended(begun.id)).state == OperationState.RUNNING
    world.platform.clock.advance(DOWN_SECONDS + 1)
    ended = await world.ended(begun.id)
    assert (ended.state, ended.reason) == (OperationState.FAILED, "Prometheus does not answer")
    world.rules.down = False
    await world.loop.pass_over()
    assert world.rules.groups["web"] == rule_groups(objective(0.99))


async def test_a_service_without_an_slo_and_an_unknown_place_are_named(world: World) -> None:
    world.write()
    assert "services/web/slo.yaml has no SLO" in (await world.refused(ErrorCode.NOT_FOUND)).message
    await world.refused(ErrorCode.NOT_FOUND, service="nobody")
    assert "santiago.yaml has" in (await world.refused(ErrorCode.NOT_FOUND, environment="nowhere")).hint
