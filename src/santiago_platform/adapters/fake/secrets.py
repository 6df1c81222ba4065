from __future__ import annotations

from collections.abc import Sequence

from ...domain.errors import ErrorCode, PlatformError
from ...domain.secret import VALUE_BYTES, Secret, SecretVersion
from ...ports.clock import Clock


class FakeSecrets:
    """In memory. kept: values by version, of each secret."""

    def __init__(self, clock: Clock) -> None:
        self.kept: dict[Secret, dict[int, tuple[SecretVersion, str]]] = {}
        self._last: dict[Secret, int] = {}
        self._clock = clock

    async def put(self, secret: Secret, value: str) -> SecretVersion:
        newest = self.newest(secret)
        if newest is not None and self.kept[secret][newest.version][1] == value:
            return newest
        return self._made(secret, value, pending=False)

    async def stage(self, secret: Secret, value: str) -> SecretVersion:
        return self._made(secret, value, pending=True)

    def _made(self, secret: Secret, value: str, *, pending: bool) -> SecretVersion:
        if not 1 <= len(value.encode(errors="replace")) <= VALUE_BYTES or "\0" in value:
            raise PlatformError(ErrorCode.INVALID_ARGUMENT, "that is no value of a secret")
        version = self._last[secret] = self._last.get(secret, 0) + 1
        known = f"{hash((str(secret), version)):x}" if pending else f"{hash(value):x}"
        made = SecretVersion(secret=secret, version=version, at=self._clock.now(), fingerprint=known, pending=pending)
        self.kept.setdefault(secret, {})[version] = made, value
        return made

    async def publish(self, secret: Secret, version: int) -> SecretVersion:
        if version not in self.kept.get(secret, {}):
            raise PlatformError(ErrorCode.NOT_FOUND, f"there is no version {version} of the secret {secret}")
        made, value = self.kept[secret][version]
        made = made.model_copy(update={"pending": False, "fingerprint": f"{hash(value):x}"})
        self.kept[secret][version] = made, value
        return made

    def newest(self, secret: Secret) -> SecretVersion | None:
        return next((made for made, _ in reversed(self.kept.get(secret, {}).values()) if not made.pending), None)

    async def value(self, secret: Secret, version: int) -> str:
        made, value = self.kept.get(secret, {}).get(version, (None, ""))
        if made is None or made.pending:
            raise PlatformError(ErrorCode.NOT_FOUND, f"there is no version {version} of the secret {secret}")
        return value

    async def list(self) -> Sequence[SecretVersion]:
        found = [made for versions in self.kept.values() for made, _ in versions.values()]
        return sorted(found, key=lambda v: (v.secret.environment, v.secret.service or "", v.secret.name, v.version))

    async def remove(self, secret: Secret, version: int | None = None) -> None:
        kept = self.kept.get(secret, {})
        for number in [number for number in kept if version in (None, number)]:
            del kept[number]
