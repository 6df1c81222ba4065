from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from santiago_platform.adapters.evidence.files import EvidenceFiles
from santiago_platform.adapters.fake.gates import FakeEvidence
from santiago_platform.domain.evidence import EvidenceKind, SuiteResults
from santiago_platform.ports.evidence import Parsed
from santiago_platform.testing.evidence import RELEASE, EvidenceContract

Damage = Callable[[str, str, bytes | None], None]


class TestFakeEvidence(EvidenceContract):
    @pytest.fixture
    def evidence(self) -> FakeEvidence:
        return FakeEvidence()

    @pytest.fixture
    def junit(self) -> bytes:
        found = SuiteResults(type="tests", tests=2, failures=1)
        return Parsed(kind=EvidenceKind.JUNIT, findings=found).model_dump_json().encode()

    @pytest.fixture
    def damage(self, evidence: FakeEvidence) -> Damage:
        def damage(release: str, sha256: str, content: bytes | None) -> None:
            del evidence.files[release, sha256]
            if content is not None:
                evidence.files[release, sha256] = content

        return damage


class TestEvidenceFiles(EvidenceContract):
    @pytest.fixture
    def evidence(self, tmp_path: Path) -> EvidenceFiles:
        return EvidenceFiles(tmp_path / "evidence")

    @pytest.fixture
    def junit(self) -> bytes:
        return b'<testsuite><testcase name="a"/><testcase name="b"><failure>no</failure></testcase></testsuite>'

    @pytest.fixture
    def damage(self, tmp_path: Path) -> Damage:
        def damage(release: str, sha256: str, content: bytes | None) -> None:
            path = tmp_path / "evidence" / release.removeprefix("sha256:") / sha256
            path.unlink()
            if content is not None:
                path.write_bytes(content)

        return damage

    async def test_nobody_else_may_read_it_and_nothing_else_is_left(
        self, evidence: EvidenceFiles, tmp_path: Path
    ) -> None:
        digest = await evidence.keep(RELEASE, b"<testsuite/>")
        modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "evidence").rglob("*")}
        assert modes == {RELEASE.removeprefix("sha256:"): 0o700, digest: 0o600}
        assert (tmp_path / "evidence").stat().st_mode & 0o777 == 0o700

    async def test_a_link_in_place_of_the_file_is_doubted(self, evidence: EvidenceFiles, tmp_path: Path) -> None:
        digest = await evidence.keep(RELEASE, b"<testsuite/>")
        path = tmp_path / "evidence" / RELEASE.removeprefix("sha256:") / digest
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
        assert "cannot be read" in await evidence.doubt(RELEASE, digest)

    @pytest.mark.parametrize("release", ["../../etc", "sha256:" + "a" * 63, "sha256:" + "A" * 64])
    async def test_no_path_is_made_of_what_is_no_digest(self, evidence: EvidenceFiles, release: str) -> None:
        with pytest.raises(ValueError, match="is no SHA-256"):
            await evidence.keep(release, b"")
