from __future__ import annotations

from typing import Any

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.identity import Level, Principal, Role
from santiago_platform.domain.slo import Events, Slo
from santiago_platform.operations.configure_monitoring import MonitoringChange, configure_monitoring
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service
from santiago_platform.operations.read_architecture import ArchitectureQuery, read_architecture
from santiago_platform.operations.read_monitoring import read_monitoring
from santiago_platform.reconcilers.monitoring import MonitoringReconciler
from santiago_platform.reconcilers.rollout import RolloutReconciler

ANN = Principal(name="ann", role=Role.DEVELOPER, level=Level.MASTER)
WHERE: dict[str, Any] = {"service": "web", "environment": "production"}


def slo(target: float) -> Slo:
    indicator = Events(total="requests_total", bad='requests_total{code="500"}')
    return Slo(**WHERE, name="availability", indicator=indicator, target=target)


async def test_an_edit_of_slo_yaml_is_drift_until_it_is_applied_and_what_was_taken_out_of_force_is_none() -> None:
    platform = FakePlatform()
    ports, loop, rollouts = platform.ports, MonitoringReconciler(platform.ports), RolloutReconciler(platform.ports)
    platform.workspace.objectives["web"] = (slo(0.99),)

    async def drift() -> tuple[str, ...]:
        (service,) = (await read_architecture(ports, ANN, ArchitectureQuery(**WHERE))).services
        return service.drift

    await deploy_service(ports, ANN, DeployRequest(**WHERE, git_ref="v1"))
    for _ in range(40):
        await rollouts.pass_over_all()
        platform.clock.advance(0.5)
        await platform.clock.sleep(0)
    await loop.pass_over()
    assert await drift() == ()

    platform.workspace.objectives["web"] = (slo(0.999),)
    (line,) = await drift()
    (row,) = [m for m in (await read_monitoring(ports, ANN, "web")).monitoring if m.environment == "production"]
    assert line == f"slo.yaml: {len(row.differs)} rules are not in force as it says: configure_monitoring applies it"

    await configure_monitoring(ports, ANN, MonitoringChange(**WHERE))
    await loop.pass_over()
    assert await drift() == ()
    await configure_monitoring(ports, ANN, MonitoringChange(**WHERE, action="remove"))
    await loop.pass_over()
    assert await drift() == ()
