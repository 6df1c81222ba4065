"""What asking advisors has cost today."""

from __future__ import annotations

from typing import Any

from ....domain.identity import Principal
from ....operations.report_budget import report_budget
from ....ports import Ports
from ..page import Given, Page


async def _load(ports: Ports, who: Principal, _: Given) -> dict[str, Any]:
    return {"report": await report_budget(ports, who)}


BUDGET = Page(path="/console/budget", template="budget.html", title="AI budget", load=_load, section="budget")
