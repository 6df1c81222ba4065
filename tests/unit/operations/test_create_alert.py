from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.policies.cedar import CedarPolicy
from santiago_platform.domain.alert import ALERTS, AlertSpec
from santiago_platform.domain.change_request import ApprovalRule
from santiago_platform.domain.environment import Environment, Settings, Tenant
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.operation import OperationState
from santiago_platform.domain.signal import Signal
from santiago_platform.operations.create_alert import AlertChange, create_alert
from santiago_platform.operations.manage_operation import OperationCommand, manage_operation
from santiago_platform.operations.operation_view import OperationView
from santiago_platform.operations.read_alerts import read_alerts
from santiago_platform.reconcilers.monitoring import DOWN_SECONDS, MonitoringReconciler

ANN = Principal(name="ann", role=Role.DEVELOPER)
ERRORS = AlertSpec(signal=Signal.ERRORS, threshold=0.05)


class World:
    def __init__(self, settings: Settings | None = None) -> None:
        self.platform = FakePlatform()
        if settings is not None:
            self.platform.workspace.current = settings
        self.ports = self.platform.ports
        self.loop = MonitoringReconciler(self.ports)

    async def ask(self, name: str = "Errors", who: Principal = ANN, **fields: Any) -> OperationView:
        known: dict[str, Any] = {"service": "web", "environment": "production", "spec": ERRORS}
        return await create_alert(self.ports, who, AlertChange(name=name, **{**known, **fields}))

    async def made(self, name: str = "Errors", **fields: Any) -> OperationView:
        asked = await self.ask(name, **fields)
        await self.loop.pass_over()
        return await self.status(asked.id)

    async def status(self, operation: str) -> OperationView:
        command = OperationCommand(action="status", operation=operation)
        return (await manage_operation(self.ports, ANN, command)).operations[0]

    @property
    def loaded(self) -> list[str]:
        return [rule.alert for group in self.platform.rules.groups.get(ALERTS, ()) for rule in group.rules]


@pytest.fixture
def world() -> World:
    return World()


async def refused(world: World, code: ErrorCode, match: str, **fields: Any) -> None:
    with pytest.raises(PlatformError, match=match) as caught:
        await world.ask(**fields)
    assert caught.value.code is code
    assert world.loaded == []


async def test_an_alert_is_loaded_with_its_labels_and_proven_and_the_log_has_both_entries(world: World) -> None:
    spec = ERRORS.model_copy(update={"owner": "team-web", "route": "qa", "runbook_url": "https://example.org/r"})
    done = await world.made(spec=spec)
    assert (done.state, done.proof and done.proof.verdict) == (OperationState.SUCCEEDED, "MATCH")
    (group,) = world.platform.rules.groups[ALERTS]
    (rule,) = group.rules
    assert rule.labels == {
        "service": "web",
        "environment": "production",
        "severity": "ticket",
        "owner": "team-web",
        "route": "qa",
    }
    assert rule.annotations["runbook_url"] == "https://example.org/r"
    assert await world.platform.ship_log.unfinished() == []
    assert [test.name.split()[0] for test in world.platform.rules.checked] == ["fires", "is"]


async def test_a_dry_run_says_what_would_come_and_loads_nothing(world: World) -> None:
    planned = await world.ask(dry_run=True)
    assert planned.state == OperationState.PLANNED
    assert planned.plan is not None
    assert planned.plan.changes[0].startswith("comes: alert (ticket) Errors")
    assert planned.detail[1].startswith("it would ")
    await world.loop.pass_over()
    assert world.loaded == []
    assert (await read_alerts(world.ports, ANN)).alerts == ()


