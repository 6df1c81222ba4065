"""What the platform says of limits that the kernel does not enforce: in the proof and in what is read."""

from __future__ import annotations

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service
from santiago_platform.operations.manage_operation import OperationCommand, manage_operation
from santiago_platform.operations.operation_view import OperationView
from santiago_platform.operations.read_architecture import ArchitectureQuery, read_architecture
from santiago_platform.reconcilers.rollout import RolloutReconciler

ANN = Principal(name="ann", role=Role.DEVELOPER)
GAP = "the memory limit is not kernel-enforced: a watchdog ends what is above 64Mi"


async def deployed(platform: FakePlatform) -> OperationView:
    request = DeployRequest(service="web", environment="production", git_ref="v1")
    operation = await deploy_service(platform.ports, ANN, request)
    loop = RolloutReconciler(platform.ports)
    for _ in range(400):
        await loop.pass_over_all()
        await platform.clock.sleep(0.2)
        answer = await manage_operation(platform.ports, ANN, OperationCommand(action="status", operation=operation.id))
        if answer.operations[0].state != "running":
            return answer.operations[0]
    raise AssertionError("it hangs")


async def test_the_proof_and_the_architecture_say_what_the_kernel_does_not_enforce() -> None:
    platform = FakePlatform()
    platform.compute.not_enforced = GAP
    ended = await deployed(platform)
    assert ended.state == "succeeded"
    assert ended.proof is not None
    assert ended.proof.evidence[-1] == f"note: {GAP}"
    (service,) = (await read_architecture(platform.ports, ANN, ArchitectureQuery())).services
    assert service.requirements["not_enforced"] == GAP


async def test_where_it_enforces_all_nothing_is_said() -> None:
    platform = FakePlatform()
    ended = await deployed(platform)
    assert ended.proof is not None
    assert not any(line.startswith("note:") for line in ended.proof.evidence)
    (service,) = (await read_architecture(platform.ports, ANN, ArchitectureQuery())).services
    assert "not_enforced" not in service.requirements
