"""Service level objectives, and what is left of their error budgets."""

from __future__ import annotations

from ..page import Page
from .report import of_resource

SLOS = Page(
    path="/console/slos",
    template="report.html",
    title="SLOs and error budgets",
    load=of_resource("santiago://reports/slo", "SLOs and error budgets"),
    section="slos",
)
