"""What every keeper of reports keeps to."""

from __future__ import annotations

from datetime import UTC, datetime

from ..domain.report import Chart, ChartKind, Point, Report, Section, Table
from ..ports.reports import Reports

NAME = "2026-W07"


def report(title: str = "Platform report", **fields: object) -> Report:
    """One of each thing that a report may have."""
    chart = Chart(
        name="deploys",
        title="Deploys <by> outcome",
        kind=ChartKind.BARS,
        axes=("service", "deploys"),
        points=(
            Point(x="web", y=3, series="did no harm"),
            Point(x="web", y=1, series="failed"),
            Point(x="api", y=2, series="did no harm"),
        ),
        limit=(5, "limit"),
    )
    table = Table(columns=("service", "why"), rows=(("web", "<script>alert(1)</script> | **x**\n# y"),))
    sections = (
        Section(title="Delivery", words=("All & well.",), tables=(table,), charts=(chart,)),
        Section(title="Cost", missing="nobody knows <it>"),
    )
    made_at = datetime(2026, 2, 16, 1, 2, tzinfo=UTC)
    return Report.model_validate(
        {"name": NAME, "title": title, "period": NAME, "made_at": made_at, "sections": sections, **fields}
    )


class ReportsContract:
    """Subclasses give the fixture `reports`."""

    async def test_a_report_exists_once_it_is_kept_and_no_other_one_does(self, reports: Reports) -> None:
        assert not await reports.exists(NAME)
        files = await reports.keep(report())
        assert any(file.endswith(f"{NAME}/report.md") for file in files)
        assert await reports.exists(NAME)
        assert not await reports.exists("2026-W08")

    async def test_a_report_can_be_kept_again(self, reports: Reports) -> None:
        for title in ("one", "two"):
            await reports.keep(report(title))
        assert await reports.exists(NAME)
