"""What is going wrong, from the incidents of the store."""

from __future__ import annotations

from collections.abc import Sequence

from ...domain.gate import Incident
from ...ports.store import Snapshot, Store

OPEN_AT_MOST = 1_000


class StoredIncidents:
    """Implements ports.incidents.Incidents."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def open(self, service: str, environment: str) -> Sequence[Incident]:
        def look(view: Snapshot) -> list[Incident]:
            found = view.incidents(service=service, environment=environment, open=True, limit=OPEN_AT_MOST)
            return [Incident(id=i.id, title=i.title, page=i.page, opened_at=i.opened_at) for i in reversed(found)]

        return await self._store.read(look)
