from __future__ import annotations

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.domain.environment import Environment, EnvironmentKind, Settings, Tenant
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.slo_proposal import Shown
from santiago_platform.operations.propose_slo import SloQuery, propose_slo
from santiago_platform.testing.rows import deployment, version

ANN = Principal(name="ann", role=Role.DEVELOPER)
ENVIRONMENTS = {"staging": Environment(), "live": Environment(kind=EnvironmentKind.PRODUCTION)}
TILL = SloQuery(service="till")


@pytest.fixture
async def platform() -> FakePlatform:
    settings = Settings(environments=ENVIRONMENTS, tenants={"bank": Tenant(services=("vault",))})
    platform = FakePlatform(workspace=FakeWorkspace(("till", "vault"), settings))
    for name in ENVIRONMENTS:
        row = deployment(service="till", environment=name, live=version("one"))
        await platform.store.write(lambda tx, row=row: tx.save_deployment(row))
    platform.metrics.counted["till", "staging"] = Shown(requests=100_000, errors=9_000)
    return platform


async def test_it_is_of_production_where_the_service_is_live_there(platform: FakePlatform) -> None:
    platform.metrics.counted["till", "live"] = Shown(requests=100_000, errors=40)
    found = await propose_slo(platform.ports, ANN, TILL)
    assert (found.environment, [p.target for p in found.proposals]) == ("live", [0.999])
    assert "99.9600% of 100000 requests" in found.yaml


async def test_what_does_not_suffice_is_said(platform: FakePlatform) -> None:
    found = await propose_slo(platform.ports, ANN, TILL)
    assert (found.yaml, found.reason) == ("", "0 requests were seen, and fewer than 1,000 say too little")
    platform.metrics.counted["till", "live"] = Shown(requests=2_000, errors=1_000)
    assert "1000 of 2000 requests failed" in (await propose_slo(platform.ports, ANN, TILL)).reason


async def test_it_is_refused_of_what_is_not_live_or_not_ones_own_and_while_metrics_are_down(
    platform: FakePlatform,
) -> None:
    for service, who, code in (
        ("vault", ANN, ErrorCode.NOT_FOUND),
        ("vault", ANN.model_copy(update={"tenant": "bank"}), ErrorCode.FAILED_PRECONDITION),
    ):
        with pytest.raises(PlatformError) as caught:
            await propose_slo(platform.ports, who, SloQuery(service=service))
        assert caught.value.code is code
    platform.metrics.down = True
    with pytest.raises(PlatformError) as caught:
        await propose_slo(platform.ports, ANN, TILL)
    assert caught.value.code is ErrorCode.UNAVAILABLE
