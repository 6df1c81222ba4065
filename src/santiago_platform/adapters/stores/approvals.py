"""What people have approved, from the change requests of the store."""

from __future__ import annotations

from ...domain.gate import Approval
from ...ports.store import Snapshot, Store


class StoredApprovals:
    """Implements ports.approvals.Approvals."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def of(self, release: str, environment: str, role: str) -> Approval | None:
        def look(view: Snapshot) -> Approval | None:
            for request in view.change_requests(open=False, release=release, environment=environment):
                for said in request.approvals:  # broken glass is for its own change alone
                    if said.approved and said.role == role and not said.break_glass:
                        return Approval(by=said.by, at=said.at, reason=said.reason)
            return None

        return await self._store.read(look)
