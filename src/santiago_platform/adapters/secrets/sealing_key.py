"""The key of a workspace's secrets. They are sealed by ChaCha20-Poly1305, each bound to what it is the value of."""

from __future__ import annotations

import base64
import hmac
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ...domain.errors import ErrorCode, PlatformError

KEY_BYTES, NONCE_BYTES = 32, 12
FINGERPRINT_DIGITS = 12


class SealingKey:
    """label: what a value belongs to; a sealed value put in another one's place does not open."""

    def __init__(self, secret: bytes) -> None:
        self._cipher = ChaCha20Poly1305(_derived(secret, b"santiago secret value"))
        self._mark = _derived(secret, b"santiago secret fingerprint")

    @classmethod
    def load(cls, path: Path, *, make: bool) -> SealingKey:
        """The key in `path` (hex, 0600). make: it is made where it is missing.

        Raises PlatformError: DATA_CORRUPT where it is missing and may not be made, or is no key; FAILED_PRECONDITION
        where others may read it.
        """
        if make and not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = path.with_name(f".{path.name}.new")
            fresh.unlink(missing_ok=True)
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(f"{os.urandom(KEY_BYTES).hex()}\n")
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        try:
            if path.stat().st_mode & 0o077:
                raise PlatformError(
                    ErrorCode.FAILED_PRECONDITION,
                    f"the key {path} can be read by others",
                    "`chmod 600` it; if they may have read it, set every secret anew",
                )
            secret = bytes.fromhex(path.read_text().strip())
        except (FileNotFoundError, ValueError) as exc:
            raise _no_key(path) from exc
        if len(secret) != KEY_BYTES:
            raise _no_key(path)
        return cls(secret)

    def seal(self, label: str, value: str) -> str:
        """In base64. The nonce is a random one: a workspace has far too few values for two to meet."""
        nonce = os.urandom(NONCE_BYTES)
        return base64.b64encode(nonce + self._cipher.encrypt(nonce, value.encode(), label.encode())).decode()

    def open(self, label: str, sealed: str) -> str:
        """Raises PlatformError(DATA_CORRUPT) for what this key did not seal under this label."""
        try:
            raw = base64.b64decode(sealed, validate=True)
            return self._cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], label.encode()).decode()
        except (InvalidTag, ValueError) as exc:
            raise PlatformError(
                ErrorCode.DATA_CORRUPT,
                f"the secret {label} cannot be decrypted",
                "set it anew: `santiago secret set`; or restore a backup",
            ) from exc

    def fingerprint(self, label: str, value: str) -> str:
        """Hex digits. Keyed, since a short secret can be found by trying out what has a given hash."""
        return hmac.digest(self._mark, f"{label}\0{value}".encode(), "sha256").hex()[:FINGERPRINT_DIGITS]


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose).derive(secret)


def _no_key(path: Path) -> PlatformError:
    return PlatformError(
        ErrorCode.DATA_CORRUPT,
        f"{path} does not hold the key of this workspace's secrets",
        "restore it from a backup; without it move secrets.json aside too, and set every secret anew",
    )