async def test_what_is_there_already_is_refused_by_name_and_by_condition(world: World) -> None:
    await world.made()
    for name, spec in (("Errors", AlertSpec(signal=Signal.ERRORS, threshold=0.5)), ("Another", ERRORS)):
        with pytest.raises(PlatformError, match="Errors") as caught:
            await world.ask(name, spec=spec)
        assert caught.value.code is ErrorCode.CONFLICT
    await world.made("Another", environment="staging")
    assert world.loaded == ["Errors", "Another"]


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"signal": "errors", "threshold": 1}, "can never hold"),
        ({"signal": "errors", "comparison": ">=", "threshold": 0}, "always holds"),
        ({"signal": "latency", "comparison": "<", "threshold": 0}, "can never hold"),
        ({"signal": "traffic"}, "needs a threshold"),
        ({"expression": "up", "signal": "errors"}, "either"),
        ({"expression": "up == 0", "threshold": 1}, "threshold in itself"),
        ({"expression": 'up{service="shop"} == 0'}, "is of service web"),
        ({"signal": "errors", "threshold": 0.1, "summary": '{{ query "secret" }}'}, "template"),
        (
            {"signal": "errors", "threshold": 0.1, "summary": "{{ $labels.version }} {{ $value | x }}"},
            "template",
        ),
    ],
)
async def test_what_can_never_fire_or_always_does_or_reads_what_is_not_its_own_is_refused(
    world: World, spec: dict[str, Any], why: str
) -> None:
    await refused(world, ErrorCode.INVALID_ARGUMENT, why, spec=AlertSpec.model_validate(spec))


async def test_an_expression_over_series_that_there_are_not_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: Any, **__: Any) -> list[Any]:
        return []

    monkeypatch.setattr(world.platform.metrics, "query", nothing)
    spec = AlertSpec(expression='typo_total{code="500"} > 1')
    await refused(world, ErrorCode.FAILED_PRECONDITION, "no series typo_total .* labels code", spec=spec)
    assert (await world.ask(spec=AlertSpec(expression="absent(heartbeat)"))).state == OperationState.RUNNING


async def test_a_tenant_sees_and_touches_its_own_alerts_alone() -> None:
    settings = Settings(environments={"production": Environment()}, tenants={"other": Tenant(services=("shop",))})
    world = World(settings)
    world.platform.workspace.names.append("shop")
    mallory = Principal(name="mallory", role=Role.DEVELOPER, tenant="other")
    await world.made()
    with pytest.raises(PlatformError) as caught:
        await world.ask("Theirs", who=mallory)
    assert caught.value.code in (ErrorCode.NOT_FOUND, ErrorCode.PERMISSION_DENIED)
    made = await world.ask("Own", who=mallory, service="shop", spec=AlertSpec(expression="up == 0"))
    assert made.state == OperationState.RUNNING
    await world.loop.pass_over()
    assert [a.name for a in (await read_alerts(world.ports, mallory)).alerts] == ["Own"]
    (rule,) = world.platform.rules.groups[ALERTS][0].rules
    assert rule.expr == 'up{environment="production",service="shop"} == 0'


async def test_a_removed_alert_comes_back_by_rollback_unless_it_was_made_anew(world: World) -> None:
    await world.made()
    removed = await world.made(action="remove", spec=None)
    assert removed.state == OperationState.SUCCEEDED
    assert world.loaded == []
    undo = OperationCommand(action="rollback", operation=removed.id)
    back = (await manage_operation(world.ports, ANN, undo)).operations[0]
    await world.loop.pass_over()
    assert (await world.status(back.id)).state == OperationState.SUCCEEDED
    assert world.loaded == ["Errors"]
    with pytest.raises(PlatformError, match="no longer") as caught:
        await manage_operation(world.ports, ANN, undo)
    assert caught.value.code is ErrorCode.CONFLICT


async def test_what_the_evaluator_refuses_fails_and_what_was_in_force_before_stays_so(world: World) -> None:
    await world.made()
    world.platform.rules.refused = {"latency"}
    failed = await world.made("Slow", spec=AlertSpec(signal=Signal.LATENCY, threshold=1))
    assert failed.state == OperationState.FAILED
    await world.loop.pass_over()
    assert world.loaded == ["Errors"]
    assert [a.name for a in (await read_alerts(world.ports, ANN)).alerts] == ["Errors"]


async def test_a_change_waits_for_an_evaluator_that_is_down_and_gives_up_in_the_end(world: World) -> None:
    world.platform.rules.down = True
    waits = await world.made()
    assert waits.state == OperationState.RUNNING
    world.platform.rules.down = False
    await world.loop.pass_over()
    assert (await world.status(waits.id)).state == OperationState.SUCCEEDED
    world.platform.rules.down = True
    lost = await world.made("Other", spec=AlertSpec(signal=Signal.ERRORS, threshold=0.5))
    world.platform.clock.advance(DOWN_SECONDS + 1)
    await world.loop.pass_over()
    assert (await world.status(lost.id)).state == OperationState.FAILED


