"""Certificates of the ingress: read from where people keep them, and handed to the Envoys once they are sound.

The Envoys get a copy, in one file for each host that they watch: it changes in one rename, whatever wrote the
originals, and a pair that is broken or half replaced never reaches them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from ...domain.environment import KeyPair, Tls
from ...domain.errors import ErrorCode, PlatformError

LIMIT_BYTES = 256 * 1024
EXPIRES_SOON = timedelta(days=14)
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


@dataclass(frozen=True, slots=True)
class Certificate:
    """chain, key: PEM. expires: of the first certificate of the chain."""

    chain: str
    key: str = field(repr=False)
    expires: datetime

    def concern(self, now: datetime) -> str:
        """What is to be said of its end; empty while that is far."""
        if now >= self.expires:
            return f"the certificate expired on {self.expires:%Y-%m-%d}"
        return f"the certificate expires on {self.expires:%Y-%m-%d}" if self.expires - now < EXPIRES_SOON else ""


def below(root: Path, pair: KeyPair) -> KeyPair:
    """The same files by absolute paths. root: the workspace."""
    return KeyPair(certificate=str(root / pair.certificate), key=str(root / pair.key))


def read_certificate(pair: KeyPair) -> Certificate:
    """Raises PlatformError(INVALID_ARGUMENT) that names the file where it cannot be served."""
    chain, key = _text(pair.certificate), _text(pair.key)
    try:
        first = x509.load_pem_x509_certificates(chain.encode())[0]
    except ValueError as exc:
        raise _refused(pair.certificate, "holds no certificate in PEM", str(exc)) from exc
    try:
        private = load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise _refused(pair.key, "holds no private key in PEM without a password", str(exc)) from exc
    strong = isinstance(private, rsa.RSAPrivateKey) and private.key_size >= 2048
    if not strong and not (isinstance(private, ec.EllipticCurvePrivateKey) and isinstance(private.curve, _CURVES)):
        raise _refused(pair.key, "is neither an RSA key of 2048 bits or more nor one on P-256, P-384 or P-521")
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if first.public_key().public_bytes(*form) != private.public_key().public_bytes(*form):
        raise _refused(pair.key, f"does not belong to {pair.certificate}")
    return Certificate(chain, key, first.not_valid_after_utc)


class Certificates:
    """Those of the ingress, by host; the empty host is every other. hand_over: makes a sound one known."""

    def __init__(self, tls: Tls, hand_over: Callable[[str, Certificate], None]) -> None:
        self._pairs: dict[str, KeyPair] = {"": tls, **tls.hosts}
        self._hand_over = hand_over
        self._seen: dict[str, object] = {}
        self._read: dict[str, Certificate | PlatformError] = {}

    def refresh(self) -> None:
        """Reads what has changed on disk since the last time. One that is not sound changes nothing."""
        for host, pair in self._pairs.items():
            seen = (_signature(pair.certificate), _signature(pair.key))
            if host in self._seen and self._seen[host] == seen:
                continue
            self._seen[host] = seen
            try:
                self._read[host] = certificate = read_certificate(pair)
            except PlatformError as exc:
                self._read[host] = exc
            else:
                self._hand_over(host, certificate)

    @property
    def refused(self) -> dict[str, PlatformError]:
        """By host, since the last refresh: the one before is served meanwhile."""
        return {host: read for host, read in self._read.items() if isinstance(read, PlatformError)}

    def concerns(self) -> list[str]:
        """What somebody should look after."""
        now, found = datetime.now(UTC), []
        for host, read in sorted(self._read.items()):
            whose = f"TLS of {host}" if host else "TLS of the ingress"
            if isinstance(read, PlatformError):
                found.append(f"{whose}: {read.message}; the certificate before stays")
            elif concern := read.concern(now):
                found.append(f"{whose}: {concern}")
        return found


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            text = file.read(LIMIT_BYTES + 1)
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is not text"
        raise _refused(path, f"cannot be read ({why})") from exc
    if len(text) > LIMIT_BYTES:
        raise _refused(path, f"is larger than {LIMIT_BYTES // 1024} KiB")
    return text


def _signature(path: str) -> object:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _refused(path: str, problem: str, internal: str = "") -> PlatformError:
    return PlatformError(
        ErrorCode.INVALID_ARGUMENT,
        f"{path} {problem}",
        "ingress.tls in santiago.yaml names a certificate with its chain, and its key",
        internal=internal,
    )
