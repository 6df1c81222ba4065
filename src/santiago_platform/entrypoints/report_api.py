"""Reports as plain JSON: each route is one operation."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ..operations.propose_slo import SloQuery, propose_slo
from ..operations.report_budget import report_budget
from ..operations.report_dora import DoraQuery, report_dora
from ..operations.report_slo import report_slo
from ..operations.report_weekly import WeeklyQuery, report_weekly
from ..ports import Ports
from ..tools.schema import parse
from ..tools.tool import render
from .http_answer import Handler, json_answer, principal_of


class ReportApi:
    """The routes of reports, for JsonApi."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def handlers(self) -> list[tuple[str, str, Handler]]:
        return [
            ("GET", "/api/reports/slo", self.slo),
            ("GET", "/api/reports/slo/{service}/proposal", self.slo_proposal),
            ("GET", "/api/reports/budget", self.budget),
            ("GET", "/api/reports/dora", self.dora),
            ("GET", "/api/reports/weekly", self.weekly),
        ]

    async def slo(self, request: Request) -> Response:
        return json_answer(render(await report_slo(self._ports, principal_of(request))))

    async def slo_proposal(self, request: Request) -> Response:
        asked = parse(SloQuery, dict(request.path_params))
        return json_answer(render(await propose_slo(self._ports, principal_of(request), asked)))

    async def budget(self, request: Request) -> Response:
        return json_answer(render(await report_budget(self._ports, principal_of(request))))

    async def dora(self, request: Request) -> Response:
        asked = parse(DoraQuery, _numbered(request, "days"))
        return json_answer(render(await report_dora(self._ports, principal_of(request), asked)))

    async def weekly(self, request: Request) -> Response:
        asked = parse(WeeklyQuery, dict(request.query_params))
        return json_answer(render(await report_weekly(self._ports, principal_of(request), asked)))


def _numbered(request: Request, *numbers: str) -> dict[str, Any]:
    """The query's parameters, with those as numbers that are."""
    given = dict(request.query_params)
    return {name: int(v) if name in numbers and v.isdecimal() and len(v) < 10 else v for name, v in given.items()}
