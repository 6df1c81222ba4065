"""santiago.yaml: environments and what differs between them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import Field, ValidationError

from .advisor import Advisors
from .budget import AiBudget
from .canary import Canary
from .change_request import ApprovalRule
from .delivery import Receiver
from .errors import ErrorCode, PlatformError
from .gates import AnyGate
from .gates.approval import ApprovalGate
from .identity import Level, Name, Principal, Role, Scope
from .incident_policy import IncidentPolicy
from .mailbox import MailSettings
from .oauth import OAuth
from .quantity import ByteQuantity
from .rate import RateLimit
from .release import RegistryName
from .rules import MonitoringSettings
from .strategy import Strategy
from .value import Value

LARGEST_STOP_BYTES = 64 << 30


class ServiceSettings(Value):
    """What one environment says of one service; None means: as the environment's defaults.

    watch_seconds: how long a new version is judged after it took over. canary: how strategy canary goes.
    """

    replicas: Annotated[int, Field(ge=1, le=100)] | None = None
    strategy: Strategy | None = None
    rollback_window_seconds: Annotated[float, Field(ge=0, le=7 * 86400)] | None = None
    ready_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] | None = None
    drain_timeout_seconds: Annotated[float, Field(ge=0, le=86400)] | None = None
    stop_grace_seconds: Annotated[float, Field(ge=0, le=3600)] | None = None
    watch_seconds: Annotated[float, Field(ge=0, le=7 * 86400)] | None = None
    canary: Canary | None = None
    variables: dict[str, str] = {}


class EnvironmentKind(StrEnum):
    """What depends on an environment. A later one is the more delicate."""

    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"


class Environment(Value):
    """kind: what policies go by; None: production and staging are what their names say, others are development.
    gates: what a release must pass before it is deployed here, all of them; never asked of a rollback. approvals: who
    has to say yes to a change, and when. incidents: who is told of them, and what is tried by itself.
    """

    kind: EnvironmentKind | None = None
    platform: Annotated[str, Field(pattern="^local$")] = "local"
    defaults: ServiceSettings = ServiceSettings()
    services: dict[Name, ServiceSettings] = {}
    gates: tuple[AnyGate, ...] = ()
    approvals: ApprovalRule = ApprovalRule()
    incidents: IncidentPolicy = IncidentPolicy()

    @property
    def asks_somebody(self) -> bool:
        """Whether a release may have to wait for an approval here."""
        return self.approvals.required or any(isinstance(gate, ApprovalGate) for gate in self.gates)

    def settings(self, service: str) -> ServiceSettings:
        """The service's settings over the environment's defaults over the platform's own."""
        merged: dict[str, object] = {
            "replicas": 1,
            "strategy": Strategy.BLUE_GREEN,
            "rollback_window_seconds": 600.0,
            "ready_timeout_seconds": 60.0,
            "drain_timeout_seconds": 30.0,
            "stop_grace_seconds": 10.0,
            "watch_seconds": 600.0,
        }
        variables: dict[str, str] = {}
        for layer in (self.defaults, self.services.get(service, ServiceSettings())):
            merged.update(layer.model_dump(exclude_none=True, exclude={"variables"}))
            variables.update(layer.variables)
        return ServiceSettings.model_validate({**merged, "variables": variables})


class Parity(Value):
    """allowed: what may differ between environments, and why, by the name that the report gives it."""

    allowed: dict[Annotated[str, Field(min_length=1)], Annotated[str, Field(min_length=1)]] = {}


class ReleaseRetention(Value):
    """How many releases stay, and where they are pushed. auth_file: of the registry's credentials, outside of git."""

    keep: Annotated[int, Field(ge=1)] = 10
    keep_days: Annotated[float, Field(ge=0)] = 30
    registry: RegistryName | None = None
    auth_file: Annotated[str, Field(max_length=1000)] = "~/.docker/config.json"


class Retention(Value):
    """How long logs stay: those of units that are gone until they are that old, or the oldest are too much together; of
    those that are there, rotated files until they are that old, or over logs_unit_bytes with what is newer.

    operations: how many that have ended are remembered; the ship's log keeps the record of all. mail_days: of mail,
    read or not.
    """

    logs_days: Annotated[float, Field(ge=0)] = 30
    logs_bytes: Annotated[int, Field(ge=0)] = 1 << 30
    logs_unit_bytes: Annotated[int, Field(ge=0)] = 32 << 20
    operations: Annotated[int, Field(ge=1000)] = 10_000
    mail_days: Annotated[float, Field(ge=1)] = 30


class DiskLimits(Value):
    """Free space below which it is told, and below which nothing is changed. 0 turns a limit off."""

    warn_bytes: Annotated[int, Field(ge=0)] = 1 << 30
    stop_bytes: Annotated[int, Field(ge=0, le=LARGEST_STOP_BYTES)] = 256 << 20


class Quotas(Value):
    """What all services of a tenant may use together, in all environments; None means: as much as there is.

    instances: that run, those of a rollout and those kept warm included. memory: the sum of their limits. disk: of
    their homes and volumes. operations: that run at once; the way back is never refused for it.
    """

    instances: Annotated[int, Field(ge=1)] | None = None
    memory: ByteQuantity | None = None
    disk: ByteQuantity | None = None
    operations: Annotated[int, Field(ge=1)] | None = None


