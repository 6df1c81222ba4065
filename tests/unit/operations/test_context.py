from __future__ import annotations

from datetime import UTC, datetime

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.gate import Budget, Incident
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.proposal import Task
from santiago_platform.operations.context import Scope, build_ask

ANN = Principal(name="ann", role=Role.DEVELOPER)


async def prompt(platform: FakePlatform, words: str = "deploy web HEAD", environment: str = "production") -> str:
    asked = await build_ask(platform.ports, ANN, Task.DEPLOYMENT_PLAN, words, Scope(environment=environment), {})
    return asked.prompt


@pytest.fixture
def platform() -> FakePlatform:
    platform = FakePlatform()
    opened = datetime(2026, 1, 1, tzinfo=UTC)
    platform.incidents.all = [Incident(id="inc-7", title="burns its budget", page=True, opened_at=opened)]
    platform.error_budget.all["web", "production"] = Budget(remaining_ratio=-0.125, met=False)
    platform.error_budget.targets["web"] = 0.995
    return platform


async def test_slo_state_and_open_incidents_of_what_the_words_name_are_told(platform: FakePlatform) -> None:
    said = await prompt(platform)
    assert "## SLO and error budget of web in production\nSLO: 99.5000% of what it is asked" in said
    assert "the SLO does not hold over its period\nerror budget left: -12.5%" in said
    title = said.index("## Open incidents of web in production\n<<<DATA ")
    assert "inc-7 since 2026-01-01T00:00+00:00, wakes somebody: burns its budget" in said[title:]
    assert "incidents of" not in await prompt(platform, "deploy HEAD"), "it names no service"


async def test_what_is_kept_by_nobody_is_left_out(platform: FakePlatform) -> None:
    platform.incidents.all = None
    platform.error_budget.all["web", "production"] = PlatformError(ErrorCode.UNSUPPORTED, "not kept")
    said = await prompt(platform)
    assert "ncidents of" not in said
    assert "error budget of" not in said
    assert "## What is live" in said


async def test_of_a_budget_with_too_few_data_that_is_said(platform: FakePlatform) -> None:
    platform.error_budget.all["web", "production"] = Budget()
    platform.error_budget.targets.clear()
    said = await prompt(platform)
    assert "SLO: its target is not known\nerror budget left: too few data" in said
