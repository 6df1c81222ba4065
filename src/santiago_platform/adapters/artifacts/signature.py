"""Signatures of releases: an in-toto statement in a DSSE envelope, signed with Ed25519.

Sources: https://github.com/secure-systems-lab/dsse (envelope.md, protocol.md),
https://in-toto.io/Statement/v1, https://slsa.dev/provenance/v1.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from ...domain.errors import ErrorCode, PlatformError
from .oci import canonical

PAYLOAD_TYPE = "application/vnd.in-toto+json"
ENVELOPE = "application/vnd.dsse.envelope.v1+json"
BUILDER = "urn:santiago:builder:local:v1"
BUILD_TYPE = "urn:santiago:build:v1"


class ReleaseKey:
    """The key pair in `folder`: `release.key` (0600, made at the first signature) and `release.pub` beside it."""

    def __init__(self, folder: Path) -> None:
        self._private_path = folder / "release.key"
        self._public_path = folder / "release.pub"

    def sign(self, payload: bytes) -> bytes:
        """The DSSE envelope of `payload`, JSON. Raises PlatformError(FAILED_PRECONDITION) for an unusable key."""
        private = self._private()
        envelope = {
            "payloadType": PAYLOAD_TYPE,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [
                {
                    "keyid": key_id(private.public_key()),
                    "sig": base64.b64encode(private.sign(_authenticated(payload))).decode(),
                }
            ],
        }
        return canonical(envelope)

    def open(self, envelope: bytes) -> tuple[dict[str, Any], str]:
        """The statement in an envelope, and the id of the key that signed it.

        Raises PlatformError(DATA_CORRUPT) unless the workspace's own key signed exactly this.
        """
        try:
            public = load_pem_public_key(self._public_path.read_bytes())
        except (OSError, ValueError, UnsupportedAlgorithm) as exc:
            raise _unsigned(f"the public key {self._public_path.name} cannot be read", str(exc)) from exc
        if not isinstance(public, Ed25519PublicKey):
            raise _unsigned(f"{self._public_path.name} is not an Ed25519 key")
        try:
            content = json.loads(envelope)
            payload = base64.b64decode(content["payload"], validate=True)
            signature = next(s for s in content["signatures"] if s["keyid"] == key_id(public))
            public.verify(base64.b64decode(signature["sig"], validate=True), _authenticated(payload))
            statement = json.loads(payload)
        except StopIteration as exc:
            raise _unsigned("it is signed by another key than this workspace's") from exc
        except (InvalidSignature, ValueError, KeyError, TypeError) as exc:
            raise _unsigned("the signature does not hold", repr(exc)) from exc
        return statement, signature["keyid"]

    @property
    def id(self) -> str:
        """Of the key that signs. Makes it where there is none."""
        return key_id(self._private().public_key())

    def _private(self) -> Ed25519PrivateKey:
        try:
            mode = self._private_path.stat().st_mode
            pem = self._private_path.read_bytes()
        except FileNotFoundError:
            return self._make()
        if mode & 0o077:
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                f"the private key {self._private_path} can be read by others (mode {mode & 0o777:04o})",
                "it may be known to them; `chmod 600` it, or remove both keys and build the releases again",
            )
        try:
            private = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
            raise _unusable(self._private_path) from exc
        if not isinstance(private, Ed25519PrivateKey):
            raise _unusable(self._private_path)
        self._publish(private)
        return private

    def _make(self) -> Ed25519PrivateKey:
        private = Ed25519PrivateKey.generate()
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._private_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=self._private_path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(descriptor)
            # A link, unlike a rename, never takes the place of a key that another process made meanwhile.
            os.link(temporary, self._private_path)
        except FileExistsError:
            return self._private()
        finally:
            Path(temporary).unlink()
        self._publish(private)
        return private

    def _publish(self, private: Ed25519PrivateKey) -> None:
        if not self._public_path.exists():
            pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            temporary = self._public_path.with_suffix(".tmp")
            temporary.write_bytes(pem)
            temporary.replace(self._public_path)


def key_id(public: Ed25519PublicKey) -> str:
    """SHA-256 of the public key's SubjectPublicKeyInfo, hex."""
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def statement(
    service: str, commit: str, digest: str, committed_at: datetime, built_at: datetime, sbom: str
) -> dict[str, Any]:
    """What is signed of a release: SLSA provenance. digest: of the manifest; sbom: of the SBOM's blob."""
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": service, "digest": {"sha256": digest.removeprefix("sha256:")}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"service": service, "commit": commit},
                "internalParameters": {"sourceDateEpoch": int(committed_at.timestamp())},
                "resolvedDependencies": [{"uri": "git+file:workspace", "digest": {"gitCommit": commit}}],
            },
            "runDetails": {
                "builder": {"id": BUILDER},
                "metadata": {"finishedOn": built_at.isoformat()},
                "byproducts": [{"name": "sbom", "digest": {"sha256": sbom.removeprefix("sha256:")}}],
            },
        },
    }


def _authenticated(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: the type is signed with the content."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _unsigned(problem: str, internal: str = "") -> PlatformError:
    return PlatformError(
        ErrorCode.DATA_CORRUPT,
        f"the release is not trusted: {problem}",
        "restore .santiago/keys from a backup, or remove the release and build it again",
        internal=internal,
    )


def _unusable(path: Path) -> PlatformError:
    return PlatformError(
        ErrorCode.FAILED_PRECONDITION,
        f"{path} is not an Ed25519 private key in PEM",
        "restore it from a backup, or remove it and release.pub and build the releases again",
    )
