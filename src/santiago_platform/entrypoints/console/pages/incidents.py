"""Incidents: open ones and those of late."""

from __future__ import annotations

from ..page import Page
from .report import of_resource

INCIDENTS = Page(
    path="/console/incidents",
    template="report.html",
    title="Incidents",
    load=of_resource("santiago://incidents", "incidents"),
    section="incidents",
)
