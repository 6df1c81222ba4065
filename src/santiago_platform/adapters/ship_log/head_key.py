"""The Ed25519 key that signs the end of the ship's log."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ...domain.errors import ErrorCode, PlatformError
from ...domain.ship_log import Head


class HeadKey:
    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> HeadKey:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> HeadKey:
        """The key in `path` (PEM, 0600), made where it is missing, with its public half beside it as `.pub` (hex).

        Raises PlatformError: DATA_CORRUPT where the file holds no such key, FAILED_PRECONDITION where others may
        read it.
        """
        if not path.exists():
            fresh = path.with_name(f".{path.name}.new")
            fresh.unlink(missing_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(
                    Ed25519PrivateKey.generate().private_bytes(
                        serialization.Encoding.PEM,
                        serialization.PrivateFormat.PKCS8,
                        serialization.NoEncryption(),
                    )
                )
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        if path.stat().st_mode & 0o077:
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                f"the private key {path} can be read by others",
                "`chmod 600` it; if they may have read it, move it aside, and a new key is made",
            )
        try:
            private = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
            raise _no_key(path) from exc
        if not isinstance(private, Ed25519PrivateKey):
            raise _no_key(path)
        key = cls(private)
        path.with_suffix(".pub").write_text(f"{key.public.hex()}\n")
        return key

    def sign(self, seq: int, hash: str, at: datetime) -> Head:
        signature = self._private.sign(_signed(seq, hash))
        return Head(seq=seq, hash=hash, at=at, key=self.public.hex(), signature=signature.hex())


def signature_holds(seq: int, hash: str, signature: str, key: str) -> bool:
    """Whether `signature` over `seq:hash` was made by the owner of the public key `key`; both hex."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), _signed(seq, hash))
    except (ValueError, InvalidSignature):
        return False
    return True


def _no_key(path: Path) -> PlatformError:
    return PlatformError(
        ErrorCode.DATA_CORRUPT,
        f"{path} holds no Ed25519 key",
        "restore it from a backup; or move it aside, and the ship's log is signed with a new key from then on",
    )


def _signed(seq: int, hash: str) -> bytes:
    return f"{seq}:{hash}".encode()
