from __future__ import annotations

from collections.abc import Sequence

from ...domain.report import Report


class FakeReports:
    """Implements ports.reports.Reports in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, Report] = {}

    async def exists(self, name: str) -> bool:
        return name in self.kept

    async def keep(self, report: Report) -> Sequence[str]:
        self.kept[report.name] = report
        return [f"{report.name}/report.md"]