async def test_rules_that_somebody_has_unloaded_are_loaded_again(world: World) -> None:
    await world.made()
    world.platform.rules.groups.clear()
    await world.loop.pass_over()
    assert world.loaded == ["Errors"]
    writes = world.platform.rules.writes
    await MonitoringReconciler(world.ports).pass_over()
    assert world.platform.rules.writes == writes


async def test_an_environment_that_asks_for_approvals_holds_an_alert_until_it_is_approved() -> None:
    world = World(Settings(environments={"production": Environment(approvals=ApprovalRule(required=True))}))
    held = await world.made()
    assert held.state == OperationState.AWAITING
    assert world.loaded == []
    bob = Principal(name="bob", role=Role.PLATFORM)
    await manage_operation(world.ports, bob, OperationCommand(action="approve", operation=held.id))
    await world.loop.pass_over()
    assert (await world.status(held.id)).state == OperationState.SUCCEEDED
    assert world.loaded == ["Errors"]


async def test_what_nobody_reads_back_yet_is_unverified(world: World) -> None:
    world.platform.rules.verifiable = False
    world.platform.rules.sabotaged = True
    asked = await world.made()
    world.platform.clock.advance(11)
    await world.loop.pass_over()
    done = await world.status(asked.id)
    assert (done.state, done.proof and done.proof.verdict) == (OperationState.UNVERIFIED, "UNVERIFIABLE")


HELD = Settings(
    environments={"production": Environment(approvals=ApprovalRule(required=True))},
    tenants={"other": Tenant(services=("shop",))},
)
BOB = Principal(name="bob", role=Role.PLATFORM)


async def tell(world: World, who: Principal, action: str, operation: str) -> OperationView:
    command = OperationCommand.model_validate({"action": action, "operation": operation})
    told = (await manage_operation(world.ports, who, command)).operations[0]
    await world.loop.pass_over()
    return told


async def test_whoever_asked_for_a_removal_withdraws_it() -> None:
    world = World(HELD)
    world.ports = replace(world.ports, policy=CedarPolicy())
    await tell(world, BOB, "approve", (await world.made()).id)
    removal = await world.ask(action="remove", spec=None)
    assert (await tell(world, ANN, "reject", removal.id)).state == OperationState.REJECTED
    assert world.loaded == ["Errors"]


async def test_to_do_again_what_was_taken_back_is_a_change_that_needs_its_approval() -> None:
    world = World(HELD)
    made = await world.made()
    await tell(world, BOB, "approve", made.id)
    back = await tell(world, ANN, "rollback", made.id)
    assert world.loaded == []
    with pytest.raises(PlatformError, match="needs an approval") as caught:
        await tell(world, ANN, "rollback", back.id)
    assert caught.value.code is ErrorCode.PERMISSION_DENIED
    assert world.loaded == []


async def test_what_was_never_done_is_no_way_back_to_what_was_before_it() -> None:
    world = World(HELD)
    made = await world.made()
    await tell(world, BOB, "approve", made.id)
    removal = await world.ask(action="remove", spec=None)
    await tell(world, ANN, "rollback", made.id)
    with pytest.raises(PlatformError, match="has changed nothing"):
        await tell(world, ANN, "rollback", removal.id)
    assert world.loaded == []


async def test_a_tenant_learns_nothing_of_anothers_change_by_taking_it_back() -> None:
    world = World(HELD.model_copy(update={"environments": {"production": Environment()}}))
    world.platform.workspace.names.append("shop")
    made = await world.made()
    mallory = Principal(name="mallory", role=Role.DEVELOPER, tenant="other")
    said = []
    for operation in (made.id, "op-none"):
        with pytest.raises(PlatformError) as caught:
            await tell(world, mallory, "rollback", operation)
        said.append((caught.value.code, caught.value.message.replace(operation, "ID"), caught.value.hint))
    assert said[0] == said[1]
    assert world.loaded == ["Errors"]


async def test_an_export_that_is_still_evaluated_as_it_was_before_is_no_failure(world: World) -> None:
    world.platform.rules.verifiable = False
    await world.made()
    world.platform.rules.sabotaged = True
    spec = AlertSpec(signal=Signal.LATENCY, threshold=1)
    asked = await world.made("Slow", spec=spec)
    world.platform.clock.advance(11)
    await world.loop.pass_over()
    assert (await world.status(asked.id)).state == OperationState.UNVERIFIED
    alerts = await world.platform.store.read(lambda view: view.alerts())
    assert {alert.name for alert in alerts} == {"Errors", "Slow"}, "what was exported stays wanted"
