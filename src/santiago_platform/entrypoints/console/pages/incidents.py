"""Incidents: the list, and one with its timeline, its suspect, and what one may do about it."""

from __future__ import annotations

from typing import Any

from ....domain.identity import Principal
from ....operations.incidents import IncidentCommand, manage_incident
from ....operations.read_incidents import IncidentsQuery, list_incidents, show_incident
from ....ports import Ports
from ....tools.schema import parse
from ..page import Form, Given, Page


async def _load(ports: Ports, who: Principal, given: Given) -> dict[str, Any]:
    only_open = given.get("open") == "yes"
    asked = {"open": only_open} | ({"cursor": given["cursor"]} if "cursor" in given else {})
    return {"found": await list_incidents(ports, who, parse(IncidentsQuery, asked)), "only_open": only_open}


async def _load_one(ports: Ports, who: Principal, given: Given) -> dict[str, Any]:
    found = await show_incident(ports, who, given["incident"])
    return {"title": f"Incident {found.incident.id}", "found": found}


async def _manage(ports: Ports, who: Principal, given: Given) -> str:
    command = {"incident": given["incident"], "action": given.get("action", ""), "text": given.get("reason", "")}
    done = await manage_incident(ports, who, parse(IncidentCommand, command))
    return f"/console/incidents/{done.incident.id}"


INCIDENTS = Page(
    path="/console/incidents",
    template="incidents.html",
    title="Incidents",
    load=_load,
    section="incidents",
    query=("open", "cursor"),
)
INCIDENT = Page(
    path="/console/incidents/{incident}",
    template="incident.html",
    title="Incident",
    load=_load_one,
    section="incidents",
)
MANAGE_INCIDENT = Form(path="/console/incidents/{incident}", handle=_manage)
