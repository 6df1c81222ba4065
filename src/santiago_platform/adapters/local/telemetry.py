"""What a service is told of the collector, in OpenTelemetry's own variables.

Given at the start, as PORT is: a version is the same wherever its telemetry goes.
"""

from __future__ import annotations

from urllib.parse import quote

from ...domain.environment import Telemetry
from ...domain.workload import Template


def telemetry_variables(telemetry: Telemetry, template: Template, unit: str) -> dict[str, str]:
    """None without an endpoint. unit: of the instance or the run of a job."""
    if telemetry.otlp_endpoint is None:
        return {}
    resource = {
        "service.namespace": template.tenant,
        "service.version": template.version,
        "service.instance.id": unit,
        "deployment.environment": template.environment,  # the older name, which collectors still go by
        "deployment.environment.name": template.environment,
    }
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": telemetry.otlp_endpoint,
        "OTEL_SERVICE_NAME": template.service,
        "OTEL_RESOURCE_ATTRIBUTES": ",".join(f"{key}={quote(value, safe='')}" for key, value in resource.items()),
    }
