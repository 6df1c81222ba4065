"""What reports look like in a terminal and as files; the daemon's answer is one that its operation makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from santiago_platform.domain.dora import Deploy, measured
from santiago_platform.domain.slo_proposal import Shown
from santiago_platform.entrypoints.cli import report as command
from santiago_platform.operations.propose_slo import SloProposal
from santiago_platform.operations.report_dora import DeliveryOf, DoraReport, FailureView
from santiago_platform.testing.reports import NAME, report
from santiago_platform.testing.rows import START
from santiago_platform.tools.tool import render

Santiago = Callable[..., Any]


class Daemon:
    """Answers one value to whatever is asked, and remembers the question."""

    def __init__(self, value: Any) -> None:
        self.value = json.loads(render(value))
        self.asked: list[tuple[str, dict[str, str | None] | None]] = []

    def get(self, path: str, query: dict[str, str | None] | None = None) -> Any:
        self.asked.append((path, query))
        return self.value


def dora() -> DoraReport:
    where = {"service": "web", "environment": "production", "tenant": "default"}
    at = START + timedelta(days=29)
    failed = Deploy(
        operation="op-7",
        **where,
        ended_at=at,
        reached_at=at,
        reached_users=True,
        succeeded=True,
        failed="errors",
        recovered_at=at + timedelta(minutes=2),
    )
    end = START + timedelta(days=30)
    row = DeliveryOf(name="web", delivery=measured([failed], end=end, period=timedelta(days=30)))
    why = "[red]errors[/red]"
    failure = FailureView(
        operation="op-7", service="web", environment="production", at=at, why=why, recovery_seconds=120
    )
    return DoraReport(
        since=START,
        until=end,
        days=30,
        environments=("production",),
        services=(row,),
        tenants=(row.model_copy(update={"name": "default"}),),
        failures=(failure,),
        notes=("web: of the last 2,000 operations alone",),
    )


def test_dora_is_a_table_of_values_against_targets(santiago: Santiago, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Daemon(dora())
    monkeypatch.setattr(command, "daemon", lambda: daemon)
    done = santiago("report", "dora", "--service", "web", "--days", "30")
    assert daemon.asked == [("/api/reports/dora", {"service": "web", "days": "30"})]
    lines = {line.split("  ")[0]: line.split() for line in done.out.splitlines()}
    assert lines["fail rate"][2:6] == ["100.0%", "5.0%", "not", "met"]
    assert lines["recovery"][1:8] == ["2.0", "min", "30.0", "min", "met", "elite", "no"]
    assert lines["lead time"][2:4] == ["no", "data"]
    assert "failed: op-7 web, over after 2.0 min: [red]errors[/red]" in done.out
    assert "note: web: of the last 2,000 operations alone" in done.out
    assert "State of DevOps Report 2023" in done.out
    assert santiago("report", "dora", "--json").json == daemon.value


def test_the_weekly_report_is_shown_or_written_with_its_charts(
    santiago: Santiago, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    daemon = Daemon(report())
    monkeypatch.setattr(command, "daemon", lambda: daemon)
    assert santiago("report", "weekly", "--week", NAME).out.startswith("# Platform report: 2026-W07")
    assert daemon.asked == [("/api/reports/weekly", {"week": NAME})]
    files = santiago("report", "weekly", "--out", "here", "--json").json["files"]
    names = ("deploys.png", "deploys.svg", "report.html", "report.md")
    assert files == [str(tmp_path / "here" / NAME / name) for name in names]
    assert all(Path(file).is_file() for file in files)


def test_dashboards_are_exported_without_a_platform_that_runs(santiago: Santiago, tmp_path: Path) -> None:
    assert santiago("init", "shop").code == 0
    words = ("--workspace", "shop", "dashboards", "export", "out", "--prometheus", "http://prometheus.example:9090")
    done = santiago(*words, "--json")
    assert {Path(file).name for file in done.json["files"]} >= {"service.json", "gpu.json", "santiago.yaml"}
    assert "prometheus.example:9090" in (tmp_path / "out/provisioning/datasources/santiago.yaml").read_text()


def test_a_proposed_slo_is_printed_as_the_file_it_becomes_or_it_is_said_why_not(
    santiago: Santiago, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Shown(requests=10_000, errors=1)
    known = SloProposal(service="till", environment="production", shown=shown, yaml="# [b]\nkind: SLO\n")
    daemon = Daemon(known)
    monkeypatch.setattr(command, "daemon", lambda: daemon)
    assert santiago("report", "slo", "--propose", "till").out == known.yaml
    assert daemon.asked == [("/api/reports/slo/till/proposal", None)]
    assert santiago("report", "slo", "--propose", "till", "--json").json == daemon.value
    daemon.value = {"service": "till", "reason": "7 requests were seen"}
    done = santiago("report", "slo", "--propose", "till")
    assert (done.code, done.out) == (1, "")
    assert "7 requests were seen" in done.err
