from __future__ import annotations

import pytest
from pydantic import ValidationError

from santiago_platform.domain.environment import Environment, KeyPair, ServiceSettings, Settings, Tls
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.strategy import Strategy


def test_a_service_overrides_its_environment_which_overrides_the_platforms_defaults() -> None:
    environment = Environment(
        defaults=ServiceSettings(replicas=2, strategy=Strategy.ROLLING, variables={"A": "1", "B": "1"}),
        services={"web": ServiceSettings(replicas=3, variables={"B": "2"})},
    )
    web, other = environment.settings("web"), environment.settings("other")
    assert (web.replicas, web.strategy, web.variables) == (3, Strategy.ROLLING, {"A": "1", "B": "2"})
    assert (other.replicas, other.variables, other.rollback_window_seconds) == (2, {"A": "1", "B": "1"}, 600)


def test_the_environments_ports_take_the_place_of_the_files() -> None:
    settings = Settings().overridden({"SANTIAGO_PORT": "9000", "SANTIAGO_INGRESS_PORT": ""})
    assert (settings.addresses.server_port, settings.addresses.ingress_port) == (9000, 8780)
    assert Settings().overridden({}) == Settings()


@pytest.mark.parametrize("port", ["web", "0", "65536", "-1", "80.5"])
def test_a_variable_that_is_no_port_is_refused(port: str) -> None:
    with pytest.raises(PlatformError) as caught:
        Settings().overridden({"SANTIAGO_INGRESS_PORT": port})
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize("host", ["Web.localhost", "a b", "*", "web.*", ".localhost", "a/../b"])
def test_a_certificate_is_for_a_host_name_or_all_below_one(host: str) -> None:
    pair = KeyPair(certificate="c", key="k")
    assert Tls(port=1, certificate="c", key="k", hosts={"*.web.localhost": pair}).hosts
    with pytest.raises(ValidationError):
        Tls.model_validate({"port": 1, "certificate": "c", "key": "k", "hosts": {host: pair.model_dump()}})
