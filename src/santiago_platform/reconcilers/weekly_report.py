"""The loop that keeps the weekly report: whenever that of the last ended week is missing, it is made."""

from __future__ import annotations

import logging

from ..domain.errors import PlatformError
from ..domain.identity import Principal, Role
from ..domain.report import last_ended_week
from ..operations.report_weekly import WeeklyQuery, report_weekly
from ..ports import Ports

log = logging.getLogger(__name__)

LOOK_SECONDS = 600.0
READER = Principal(name="platform", role=Role.OWNER)  # it is the workspace's, of all tenants


class WeeklyReportReconciler:
    """One per daemon."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    async def run(self) -> None:
        """Passes until it is cancelled; a failed pass is logged and tried again."""
        while True:
            try:
                await self.pass_over()
            except PlatformError as exc:
                log.warning("the weekly report: %s %s", exc.message, exc.internal)
            except Exception:
                log.exception("the weekly report could not be made")
            await self._ports.clock.sleep(LOOK_SECONDS)

    async def pass_over(self) -> None:
        """Makes the report unless it is there, or the platform is younger than the week."""
        week = last_ended_week(self._ports.clock.now())
        first = await self._ports.ship_log.entry(1)
        if first is None or first.at >= week.until or await self._ports.reports.exists(week.name):
            return
        tenant = self._ports.workspace.last_good_settings().tenant
        reader = READER.model_copy(update={"tenant": tenant})
        report = await report_weekly(self._ports, reader, WeeklyQuery(week=week.name))
        files = await self._ports.reports.keep(report)
        log.info("the report of %s: %s", week.name, files[0])
