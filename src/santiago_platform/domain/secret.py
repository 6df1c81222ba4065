"""Secrets: named in one place, kept in another, and never written where others read.

A template holds references, each with the version that it was resolved to. So a new version of a secret is another
version of the service, which rolls out and back like any other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from pydantic import Field

from .identity import Name
from .value import Value

VALUE_BYTES = 64 * 1024  # an environment variable may have twice as many

_REFERENCE = re.compile(r"<secret (?:[a-z0-9-]+/)?[a-z0-9-]+@[0-9]+>")
_VERSION = re.compile(r"(<secret (?:[a-z0-9-]+/)?[a-z0-9-]+)@[0-9]+>")


class Secret(Value):
    """Whose it is. service: None means that it is for all services of the environment."""

    environment: Name
    name: Name
    service: Name | None = None

    def __str__(self) -> str:
        return "/".join(filter(None, (self.environment, self.service, self.name)))


class SecretVersion(Value):
    """One value of a secret, which never changes. version: from 1, and never given twice.

    fingerprint: the same for the same value of the same secret, and of no use without the workspace's key.
    pending: it waits for a yes, and nothing gets it; then its fingerprint is of its sealed form, which tells of no
    value whether it is this one.
    """

    secret: Secret
    version: Annotated[int, Field(ge=1)]
    at: datetime
    fingerprint: str
    pending: bool = False

    @property
    def ref(self) -> SecretRef:
        return SecretRef(name=self.secret.name, version=self.version, service=self.secret.service)


class SecretRef(Value):
    """A version of a secret, within an environment. Its text stands in variables and files in place of the value."""

    name: Name
    version: Annotated[int, Field(ge=1)]
    service: Name | None = None

    def __str__(self) -> str:
        return f"<secret {f'{self.service}/' if self.service else ''}{self.name}@{self.version}>"

    def secret(self, environment: str) -> Secret:
        return Secret(environment=environment, name=self.name, service=self.service)


def refers(text: str) -> bool:
    return _REFERENCE.search(text) is not None


def revealed(text: str, values: Mapping[str, str]) -> str:
    """With the value of each reference in its place. What `values` does not have stays: it is no reference."""
    return _REFERENCE.sub(lambda match: values.get(match[0], match[0]), text)


def unversioned(text: str) -> str:
    """For comparing environments, each of which counts its own versions."""
    return _VERSION.sub(r"\1>", text)
