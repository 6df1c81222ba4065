from __future__ import annotations

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.deployment import Deployment, Version
from santiago_platform.domain.environment import Environment, Settings, Tenant
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Level, Principal, Role
from santiago_platform.domain.secret import Secret, SecretVersion
from santiago_platform.domain.workload import Template
from santiago_platform.operations.read_architecture import ArchitectureQuery, read_architecture
from santiago_platform.operations.secrets import RemoveRequest, list_secrets, remove_secret, set_secret

ANN = Principal(name="ann", role=Role.DEVELOPER, level=Level.MASTER)
EVE = Principal(name="eve", role=Role.PIPELINE)
BOB = Principal(name="bob", role=Role.DEVELOPER, tenant="shop", level=Level.MASTER)
OWNER = Principal(name="root", role=Role.OWNER)
PASSWORD = Secret(environment="production", name="password", service="web")
SHARED = Secret(environment="production", name="password")


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform()


async def live(platform: FakePlatform, *versions: SecretVersion, previous: SecretVersion | None = None) -> None:
    """Makes a version with these secrets live, and one with `previous` the way back."""

    def version(*secrets: SecretVersion) -> Version:
        template = Template(
            service="web",
            environment="production",
            tenant="default",
            release="sha256:a",
            command=("run",),
            secrets=tuple(secret.ref for secret in secrets),
        )
        return Version(template=template, replicas=1)

    row = Deployment(
        service="web",
        environment="production",
        tenant="default",
        live=version(*versions),
        previous=version(previous) if previous else None,
    )
    await platform.store.write(lambda tx: tx.save_deployment(row))


async def put(platform: FakePlatform, value: str, secret: Secret = PASSWORD) -> SecretVersion:
    return await platform.secrets.put(secret, value)


async def refusal(platform: FakePlatform, secret: Secret, by: Principal = ANN, content: bytes = b"value") -> ErrorCode:
    with pytest.raises(PlatformError) as raised:
        await set_secret(platform.ports, by, secret, content)
    assert platform.secrets.kept == {}
    return raised.value.code


async def test_setting_one_is_logged_with_its_fingerprint_and_without_its_value(platform: FakePlatform) -> None:
    view = await set_secret(platform.ports, ANN, PASSWORD, b"hunter2")
    assert (view.version, view.newest) == (1, True)
    assert await platform.secrets.value(PASSWORD, 1) == "hunter2"
    opened, completed = platform.ship_log.entries
    assert (opened.action, opened.subject) == ("set_secret", "production/web/password")
    assert (completed.outcome, completed.body) == ("set", {"version": 1, "fingerprint": view.fingerprint})
    assert "hunter2" not in f"{opened}{completed}{view}"


async def test_what_cannot_be_is_refused(platform: FakePlatform) -> None:
    assert await refusal(platform, PASSWORD, EVE) is ErrorCode.PERMISSION_DENIED
    assert await refusal(platform, PASSWORD, content=b"\xff") is ErrorCode.INVALID_ARGUMENT
    assert await refusal(platform, PASSWORD, content=b"") is ErrorCode.INVALID_ARGUMENT
    nowhere = Secret(environment="moon", name="password")
    assert await refusal(platform, nowhere) is ErrorCode.NOT_FOUND
    assert await refusal(platform, PASSWORD.model_copy(update={"service": "nothing"})) is ErrorCode.NOT_FOUND
    assert {entry.outcome for entry in platform.ship_log.entries} == {"", "refused", "denied"}


async def test_a_tenant_has_the_secrets_of_its_services_and_no_other(platform: FakePlatform) -> None:
    platform.workspace.names.append("till")
    platform.workspace.current = Settings(
        environments={"production": Environment()}, tenants={"shop": Tenant(services=("till",))}
    )
    till = Secret(environment="production", name="password", service="till")
    await put(platform, "own", till)
    for secret in (PASSWORD, SHARED):
        await put(platform, "of others", secret)
        with pytest.raises(PlatformError) as raised:
            await set_secret(platform.ports, BOB, secret, b"x")
        assert raised.value.code is ErrorCode.NOT_FOUND
        with pytest.raises(PlatformError) as raised:
            await remove_secret(platform.ports, BOB, RemoveRequest(secret=secret))
        assert raised.value.code is ErrorCode.NOT_FOUND
    seen = {
        who.name: [s.service for s in (await list_secrets(platform.ports, who)).secrets] for who in (ANN, BOB, OWNER)
    }
    assert seen == {"ann": [None, "web"], "bob": ["till"], "root": [None, "till", "web"]}


async def test_what_is_live_or_kept_to_go_back_to_is_not_removed(platform: FakePlatform) -> None:
    first, second, third = [await put(platform, value) for value in ("first", "second", "third")]
    await put(platform, "shared", SHARED)
    await live(platform, third, previous=second)
    listed = (await list_secrets(platform.ports, ANN)).secrets
    assert [(s.service, s.version, s.newest, s.used_by) for s in listed] == [
        (None, 1, True, ()),
        ("web", 1, False, ()),
        ("web", 2, False, ("web/production",)),
        ("web", 3, True, ("web/production",)),
    ]
    for version in (2, 3, None):
        with pytest.raises(PlatformError) as raised:
            await remove_secret(platform.ports, ANN, RemoveRequest(secret=PASSWORD, version=version))
        assert raised.value.code is ErrorCode.FAILED_PRECONDITION
        assert "web/production" in raised.value.message
    await remove_secret(platform.ports, ANN, RemoveRequest(secret=PASSWORD, version=first.version))
    await remove_secret(platform.ports, ANN, RemoveRequest(secret=SHARED))
    assert [s.version for s in (await list_secrets(platform.ports, ANN)).secrets] == [2, 3]


@pytest.mark.parametrize("version", [None, 2])
async def test_what_is_not_there_cannot_be_removed(platform: FakePlatform, version: int | None) -> None:
    if version:
        await put(platform, "first")
    with pytest.raises(PlatformError) as raised:
        await remove_secret(platform.ports, ANN, RemoveRequest(secret=PASSWORD, version=version))
    assert raised.value.code is ErrorCode.NOT_FOUND


async def test_the_architecture_says_which_version_is_live_and_whether_a_newer_one_waits(
    platform: FakePlatform,
) -> None:
    first = await put(platform, "first")
    await live(platform, first, await put(platform, "shared", SHARED))
    await put(platform, "second")
    (service,) = (await read_architecture(platform.ports, ANN, ArchitectureQuery())).services
    assert service.requirements["secrets"] == "password=1 (stale: the next deploy gives 2), password=1"
