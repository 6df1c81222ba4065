"""What gates ask of the outside: incidents, error budgets, approvals."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from santiago_platform.adapters.error_budget import RecordedErrorBudget
from santiago_platform.adapters.fake.clock import ManualClock
from santiago_platform.adapters.fake.gates import FakeApprovals, FakeErrorBudget, FakeIncidents
from santiago_platform.adapters.fake.observability import FakeMetrics
from santiago_platform.adapters.stores.approvals import StoredApprovals
from santiago_platform.adapters.stores.incidents import StoredIncidents
from santiago_platform.adapters.stores.sqlite import SqliteStore
from santiago_platform.adapters.workspace.workspace import FileWorkspace
from santiago_platform.domain.gate import Budget
from santiago_platform.domain.incident import IncidentState
from santiago_platform.domain.rules import Severity
from santiago_platform.testing.approvals import ApprovalsContract
from santiago_platform.testing.error_budget import ErrorBudgetContract
from santiago_platform.testing.incidents import IncidentsContract
from santiago_platform.testing.rows import incident

SLO = """\
apiVersion: openslo/v1
kind: SLO
metadata: {name: availability}
spec:
  service: web
  indicatorRef: availability
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{target: 0.9}, {targetPercent: 99.5}]
"""


class TestFakeIncidents(IncidentsContract):
    @pytest.fixture
    def incidents(self) -> FakeIncidents:
        return FakeIncidents()


class TestStoredIncidents(IncidentsContract):
    @pytest.fixture
    async def incidents(self, tmp_path: Path) -> AsyncIterator[StoredIncidents]:
        store = SqliteStore(tmp_path / "platform.db")
        rows = [
            incident(1, severity=Severity.TICKET),
            incident(2),
            incident(3, state=IncidentState.RESOLVED),
            incident(4, environment="staging"),
        ]
        for row in rows:
            await store.write(lambda tx, row=row: tx.save_incident(row))
        yield StoredIncidents(store)
        await store.close()

    async def test_what_is_open_of_the_service_there_is_answered_oldest_first(self, incidents: StoredIncidents) -> None:
        found = await incidents.open("web", "production")
        assert [(i.id, i.page) for i in found] == [("in-1", False), ("in-2", True)]


class TestFakeErrorBudget(ErrorBudgetContract):
    @pytest.fixture
    def error_budget(self) -> FakeErrorBudget:
        return FakeErrorBudget()

    @pytest.fixture
    def write_slo(self, error_budget: FakeErrorBudget) -> Callable[[str], None]:
        def write(service: str) -> None:
            error_budget.all[service, "production"] = Budget(remaining_ratio=0.5, met=True)
            error_budget.targets[service] = 0.995

        return write


class TestRecordedErrorBudget(ErrorBudgetContract):
    @pytest.fixture
    def error_budget(self, tmp_path: Path) -> RecordedErrorBudget:
        (tmp_path / "santiago.yaml").write_text("version: 1\nenvironments: {production: {}}\n")
        return RecordedErrorBudget(FileWorkspace(tmp_path), FakeMetrics(), ManualClock())

    @pytest.fixture
    def write_slo(self, tmp_path: Path) -> Callable[[str], None]:
        def write(service: str) -> None:
            (tmp_path / "services" / service).mkdir(parents=True)
            (tmp_path / "services" / service / "slo.yaml").write_text(SLO)

        return write


class TestFakeApprovals(ApprovalsContract):
    @pytest.fixture
    def approvals(self) -> FakeApprovals:
        return FakeApprovals()


class TestStoredApprovals(ApprovalsContract):
    @pytest.fixture
    async def approvals(self, tmp_path: Path) -> AsyncIterator[StoredApprovals]:
        store = SqliteStore(tmp_path / "platform.db")
        yield StoredApprovals(store)
        await store.close()
