"""What every keeper of evidence keeps to."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import pytest

from ..domain.errors import ErrorCode, PlatformError
from ..domain.evidence import EvidenceKind, SuiteResults
from ..ports.evidence import Evidence

RELEASE = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


class EvidenceContract:
    """Subclasses give the fixtures `evidence`, `junit`, a file of two tests of which one failed, and `damage`, which
    changes the file of a release with a SHA-256, or removes it."""

    async def test_a_file_is_recognised_and_counted(self, evidence: Evidence, junit: bytes) -> None:
        for kind in (None, EvidenceKind.JUNIT):
            parsed = await evidence.parse(junit, kind)
            assert parsed.kind is EvidenceKind.JUNIT
            assert parsed.findings == SuiteResults(type="tests", tests=2, failures=1)

    async def test_a_file_of_another_kind_than_was_said_is_refused(self, evidence: Evidence, junit: bytes) -> None:
        with pytest.raises(PlatformError) as raised:
            await evidence.parse(junit, EvidenceKind.SARIF)
        assert raised.value.code is ErrorCode.INVALID_ARGUMENT

    @pytest.mark.parametrize("content", [b"", b"words", b"{}", b"<a/>", b"\xff\xfe\x00", b"<testsuite>"])
    async def test_what_is_no_evidence_is_refused(self, evidence: Evidence, content: bytes) -> None:
        with pytest.raises(PlatformError) as raised:
            await evidence.parse(content, None)
        assert raised.value.code is ErrorCode.INVALID_ARGUMENT

    async def test_a_file_is_kept_by_its_digest_twice_as_once(self, evidence: Evidence, junit: bytes) -> None:
        kept = [await evidence.keep(RELEASE, junit) for _ in range(2)]
        assert kept == [sha256(junit).hexdigest()] * 2
        assert await evidence.doubt(RELEASE, kept[0]) == ""

    async def test_it_is_kept_for_that_release_alone(self, evidence: Evidence, junit: bytes) -> None:
        assert await evidence.doubt(OTHER, await evidence.keep(RELEASE, junit))

    async def test_a_file_that_was_changed_or_is_gone_is_doubted_and_kept_anew_it_is_not(
        self, evidence: Evidence, junit: bytes, damage: Callable[[str, str, bytes | None], None]
    ) -> None:
        digest = await evidence.keep(RELEASE, junit)
        damage(RELEASE, digest, junit + b" ")
        assert "changed" in await evidence.doubt(RELEASE, digest)
        damage(RELEASE, digest, None)
        assert "gone" in await evidence.doubt(RELEASE, digest)
        await evidence.keep(RELEASE, junit)
        assert await evidence.doubt(RELEASE, digest) == ""

    async def test_what_is_forgotten_is_gone_and_forgotten_twice_as_once(
        self, evidence: Evidence, junit: bytes
    ) -> None:
        digest = await evidence.keep(RELEASE, junit)
        other = await evidence.keep(OTHER, junit)
        for _ in range(2):
            await evidence.forget(RELEASE)
        assert "gone" in await evidence.doubt(RELEASE, digest)
        assert await evidence.doubt(OTHER, other) == ""
