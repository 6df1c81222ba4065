from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from santiago_platform.adapters.local.certificate import Certificate, Certificates, read_certificate
from santiago_platform.domain.environment import KeyPair, Tls
from santiago_platform.domain.errors import ErrorCode, PlatformError

P256 = ec.generate_private_key(ec.SECP256R1())
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def write(
    directory: Path,
    key: CertificateIssuerPrivateKeyTypes = P256,
    *,
    other: CertificateIssuerPrivateKeyTypes | None = None,
    encryption: KeySerializationEncryption | None = None,
) -> KeyPair:
    """A certificate of `key`, valid until NOW, beside that key or another one."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "web")])
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=90))
        .not_valid_after(NOW)
        .sign(key, algorithm)
    )
    directory.mkdir(exist_ok=True)
    chain, private = directory / "cert.pem", directory / "key.pem"
    chain.write_bytes(certificate.public_bytes(Encoding.PEM))
    private.write_bytes((other or key).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))
    return KeyPair(certificate=str(chain), key=str(private))


def refusal(pair: KeyPair) -> str:
    with pytest.raises(PlatformError) as caught:
        read_certificate(pair)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert "ingress.tls" in caught.value.hint
    return caught.value.message


@pytest.mark.parametrize("key", [P256, rsa.generate_private_key(65537, 2048)], ids=["EC", "RSA"])
def test_a_sound_pair_is_read_with_its_end(tmp_path: Path, key: CertificateIssuerPrivateKeyTypes) -> None:
    found = read_certificate(write(tmp_path, key))
    assert found.expires == NOW
    assert "PRIVATE KEY" in found.key
    assert "PRIVATE KEY" not in repr(found)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (rsa.generate_private_key(65537, 1024), "is neither an RSA key of 2048 bits or more nor"),
        (ed25519.Ed25519PrivateKey.generate(), "is neither an RSA key of 2048 bits or more nor"),
    ],
    ids=["short RSA", "Ed25519"],
)
def test_a_key_that_the_proxies_would_not_take_is_refused(
    tmp_path: Path, key: CertificateIssuerPrivateKeyTypes, words: str
) -> None:
    assert words in refusal(write(tmp_path, key))


def test_what_cannot_be_served_is_refused_and_named(tmp_path: Path) -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    assert "does not belong to" in refusal(write(tmp_path, other=stranger))
    locked = write(tmp_path, encryption=BestAvailableEncryption(b"secret"))
    assert "holds no private key in PEM without a password" in refusal(locked)
    pair = write(tmp_path)
    Path(pair.certificate).write_text("nothing")
    assert f"{pair.certificate} holds no certificate in PEM" in refusal(pair)
    Path(pair.certificate).write_bytes(b"\xff" * 10)
    assert "it is not text" in refusal(pair)
    Path(pair.certificate).write_text("x" * 300_000)
    assert "is larger than 256 KiB" in refusal(pair)
    Path(pair.certificate).unlink()
    assert "cannot be read (No such file or directory)" in refusal(pair)


@pytest.mark.parametrize(
    ("left", "words"),
    [(timedelta(days=15), ""), (timedelta(days=13), "expires on 2030-01-01"), (timedelta(0), "expired on 2030-01-01")],
)
def test_its_end_is_told_in_time(tmp_path: Path, left: timedelta, words: str) -> None:
    concern = read_certificate(write(tmp_path)).concern(NOW - left)
    assert (words in concern) if words else concern == ""


def test_a_pair_is_handed_over_when_it_has_changed_and_is_sound(tmp_path: Path) -> None:
    given: list[tuple[str, Certificate]] = []
    pair = write(tmp_path)
    tls = Tls(port=8443, **pair.model_dump(), hosts={"x.localhost": write(tmp_path / "x")})
    certificates = Certificates(tls, lambda host, certificate: given.append((host, certificate)))
    certificates.refresh()
    certificates.refresh()
    assert [host for host, _ in given] == ["", "x.localhost"]
    Path(pair.key).write_text("half")
    certificates.refresh()
    assert list(certificates.refused) == [""]
    assert "the certificate before stays" in certificates.concerns()[0]
    write(tmp_path)
    certificates.refresh()
    assert (len(given), certificates.refused) == (3, {})
