from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from santiago_platform.adapters.artifacts.signature import ReleaseKey
from santiago_platform.domain.errors import ErrorCode, PlatformError


def test_what_was_signed_opens_again_also_without_the_private_key(tmp_path: Path) -> None:
    key = ReleaseKey(tmp_path / "keys")
    envelope = key.sign(b'{"a":1}')
    identity = key.id
    (tmp_path / "keys" / "release.key").unlink()
    assert ReleaseKey(tmp_path / "keys").open(envelope) == ({"a": 1}, identity)


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    assert ReleaseKey(tmp_path / "keys").id == ReleaseKey(tmp_path / "keys").id
    assert (tmp_path / "keys" / "release.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("change", ["payload", "payloadType", "signature", "keyid", "none"])
def test_a_changed_envelope_does_not_open(tmp_path: Path, change: str) -> None:
    key = ReleaseKey(tmp_path)
    envelope = json.loads(key.sign(b'{"a":1}'))
    match change:
        case "payload":
            envelope["payload"] = base64.b64encode(b'{"a":2}').decode()
        case "payloadType":
            envelope["payload"] = base64.b64encode(b'{"a":1} ').decode()
        case "signature":
            envelope["signatures"][0]["sig"] = base64.b64encode(bytes(64)).decode()
        case "keyid":
            envelope["signatures"][0]["keyid"] = "0" * 64
        case "none":
            envelope["signatures"] = []
    with pytest.raises(PlatformError) as caught:
        key.open(json.dumps(envelope).encode())
    assert caught.value.code is ErrorCode.DATA_CORRUPT


@pytest.mark.parametrize("envelope", [b"", b"{", b"[]", b"null", b'{"payload": 1, "signatures": 2}', b"\xff"])
def test_junk_does_not_open(tmp_path: Path, envelope: bytes) -> None:
    key = ReleaseKey(tmp_path)
    key.sign(b"{}")
    with pytest.raises(PlatformError) as caught:
        key.open(envelope)
    assert caught.value.code is ErrorCode.DATA_CORRUPT


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    key = ReleaseKey(tmp_path)
    key.sign(b"{}")
    (tmp_path / "release.key").chmod(0o644)
    with pytest.raises(PlatformError, match="read by others") as caught:
        key.sign(b"{}")
    assert caught.value.code is ErrorCode.FAILED_PRECONDITION


def test_a_key_that_is_none_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "release.key").write_text("not a key")
    (tmp_path / "release.key").chmod(0o600)
    with pytest.raises(PlatformError) as caught:
        ReleaseKey(tmp_path).sign(b"{}")
    assert caught.value.code is ErrorCode.FAILED_PRECONDITION
    assert (tmp_path / "release.key").read_text() == "not a key"
