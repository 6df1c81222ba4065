"""Tenants as santiago.yaml says them, and what a workload of one may refer to."""

from __future__ import annotations

from pathlib import Path

import pytest

from santiago_platform.adapters.workspace.workspace import FileWorkspace
from santiago_platform.domain.environment import Quotas
from santiago_platform.domain.errors import ErrorCode, PlatformError

TENANTS = """\
tenant: home
tenants:
  shop:
    services: [till, stock]
    quotas: {instances: 3, memory: 1.5Gi, disk: 10G}
  bank: {services: [vault]}
"""
SCORE = """\
apiVersion: score.dev/v1b1
metadata: {{name: till}}
containers:
  main:
    image: .
    command: [run, "${{resources.other.url}}"]
resources:
  other: {{type: service, id: {other}}}
"""


def workspace(root: Path, settings: str) -> FileWorkspace:
    (root / "santiago.yaml").write_text(settings)
    for service in ("till", "stock", "vault", "web"):
        folder = root / "services" / service
        folder.mkdir(parents=True)
        (folder / "score.yaml").write_text("")
    return FileWorkspace(root, variables={}, service_port=lambda service, environment: 20001)


def test_a_service_is_the_tenants_that_names_it_and_else_the_workspaces_own(tmp_path: Path) -> None:
    settings = workspace(tmp_path, TENANTS).settings()
    assert {s: settings.tenant_of(s) for s in ("till", "vault", "web")} == {
        "till": "shop",
        "vault": "bank",
        "web": "home",
    }
    assert settings.tenant_names == {"home", "shop", "bank"}
    assert settings.quotas("shop") == Quotas(instances=3, memory="1.5Gi", disk="10G")
    assert settings.quotas("home") == settings.quotas("bank") == Quotas()


def test_a_service_of_two_tenants_is_an_error_in_its_line(tmp_path: Path) -> None:
    twice = TENANTS.replace("[vault]", "[vault, till]")
    with pytest.raises(PlatformError) as caught:
        workspace(tmp_path, twice).settings()
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert caught.value.message == "santiago.yaml:6: the service till is the tenant shop's already"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("memory: lots", "santiago.yaml:5: tenants.shop.quotas.memory"),
        ("memory: 5", "santiago.yaml:5: tenants.shop.quotas.memory must be a text"),
        ("instances: 0", "santiago.yaml:5: tenants.shop.quotas.instances"),
        ("cpu: 1", "santiago.yaml:5: unknown key 'cpu' in tenants.shop.quotas"),
    ],
)
def test_a_mistake_in_a_quota_is_an_error_in_its_line(tmp_path: Path, wrong: str, said: str) -> None:
    with pytest.raises(PlatformError) as caught:
        workspace(tmp_path, f"tenants:\n  shop:\n    services: []\n    quotas:\n      {wrong}\n").settings()
    assert caught.value.message.startswith(said)


def test_a_workload_is_its_tenants_and_finds_the_services_of_its_own(tmp_path: Path) -> None:
    score = SCORE.format(other="stock")
    found = workspace(tmp_path, TENANTS).template(score, release="r", environment="production", where="score.yaml")
    assert found.tenant == "shop"


@pytest.mark.parametrize("other", ["vault", "web", "ghost"])
def test_a_service_of_another_tenant_is_as_one_that_there_is_not(tmp_path: Path, other: str) -> None:
    with pytest.raises(PlatformError) as caught:
        workspace(tmp_path, TENANTS).template(
            SCORE.format(other=other), release="r", environment="production", where="score.yaml"
        )
    assert f"there is no service '{other}'" in caught.value.message
    assert "valid here: stock, till" in caught.value.hint