class Tenant(Value):
    """services: names of those that are its own."""

    services: tuple[Name, ...] = ()
    quotas: Quotas = Quotas()


class Addresses(Value):
    """Where the platform listens: loopback always. 0 means: the platform's default."""

    server_port: Annotated[int, Field(ge=1, le=65535)] = 8700
    ingress_port: Annotated[int, Field(ge=1, le=65535)] = 8780


class KeyPair(Value):
    """Files in PEM, by a path that is absolute or within the workspace. certificate: with its chain."""

    certificate: Annotated[str, Field(min_length=1)]
    key: Annotated[str, Field(min_length=1)]


class Tls(KeyPair):
    """HTTPS at the ingress, on a port beside the plain one. hosts: other certificates by host name, which may begin
    with `*.`; the one above serves the rest."""

    port: Annotated[int, Field(ge=1, le=65535)]
    hosts: dict[Annotated[str, Field(pattern=r"^(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*$")], KeyPair] = {}


class Ingress(Value):
    """access_log: whether each request becomes a line in the log of the Envoy that it passed."""

    tls: Tls | None = None
    access_log: bool = True


class FlagSettings(Value):
    """origins: of web pages that may read flags beside those of this machine, as `https://app.example`; `*` for all."""

    origins: tuple[Annotated[str, Field(pattern=r"^(\*|https?://[A-Za-z0-9.:\[\]-]+)$")], ...] = ()


class Telemetry(Value):
    """otlp_endpoint: where services send OTLP over HTTP; None: they are told nothing. It has no credentials in it."""

    otlp_endpoint: Annotated[str, Field(pattern=r"^https?://[^\s@]+$", max_length=1000)] | None = None


class SessionSettings(Value):
    """ttl_seconds: after which a session expires unless it is renewed."""

    ttl_seconds: Annotated[float, Field(ge=60, le=30 * 86400)] = 7200


class RoleSettings(Value):
    """What holds for principals of a role whose token says nothing else. None: journeyman and lake, of the owner master
    and ocean."""

    level: Level | None = None
    scope: Scope | None = None


class Settings(Value):
    """santiago.yaml, whole.

    tenant: the workspace's own, whose services no other one of `tenants` names.
    """

    version: Annotated[int, Field(ge=1, le=1)] = 1
    tenant: Name = "default"
    tenants: dict[Name, Tenant] = {}
    environments: dict[Name, Environment] = {"production": Environment()}
    parity: Parity = Parity()
    releases: ReleaseRetention = ReleaseRetention()
    retention: Retention = Retention()
    disk: DiskLimits = DiskLimits()
    addresses: Addresses = Addresses()
    ingress: Ingress = Ingress()
    flags: FlagSettings = FlagSettings()
    telemetry: Telemetry = Telemetry()
    budget: AiBudget = AiBudget()
    advisors: Advisors = Advisors()
    roles: dict[Role, RoleSettings] = {}
    sessions: SessionSettings = SessionSettings()
    rates: RateLimit = RateLimit()
    oauth: OAuth | None = None
    mailbox: MailSettings = MailSettings()
    notify: dict[Name, Receiver] = {}
    monitoring: MonitoringSettings = MonitoringSettings()

    def incidents_of(self, environment: str) -> IncidentPolicy:
        """Of an environment that there is not, and of what concerns none: where somebody is told, and no more."""
        named = self.environments.get(environment)
        return named.incidents if named is not None else IncidentPolicy(recover=())

    def kind_of(self, environment: str) -> EnvironmentKind:
        """Of an environment that there is not: what its name says."""
        named = self.environments.get(environment)
        if named is not None and named.kind is not None:
            return named.kind
        known = environment in (EnvironmentKind.PRODUCTION, EnvironmentKind.STAGING)
        return EnvironmentKind(environment) if known else EnvironmentKind.DEVELOPMENT

    @property
    def most_delicate(self) -> EnvironmentKind:
        """The kind that something has which concerns all environments."""
        order = list(EnvironmentKind)
        return max((self.kind_of(name) for name in self.environments), key=order.index, default=order[0])

    def standing(self, principal: Principal) -> Principal:
        """With its level and scope, from the first of: its token, `roles`, the defaults."""
        said = self.roles.get(principal.role, RoleSettings())
        owner = principal.role is Role.OWNER
        level = principal.level or said.level or (Level.MASTER if owner else Level.JOURNEYMAN)
        scope = principal.scope or said.scope or (Scope.OCEAN if owner else Scope.LAKE)
        return principal.model_copy(update={"level": level, "scope": scope})

    def tenant_of(self, service: str) -> str:
        """Whose a service is. What no tenant names is the workspace's own tenant's."""
        return next((name for name, tenant in self.tenants.items() if service in tenant.services), self.tenant)

    def before(self, environment: str) -> str | None:
        """The environment that a release passes before this one: the one that stands before it in the file."""
        names = list(self.environments)
        index = names.index(environment) if environment in names else 0
        return names[index - 1] if index > 0 else None

    @property
    def tenant_names(self) -> frozenset[str]:
        return frozenset({self.tenant, *self.tenants})

    def quotas(self, tenant: str) -> Quotas:
        return self.tenants[tenant].quotas if tenant in self.tenants else Quotas()

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
