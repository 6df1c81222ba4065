"""Secrets of a workspace in one file of .santiago, which is replaced whole: names, versions, times, sealed values."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from ...domain.errors import ErrorCode, PlatformError
from ...domain.identity import Name
from ...domain.secret import VALUE_BYTES, Secret, SecretVersion
from ...domain.value import Value
from ...domain.workload import Template
from ...ports.clock import Clock
from ..artifacts.oci import sync_folder
from .redactor import Redactor
from .sealing_key import FINGERPRINT_DIGITS, SealingKey

KEY = "secrets.key"


class _Sealed(Value):
    version: int
    at: datetime
    fingerprint: str
    sealed: str
    pending: bool = False


class _Kept(Value):
    """last: the number that was given last, which a removed version may have had."""

    environment: Name
    name: Name
    service: Name | None = None
    last: int
    versions: tuple[_Sealed, ...] = ()

    @property
    def secret(self) -> Secret:
        return Secret(environment=self.environment, name=self.name, service=self.service)

    @property
    def newest(self) -> _Sealed | None:
        return next((v for v in reversed(self.versions) if not v.pending), None)


class _File(Value):
    form: int = 1
    secrets: tuple[_Kept, ...] = ()


_Stamp = tuple[int, int, int]


class FileSecrets:
    """Implements ports.secrets.Secrets in the file `path`, sealed by a key in `key_directory`. The only writer."""

    def __init__(self, path: Path, key_directory: Path, clock: Clock) -> None:
        self._path = path
        self._key_path = key_directory / KEY
        self._clock = clock
        self._key: SealingKey | None = None
        self._changing = threading.Lock()
        self._read: tuple[_Stamp, dict[Secret, _Kept]] | None = None
        self._redactor: tuple[_Stamp, Redactor] | None = None

    async def put(self, secret: Secret, value: str) -> SecretVersion:
        check_value(value)
        return await asyncio.to_thread(self._put, secret, value)

    async def stage(self, secret: Secret, value: str) -> SecretVersion:
        check_value(value)
        return await asyncio.to_thread(self._put, secret, value, pending=True)

    def _put(self, secret: Secret, value: str, *, pending: bool = False) -> SecretVersion:
        with self._changing:
            known = self._kept()
            key = self._sealing_key(make=not known)
            kept = known.get(secret) or _Kept(**secret.model_dump(), last=0)
            fingerprint = key.fingerprint(str(secret), value)
            newest = None if pending else kept.newest
            same = newest is not None and newest.fingerprint == fingerprint
            if newest is not None and same and key.open(_label(secret, newest.version), newest.sealed) == value:
                return _view(secret, newest)
            version = kept.last + 1
            made = _Sealed(
                version=version,
                at=self._clock.now(),
                fingerprint=fingerprint,
                sealed=key.seal(_label(secret, version), value),
                pending=pending,
            )
            changed = kept.model_copy(update={"last": version, "versions": (*kept.versions, made)})
            self._write({**known, secret: changed})
            return _view(secret, made)

    async def publish(self, secret: Secret, version: int) -> SecretVersion:
        return await asyncio.to_thread(self._publish, secret, version)

    def _publish(self, secret: Secret, version: int) -> SecretVersion:
        with self._changing:
            known = self._kept()
            kept = known.get(secret)
            found = next((v for v in kept.versions if v.version == version), None) if kept else None
            if kept is None or found is None:
                raise _no_version(secret, version)
            made = found.model_copy(update={"pending": False})
            if found.pending:
                versions = tuple(made if v.version == version else v for v in kept.versions)
                self._write({**known, secret: kept.model_copy(update={"versions": versions})})
            return _view(secret, made)

    def newest(self, secret: Secret) -> SecretVersion | None:
        kept = self._kept().get(secret)
        newest = kept.newest if kept else None
        return _view(secret, newest) if newest else None

    async def value(self, secret: Secret, version: int) -> str:
        return await asyncio.to_thread(self._value, secret, version)

    def _value(self, secret: Secret, version: int) -> str:
        kept = self._kept().get(secret)
        sealed = next((v for v in kept.versions if v.version == version), None) if kept else None
        if sealed is None or sealed.pending:
            raise _no_version(secret, version)
        return self._sealing_key().open(_label(secret, version), sealed.sealed)

    async def list(self) -> Sequence[SecretVersion]:
        return [_view(secret, version) for secret, kept in self._kept().items() for version in kept.versions]

    async def remove(self, secret: Secret, version: int | None = None) -> None:
        await asyncio.to_thread(self._remove, secret, version)

    def _remove(self, secret: Secret, version: int | None) -> None:
        with self._changing:
            known = self._kept()
            if (kept := known.get(secret)) is None:
                return
            left = tuple(v for v in kept.versions if version not in (None, v.version))
            if left != kept.versions:
                self._write({**known, secret: kept.model_copy(update={"versions": left})})

    def values(self, template: Template) -> dict[str, str]:
        """What each reference of the template stands for, by its text. Raises FAILED_PRECONDITION, DATA_CORRUPT."""
        found = {}
        for ref in template.secrets:
            try:
                found[str(ref)] = self._value(ref.secret(template.environment), ref.version)
            except PlatformError as exc:
                if exc.code is not ErrorCode.NOT_FOUND:
                    raise
                raise PlatformError(ErrorCode.FAILED_PRECONDITION, exc.message, exc.hint) from exc
        return found

    def hide(self, text: str) -> str:
        """The text without any value that is kept. What cannot be decrypted hides nothing, and is told elsewhere; nor
        does what is pending: nothing knows it that could tell it, and whoever may only ask must not hide words."""
        stamp = self._stamp()
        if self._redactor is None or self._redactor[0] != stamp:
            values = []
            with suppress(PlatformError):
                for secret, kept in self._kept().items():
                    for version in kept.versions:
                        with suppress(PlatformError):
                            values.append(self._value(secret, version.version))
            self._redactor = stamp, Redactor(values)
        return self._redactor[1].hide(text)

    def _sealing_key(self, *, make: bool = False) -> SealingKey:
        if self._key is None:
            self._key = SealingKey.load(self._key_path, make=make)
        return self._key

    def _stamp(self) -> _Stamp:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return 0, 0, 0
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _kept(self) -> dict[Secret, _Kept]:
        """By environment, service and name. Kept by the file's stamp: it is replaced, and never written in place."""
        stamp = self._stamp()
        if self._read is None or self._read[0] != stamp:
            try:
                file = _File() if stamp == (0, 0, 0) else _File.model_validate_json(self._path.read_bytes())
            except (OSError, ValidationError) as exc:
                raise PlatformError(
                    ErrorCode.DATA_CORRUPT,
                    f"{self._path} cannot be read as the secrets of this workspace",
                    "restore it from a backup",
                    internal=type(exc).__name__,
                ) from exc
            self._read = stamp, {kept.secret: kept for kept in file.secrets}
        return self._read[1]

    def _write(self, kept: dict[Secret, _Kept]) -> None:
        ordered = sorted(kept.values(), key=lambda k: (k.environment, k.service or "", k.name))
        partial = self._path.with_name(f".{self._path.name}.new")
        try:
            partial.unlink(missing_ok=True)
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(_File(secrets=tuple(ordered)).stored())
                file.flush()
                os.fsync(file.fileno())
            partial.rename(self._path)
            self._read = None
        except OSError as exc:
            partial.unlink(missing_ok=True)
            full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
            raise PlatformError(
                ErrorCode.RESOURCE_EXHAUSTED if full else ErrorCode.UNAVAILABLE,
                f"{self._path.name} cannot be written: {exc.strerror}",
                "see the disk and its owner",
            ) from exc
        sync_folder(self._path.parent)


def check_value(value: str) -> None:
    """Raises PlatformError(INVALID_ARGUMENT) for what no program can be given."""
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        size = 0
    if not 1 <= size <= VALUE_BYTES or "\0" in value:
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT,
            f"the value of a secret is text of 1 to {VALUE_BYTES} bytes without NUL characters",
            "encode what is no text, as base64 does",
        )


def _no_version(secret: Secret, version: int) -> PlatformError:
    return PlatformError(
        ErrorCode.NOT_FOUND,
        f"there is no version {version} of the secret {secret}",
        "`santiago secret list` shows what there is; deploy the service again to give it the newest one",
    )


def _label(secret: Secret, version: int) -> str:
    return f"{secret}@{version}"


def _view(secret: Secret, sealed: _Sealed) -> SecretVersion:
    # By a fingerprint of the value, whoever may only ask for a change could find out a value by guessing.
    digest = hashlib.sha256(sealed.sealed.encode()).hexdigest()[:FINGERPRINT_DIGITS]
    return SecretVersion(
        secret=secret,
        version=sealed.version,
        at=sealed.at,
        fingerprint=digest if sealed.pending else sealed.fingerprint,
        pending=sealed.pending,
    )
