from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..domain.secret import Secret, SecretVersion


class Secrets(Protocol):
    """Values that services need and nobody else may read: encrypted at rest, in versions that never change."""

    async def put(self, secret: Secret, value: str) -> SecretVersion:
        """A new version with this value, durably; the newest one where it has the value already.

        value: text of 1 to VALUE_BYTES bytes without NUL. Raises INVALID_ARGUMENT for another one, and
        RESOURCE_EXHAUSTED where no space is left; then everything is as it was.
        """

    async def stage(self, secret: Secret, value: str) -> SecretVersion:
        """A new version that is pending, durably, also where the newest one has this value. It is no secret's newest,
        its value cannot be asked for, and `put` and `remove` of others leave it as it is. Raises as `put`."""

    async def publish(self, secret: Secret, version: int) -> SecretVersion:
        """A pending version becomes one like any other, durably. Idempotent. Raises NOT_FOUND."""

    def newest(self, secret: Secret) -> SecretVersion | None:
        """None where it has no version. What is pending does not count. Reads a small file at most."""

    async def value(self, secret: Secret, version: int) -> str:
        """Raises NOT_FOUND, for one that is pending too, and DATA_CORRUPT where it cannot be decrypted."""

    async def list(self) -> Sequence[SecretVersion]:
        """All versions of all secrets, pending ones too, by environment, service, name and version."""

    async def remove(self, secret: Secret, version: int | None = None) -> None:
        """A version, or all, pending ones too; its number is not given again. Idempotent. Whoever calls it sees to it
        that nothing refers to it."""
