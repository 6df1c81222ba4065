"""What gates ask of the outside: incidents, error budgets, approvals."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from santiago_platform.adapters.fake.gates import FakeApprovals, FakeErrorBudget, FakeIncidents
from santiago_platform.adapters.not_kept import NoErrorBudget, NoIncidents
from santiago_platform.adapters.stores.approvals import StoredApprovals
from santiago_platform.adapters.stores.sqlite import SqliteStore
from santiago_platform.domain.gate import Budget
from santiago_platform.testing.approvals import ApprovalsContract
from santiago_platform.testing.error_budget import ErrorBudgetContract
from santiago_platform.testing.incidents import IncidentsContract

SLO = """\
apiVersion: openslo/v1
kind: SLO
spec: {objectives: [{target: 0.9}, {targetPercent: 99.5}]}
"""


class TestFakeIncidents(IncidentsContract):
    @pytest.fixture
    def incidents(self) -> FakeIncidents:
        return FakeIncidents()


class TestNoIncidents(IncidentsContract):
    @pytest.fixture
    def incidents(self) -> NoIncidents:
        return NoIncidents()


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


class TestNoErrorBudget(ErrorBudgetContract):
    @pytest.fixture
    def error_budget(self, tmp_path: Path) -> NoErrorBudget:
        return NoErrorBudget(tmp_path)

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
