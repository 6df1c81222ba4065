"""The loop over rules on the in-memory platform: killed at every effect, and while Prometheus is down."""

from __future__ import annotations

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.domain.alert import ALERTS, AlertSpec
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.operation import OperationState
from santiago_platform.domain.signal import Signal
from santiago_platform.domain.slo import Events, Slo
from santiago_platform.operations.change import close_interrupted
from santiago_platform.operations.configure_monitoring import MonitoringChange, configure_monitoring
from santiago_platform.operations.create_alert import AlertChange, create_alert
from santiago_platform.operations.read_alerts import read_alerts
from santiago_platform.ports import Ports
from santiago_platform.reconcilers.monitoring import DOWN_SECONDS, MonitoringReconciler
from santiago_platform.reconcilers.rollout import RolloutReconciler
from santiago_platform.testing.crashing import Killed, Reaper
from santiago_platform.testing.rows import deployment, version

ANN = Principal(name="ann", role=Role.DEVELOPER)
SPEC = AlertSpec(signal=Signal.ERRORS, threshold=0.05)
PLACE = {"service": "web", "environment": "production"}
LOOSE = Slo(**PLACE, name="availability", indicator=Events(bad="bad", total="total"), target=0.99)
TIGHT = LOOSE.model_copy(update={"target": 0.999})


async def live() -> FakePlatform:
    """With `web` in production and an SLO, and nothing in force yet."""
    platform = FakePlatform(workspace=FakeWorkspace())
    platform.workspace.objectives["web"] = (LOOSE,)
    await platform.store.write(lambda tx: tx.save_deployment(deployment(**PLACE, live=version("one"))))
    return platform


async def passes(platform: FakePlatform, number: int = 3, ports: Ports | None = None) -> None:
    loop, logs = MonitoringReconciler(ports or platform.ports), RolloutReconciler(platform.ports)
    for _ in range(number):
        await loop.pass_over()
        await logs.pass_over_all()  # completes what has ended just before a crash
        platform.clock.advance(1)


def in_force(platform: FakePlatform) -> tuple[str, list[str]]:
    """The objective that `web` is held to, and its alerts."""
    (group,) = platform.rules.groups["web"]
    objective = next(rule.expr for rule in group.rules if rule.record == "slo:objective:ratio")
    alerts = [rule.alert for group in platform.rules.groups.get(ALERTS, ()) for rule in group.rules]
    return objective, alerts


async def test_killed_at_any_effect_each_change_ends_once_and_is_in_force() -> None:
    for fatal in range(100):
        platform = await live()
        reaper, killed = Reaper(fatal), False
        ports = reaper.ports(platform.ports)
        try:
            await passes(platform, 1, ports)
            platform.workspace.objectives["web"] = (TIGHT,)
            await configure_monitoring(ports, ANN, MonitoringChange(**PLACE))
            await create_alert(ports, ANN, AlertChange(name="Errors", **PLACE, spec=SPEC))
            await passes(platform, 3, ports)
        except Killed:
            killed = True
        await close_interrupted(platform.ports)
        await passes(platform)  # of the daemon that comes after
        known = await platform.store.read(lambda view: view.operations(limit=10))
        states = {operation.kind: operation.state for operation in known}
        assert len(known) == len(states), "nothing is begun twice"
        assert set(states.values()) <= {OperationState.SUCCEEDED}
        expected = "vector(0.999)" if "configure_monitoring" in states else None
        objective, alerts = in_force(platform)
        if expected is not None:
            assert objective == expected
        assert alerts == (["Errors"] if "create_alert" in states else [])
        assert await platform.ship_log.unfinished() == [], fatal
        if not killed:
            assert fatal > 10
            assert len(states) == 2
            return
    raise AssertionError("it never came through")


@pytest.mark.parametrize("refused", [False, True])
async def test_killed_at_any_effect_of_a_failure_the_rules_before_are_in_force(refused: bool) -> None:
    def broken(platform: FakePlatform) -> None:
        platform.rules.refused = {"0.999"} if refused else set()
        platform.rules.down = not refused

    for fatal in range(100):
        platform = await live()
        await passes(platform)
        platform.workspace.objectives["web"] = (TIGHT,)
        await configure_monitoring(platform.ports, ANN, MonitoringChange(**PLACE))
        broken(platform)
        platform.clock.advance(DOWN_SECONDS + 1)
        killed = False
        try:
            await passes(platform, 3, Reaper(fatal).ports(platform.ports))
        except Killed:
            killed = True
        await passes(platform)
        platform.rules.down = False
        await passes(platform)
        (failed,) = await platform.store.read(lambda view: view.operations(limit=10))
        assert failed.state is OperationState.FAILED
        assert in_force(platform)[0] == "vector(0.99)"
        assert await platform.ship_log.unfinished() == [], fatal
        if not killed:
            assert fatal >= 2
            return
    raise AssertionError("it never came through")


async def test_while_prometheus_is_down_changes_wait_and_nothing_is_lost() -> None:
    platform = await live()
    platform.rules.down = True
    await passes(platform)
    assert platform.rules.groups == {}
    made = await create_alert(platform.ports, ANN, AlertChange(name="Errors", **PLACE, spec=SPEC))
    await passes(platform)
    assert await state(platform, made.id) is OperationState.RUNNING
    platform.rules.down = False
    await passes(platform)
    assert await state(platform, made.id) is OperationState.SUCCEEDED
    assert in_force(platform) == ("vector(0.99)", ["Errors"])


async def test_while_metrics_are_down_it_is_said_what_is_not_known() -> None:
    platform = await live()
    platform.metrics.down = True
    by_signal = await create_alert(platform.ports, ANN, AlertChange(name="Errors", **PLACE, spec=SPEC))
    assert any("could not be tried" in line for line in by_signal.detail)
    await passes(platform)
    (listed,) = (await read_alerts(platform.ports, ANN)).alerts
    assert listed.state == "unknown"
    by_expression = AlertChange(name="Busy", **PLACE, spec=AlertSpec(expression="sum(requests) > 1"))
    with pytest.raises(PlatformError) as caught:
        await create_alert(platform.ports, ANN, by_expression)
    assert caught.value.code is ErrorCode.UNAVAILABLE
    assert in_force(platform)[1] == ["Errors"]


async def state(platform: FakePlatform, operation: str) -> OperationState:
    found = await platform.store.read(lambda view: view.operation(operation))
    assert found is not None
    return found.state
