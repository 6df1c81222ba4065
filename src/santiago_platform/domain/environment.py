"""santiago.yaml: environments and what differs between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, ValidationError

from .errors import ErrorCode, PlatformError
from .identity import Name
from .strategy import Strategy
from .value import Value


class ServiceSettings(Value):
    """What one environment says of one service; None means: as the environment's defaults."""

    replicas: Annotated[int, Field(ge=1, le=100)] | None = None
    strategy: Strategy | None = None
    rollback_window_seconds: Annotated[float, Field(ge=0, le=7 * 86400)] | None = None
    ready_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] | None = None
    drain_timeout_seconds: Annotated[float, Field(ge=0, le=3600)] | None = None
    stop_grace_seconds: Annotated[float, Field(ge=0, le=3600)] | None = None
    variables: dict[str, str] = {}


class Environment(Value):
    platform: Annotated[str, Field(pattern="^local$")] = "local"
    defaults: ServiceSettings = ServiceSettings()
    services: dict[Name, ServiceSettings] = {}

    def settings(self, service: str) -> ServiceSettings:
        """The service's settings over the environment's defaults over the platform's own."""
        merged: dict[str, object] = {
            "replicas": 1,
            "strategy": Strategy.BLUE_GREEN,
            "rollback_window_seconds": 600.0,
            "ready_timeout_seconds": 60.0,
            "drain_timeout_seconds": 30.0,
            "stop_grace_seconds": 10.0,
        }
        variables: dict[str, str] = {}
        for layer in (self.defaults, self.services.get(service, ServiceSettings())):
            merged.update(layer.model_dump(exclude_none=True, exclude={"variables"}))
            variables.update(layer.variables)
        return ServiceSettings.model_validate({**merged, "variables": variables})


class ReleaseRetention(Value):
    keep: Annotated[int, Field(ge=1)] = 10
    keep_days: Annotated[float, Field(ge=0)] = 30


class Addresses(Value):
    """Where the platform listens: loopback always. 0 means: the platform's default."""

    server_port: Annotated[int, Field(ge=1, le=65535)] = 8700
    ingress_port: Annotated[int, Field(ge=1, le=65535)] = 8780


class Settings(Value):
    """santiago.yaml, whole."""

    version: Annotated[int, Field(ge=1, le=1)] = 1
    tenant: Name = "default"
    environments: dict[Name, Environment] = {"production": Environment()}
    releases: ReleaseRetention = ReleaseRetention()
    addresses: Addresses = Addresses()

    def overridden(self, variables: Mapping[str, str]) -> Settings:
        """With the ports that SANTIAGO_PORT and SANTIAGO_INGRESS_PORT name, where they do.

        variables: of the process's environment. Raises PlatformError(INVALID_ARGUMENT) for what is no port.
        """
        given = {
            field: variables[name]
            for name, field in (("SANTIAGO_PORT", "server_port"), ("SANTIAGO_INGRESS_PORT", "ingress_port"))
            if variables.get(name)
        }
        try:
            addresses = Addresses.model_validate({**self.addresses.model_dump(), **given})
        except ValidationError as exc:
            raise PlatformError(
                ErrorCode.INVALID_ARGUMENT, f"SANTIAGO_PORT or SANTIAGO_INGRESS_PORT is no port: {given}", "1 to 65535"
            ) from exc
        return self.model_copy(update={"addresses": addresses})
