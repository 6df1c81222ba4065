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


class Principal(Value):
    """An authenticated caller. `name` identifies it in the ship's log."""

    name: Name
    role: Role
    tenant: Name = "default"


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
