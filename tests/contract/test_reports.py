from __future__ import annotations

import struct
from pathlib import Path
from xml.etree import ElementTree

import pytest

from santiago_platform.adapters.fake.reports import FakeReports
from santiago_platform.adapters.reports import files
from santiago_platform.adapters.reports.files import FileReports
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.testing.reports import NAME, ReportsContract, report


class TestFakeReports(ReportsContract):
    @pytest.fixture
    def reports(self) -> FakeReports:
        return FakeReports()


class TestFileReports(ReportsContract):
    @pytest.fixture
    def reports(self, tmp_path: Path) -> FileReports:
        return FileReports(tmp_path, tmp_path / "reports")

    async def test_its_folder_has_the_text_the_page_and_the_charts(self, reports: FileReports, tmp_path: Path) -> None:
        kept = await reports.keep(report())
        names = ["deploys.png", "deploys.svg", "report.html", "report.md"]
        assert kept == [f"reports/{NAME}/{name}" for name in names]
        assert sorted(path.name for path in (tmp_path / "reports" / NAME).iterdir()) == names
        assert [path.name for path in (tmp_path / "reports").iterdir()] == [NAME]
        png = (tmp_path / kept[0]).read_bytes()
        width, height = struct.unpack(">II", png[16:24])
        assert png.startswith(b"\x89PNG")
        assert width > 1000
        assert height > 400
        svg = ElementTree.parse(tmp_path / kept[1])
        words = " ".join(svg.getroot().itertext())
        for word in ("Deploys <by> outcome", "service", "deploys", "web", "api", "did no harm", "failed", "limit: 5"):
            assert word in words

    async def test_without_the_library_the_report_says_what_charts_need(
        self, reports: FileReports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(files, "can_draw", lambda: False)
        kept = await reports.keep(report())
        assert [Path(file).name for file in kept] == ["report.html", "report.md"]
        assert all("santiago-platform[charts]" in (tmp_path / f).read_text().replace("\\", "") for f in kept)

    async def test_a_folder_that_cannot_be_written_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "reports").write_text("a file")
        with pytest.raises(PlatformError) as caught:
            await FileReports(tmp_path, tmp_path / "reports").keep(report(sections=()))
        assert caught.value.code is ErrorCode.FAILED_PRECONDITION

    async def test_a_folder_that_holds_something_else_is_left_as_it_is(
        self, reports: FileReports, tmp_path: Path
    ) -> None:
        mine = tmp_path / "reports" / NAME / "mine.txt"
        mine.parent.mkdir(parents=True)
        mine.write_text("mine")
        with pytest.raises(PlatformError) as caught:
            await reports.keep(report())
        assert caught.value.code is ErrorCode.FAILED_PRECONDITION
        assert mine.read_text() == "mine"
