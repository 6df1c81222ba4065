"""Who asks: every call has a principal, on loopback too."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from .value import Value

# A DNS label: service, environment, tenant and principal names become host names and file names.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$")]


class Role(StrEnum):
    OWNER = "owner"
    ARCHITECT = "architect"
    DEVELOPER = "developer"
    QA = "qa"
    PM = "pm"
    PLATFORM = "platform"
    PIPELINE = "pipeline"  # what builds and tests without a person
    OBSERVER = "observer"


class Level(StrEnum):
    """How much a principal is trusted with, whatever its role."""

    APPRENTICE = "apprentice"
    JOURNEYMAN = "journeyman"
    MASTER = "master"


class Scope(StrEnum):
    """How far a principal's knowledge reaches: each includes the ones before."""

    POND = "pond"  # this workspace's development and staging
    LAKE = "lake"  # and its production
    SEA = "sea"  # and what it shares with others, such as a cluster
    OCEAN = "ocean"  # and what is beyond


class Principal(Value):
    """An authenticated caller. `name` identifies it in the ship's log.

    level, scope: None means: as `roles` in santiago.yaml says of its role. session: within which it asks; a token has
    none yet, nor has the platform itself. token: the id of the one by which it asks, where that was issued here.
    granted: groups of actions and actions that its token is for; None: all.
    """

    name: Name
    role: Role
    tenant: Name = "default"
    level: Level | None = None
    scope: Scope | None = None
    session: str = ""
    token: str = ""
    granted: tuple[str, ...] | None = None


PLATFORM = Principal(name="platform", role=Role.PLATFORM)  # what the platform does of itself is in this name


class Token(Value):
    """A bearer token as it rests: only the SHA-256 of its secret is kept."""

    id: str
    secret_sha256: str
    principal: Principal
    created_at: datetime
    expires_at: datetime | None = None
    revoked: bool = False
    note: Annotated[str, Field(max_length=200)] = ""
