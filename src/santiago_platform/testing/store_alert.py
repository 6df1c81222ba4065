"""The contract of ports.store.Store for alerts and for the rules that are in force."""

from __future__ import annotations

from typing import Any

from ..domain.alert import Alert, AlertSpec
from ..domain.monitoring import Monitoring
from ..domain.rules import Rule, RuleGroup
from ..domain.signal import Signal
from ..ports.store import Store, Transaction
from .rows import START


def alert(name: str = "TooSlow", **fields: Any) -> Alert:
    known: dict[str, Any] = {
        "service": "web",
        "environment": "production",
        "expression": 'load{environment="production",service="web"} > 5',
        "spec": AlertSpec(signal=Signal.ERRORS, threshold=0.05),
        "by": "ann",
        "at": START,
    }
    return Alert(name=name, **{**known, **fields})


def monitoring(service: str = "web", **fields: Any) -> Monitoring:
    group = RuleGroup(name=f"slo/{service}", rules=(Rule(record="a:b", expr="sum(b)", labels={"x": "ünï"}),))
    known: dict[str, Any] = {"environment": "production", "groups": (group,), "by": "ann", "at": START}
    return Monitoring(service=service, **{**known, **fields})


class AlertRowsContract:
    """A subclass supplies the fixture `store`: an empty one, closed afterwards."""

    async def test_alerts_are_told_apart_by_service_environment_and_name(self, store: Store) -> None:
        rows = [alert(), alert("Another"), alert(service="shop"), alert(environment="staging")]

        def unit(tx: Transaction) -> None:
            for row in rows:
                tx.save_alert(row)
            tx.save_alert(alert(by="bob"))

        await store.write(unit)
        found = await store.read(lambda v: list(v.alerts()))
        assert found == [rows[2], rows[1], alert(by="bob"), rows[3]]

        def remove(tx: Transaction) -> None:
            tx.remove_alert(alert())
            tx.remove_alert(alert("Unknown"))

        await store.write(remove)
        assert [a.key for a in await store.read(lambda v: list(v.alerts()))] == [rows[2].key, rows[1].key, rows[3].key]

    async def test_a_service_has_one_set_of_rules_in_force_in_an_environment(self, store: Store) -> None:
        assert await store.read(lambda v: v.monitoring("web", "production")) is None

        def unit(tx: Transaction) -> None:
            tx.save_monitoring(monitoring())
            tx.save_monitoring(monitoring("shop"))
            tx.save_monitoring(monitoring(environment="staging"))
            tx.save_monitoring(monitoring(source="0" * 64, groups=()))

        await store.write(unit)
        assert await store.read(lambda v: v.monitoring("web", "production")) == monitoring(source="0" * 64, groups=())
        found = await store.read(lambda v: list(v.monitorings()))
        assert [(m.service, m.environment) for m in found] == [
            ("shop", "production"),
            ("web", "production"),
            ("web", "staging"),
        ]
