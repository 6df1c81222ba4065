from __future__ import annotations

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.operation import OperationState
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service

OWNER = Principal(name="owner", role=Role.OWNER, tenant="default")


@pytest.fixture
def platform() -> FakePlatform:
    """Its releases have a base image, and no container can run."""
    made = FakePlatform()
    made.artifacts.based = True
    made.compute.no_images = "podman is not there"
    return made


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("by", ["git_ref", "release"])
async def test_a_release_that_no_container_can_run_is_refused_before_anything_changes(
    platform: FakePlatform, by: str, dry_run: bool
) -> None:
    reference = "HEAD"
    if by == "release":
        reference = (await platform.artifacts.build("web", await platform.artifacts.resolve("HEAD"))).digest
    built = list(platform.artifacts.builds)
    request = DeployRequest(service="web", environment="production", dry_run=dry_run, **{by: reference})
    with pytest.raises(PlatformError, match="podman is not there") as refused:
        await deploy_service(platform.ports, OWNER, request)
    assert refused.value.code is ErrorCode.FAILED_PRECONDITION
    assert platform.artifacts.builds == built
    assert await platform.ports.store.read(lambda view: view.active_rollouts()) == []


async def test_one_without_a_base_image_needs_no_container(platform: FakePlatform) -> None:
    platform.artifacts.based = False
    request = DeployRequest(service="web", environment="production", git_ref="HEAD", dry_run=True)
    assert (await deploy_service(platform.ports, OWNER, request)).state == OperationState.PLANNED
