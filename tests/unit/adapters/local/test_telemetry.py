from __future__ import annotations

import pytest
from opentelemetry.sdk.resources import OTELResourceDetector
from pydantic import ValidationError

from santiago_platform.adapters.local.telemetry import telemetry_variables
from santiago_platform.domain.environment import Telemetry
from santiago_platform.domain.workload import Template

TEMPLATE = Template(service="web", environment="staging", tenant="t1", release="sha256:" + "a" * 64, command=("run",))


def test_a_service_is_told_nothing_unless_there_is_an_endpoint() -> None:
    assert telemetry_variables(Telemetry(), TEMPLATE, "web__staging__x__0") == {}


def test_what_a_service_is_told_is_what_an_sdk_makes_its_resource_of(monkeypatch: pytest.MonkeyPatch) -> None:
    told = telemetry_variables(Telemetry(otlp_endpoint="http://127.0.0.1:4318"), TEMPLATE, "web__staging__x__0")
    assert told["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:4318"
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert dict(OTELResourceDetector().detect().attributes) == {
        "service.name": "web",
        "service.namespace": "t1",
        "service.version": TEMPLATE.version,
        "service.instance.id": "web__staging__x__0",
        "deployment.environment": "staging",
        "deployment.environment.name": "staging",
    }


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4318", "http://user:word@host:4318", "http://a b", "grpc://host"])
def test_an_endpoint_is_a_url_without_credentials(endpoint: str) -> None:
    with pytest.raises(ValidationError):
        Telemetry(otlp_endpoint=endpoint)
