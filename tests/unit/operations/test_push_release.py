from __future__ import annotations

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.environment import ReleaseRetention
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.proof import Verdict
from santiago_platform.domain.release import Release
from santiago_platform.operations.push_release import PushRequest, push_release

OWNER = Principal(name="owner", role=Role.OWNER, tenant="default")
DEVELOPER = Principal(name="ada", role=Role.DEVELOPER, tenant="default")
OBSERVER = Principal(name="eve", role=Role.OBSERVER, tenant="default")


@pytest.fixture
def platform() -> FakePlatform:
    made = FakePlatform()
    retention = ReleaseRetention(registry="registry.example/team")
    made.workspace.current = made.workspace.current.model_copy(update={"releases": retention})
    return made


@pytest.fixture
async def release(platform: FakePlatform) -> Release:
    return await platform.artifacts.build("web", await platform.artifacts.resolve("HEAD"))


async def test_it_goes_to_the_services_repository_and_is_proven(platform: FakePlatform, release: Release) -> None:
    pushed = await push_release(platform.ports, DEVELOPER, PushRequest(service="web", release=release.digest))
    assert pushed.image == f"registry.example/team/web@{release.digest}"
    assert pushed.proof.verdict is Verdict.MATCH
    assert platform.registry.images == {f"image registry.example/team/web:{release.tag}": release.digest}


async def test_a_push_that_had_no_effect_is_drift(platform: FakePlatform, release: Release) -> None:
    platform.registry.sabotaged = True
    pushed = await push_release(platform.ports, DEVELOPER, PushRequest(service="web", release=release.digest))
    assert pushed.proof.verdict is Verdict.DRIFT


async def test_another_registry_is_the_owners_to_name(platform: FakePlatform, release: Release) -> None:
    request = PushRequest(service="web", release=release.digest, registry="127.0.0.1:5000")
    with pytest.raises(PlatformError) as refused:
        await push_release(platform.ports, DEVELOPER, request)
    assert refused.value.code is ErrorCode.PERMISSION_DENIED
    assert (await push_release(platform.ports, OWNER, request)).image.startswith("127.0.0.1:5000/web@")


async def test_who_may_not_is_refused_and_that_is_logged(platform: FakePlatform, release: Release) -> None:
    with pytest.raises(PlatformError) as refused:
        await push_release(platform.ports, OBSERVER, PushRequest(service="web", release=release.digest))
    assert refused.value.code is ErrorCode.PERMISSION_DENIED
    assert platform.registry.images == {}
    opened, completed = platform.ship_log.entries
    assert (opened.action, completed.outcome) == ("push_release", "denied")


async def test_without_a_registry_it_says_how_to_set_one(platform: FakePlatform, release: Release) -> None:
    platform.workspace.current = platform.workspace.current.model_copy(update={"releases": ReleaseRetention()})
    with pytest.raises(PlatformError, match="no registry is set") as refused:
        await push_release(platform.ports, OWNER, PushRequest(service="web", release=release.digest))
    assert "releases.registry" in refused.value.hint


async def test_another_services_release_is_refused(platform: FakePlatform, release: Release) -> None:
    platform.workspace.names.append("shop")
    with pytest.raises(PlatformError, match="is not of service shop"):
        await push_release(platform.ports, OWNER, PushRequest(service="shop", release=release.digest))
