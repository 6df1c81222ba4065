"""Incidents in their table."""

from __future__ import annotations

from collections.abc import Sequence

from ...domain.incident import Incident
from . import statements as sql
from .document import document
from .row_access import RowAccess


class IncidentRows(RowAccess):
    """What ports.store.Snapshot and Transaction say of incidents."""

    def incident(self, incident_id: str) -> Incident | None:
        return self._one(Incident, sql.INCIDENT, id=incident_id)

    def newest_incident(self, service: str, environment: str, cause: str) -> Incident | None:
        given = {"service": service, "environment": environment, "cause": cause}
        return self._one(Incident, sql.newest_incidents(tuple(given), None, None, older=False), **given, limit=1)

    def incidents(
        self,
        *,
        tenant: str | None = None,
        service: str | None = None,
        environment: str | None = None,
        open: bool | None = None,
        unfinished: bool | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> Sequence[Incident]:
        named = {"tenant": tenant, "service": service, "environment": environment}
        given = {name: value for name, value in named.items() if value is not None}
        newest = sql.newest_incidents(tuple(given), open, unfinished, older=before is not None)
        older = {} if before is None else {"before": before}
        return self._all(Incident, newest, **given, **older, limit=limit)

    def save_incident(self, incident: Incident) -> None:
        self._execute(
            sql.SAVE_INCIDENT,
            id=incident.id,
            tenant=incident.tenant,
            service=incident.service,
            environment=incident.environment,
            cause=incident.cause,
            open=incident.is_open,
            unfinished=incident.unfinished,
            document=document(incident),
        )
