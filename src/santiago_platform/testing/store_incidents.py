"""The contract of ports.store.Store for incidents."""

from __future__ import annotations

from ..domain.incident import IncidentState
from ..ports.store import Snapshot, Store, Transaction
from .rows import incident


class IncidentRowsContract:
    """A subclass supplies the fixture `store`: an empty one, closed afterwards."""

    async def test_incidents_are_found_newest_first_by_what_they_are_about_and_how_they_stand(
        self, store: Store
    ) -> None:
        done = {"state": IncidentState.RESOLVED, "postmortem": "p.md"}
        rows = [
            incident(1),
            incident(2, tenant="other", service="till"),
            incident(3, environment="staging"),
            incident(4, **done),
            incident(5, state=IncidentState.RESOLVED),
        ]

        def unit(tx: Transaction) -> None:
            for row in rows:
                tx.save_incident(row)

        await store.write(unit)

        def ids(view: Snapshot) -> list[list[str]]:
            found = [
                view.incidents(),
                view.incidents(limit=2),
                view.incidents(before="in-3"),
                view.incidents(before="in-gone"),
                view.incidents(tenant="other"),
                view.incidents(service="web", environment="production", open=True),
                view.incidents(open=False),
                view.incidents(unfinished=True, service="web"),
            ]
            return [[each.id for each in page] for page in found]

        assert await store.read(ids) == [
            ["in-5", "in-4", "in-3", "in-2", "in-1"],
            ["in-5", "in-4"],
            ["in-2", "in-1"],
            [],
            ["in-2"],
            ["in-1"],
            ["in-5", "in-4"],
            ["in-5", "in-3", "in-1"],
        ]

    async def test_the_newest_incident_of_a_cause_is_found(self, store: Store) -> None:
        def unit(tx: Transaction) -> None:
            for row in (incident(1), incident(2), incident(3, cause="Slow"), incident(4, environment="staging")):
                tx.save_incident(row)

        await store.write(unit)
        newest = await store.read(lambda v: v.newest_incident("web", "production", "TooManyErrors"))
        assert newest == incident(2)
        assert await store.read(lambda v: v.newest_incident("web", "production", "Deaf")) is None

    async def test_a_saved_incident_takes_the_place_of_the_one_before(self, store: Store) -> None:
        await store.write(lambda tx: tx.save_incident(incident(1)))
        await store.write(lambda tx: tx.save_incident(incident(2)))
        changed = incident(1, state=IncidentState.ACKNOWLEDGED, acknowledged_by="ann")
        await store.write(lambda tx: tx.save_incident(changed))
        assert await store.read(lambda v: v.incident("in-1")) == changed
        assert await store.read(lambda v: v.incident("in-9")) is None
        assert [i.id for i in await store.read(lambda v: v.incidents())] == ["in-2", "in-1"]
