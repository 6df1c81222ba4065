"""What Alertmanager sends is taken as it comes, and never at its word."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from santiago_platform.domain.alert_notification import ALERTS_AT_MOST, ANNOTATION_CHARACTERS, notification
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.rules import Severity
from santiago_platform.testing.alerts import alert, webhook

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_message_in_the_wire_format_is_read_with_fields_that_a_newer_alertmanager_adds() -> None:
    body = {**webhook(alert(NOW, version="v2")), "notYetInvented": {"a": 1}}
    told = notification(body)
    assert (told.status, told.truncated) == ("firing", 0)
    (found,) = told.alerts
    assert (found.name, found.service, found.environment) == ("TooManyErrors", "web", "production")
    assert (found.version, found.severity, found.started_at) == ("v2", Severity.PAGE, NOW)
    assert found.runbook == "https://runbooks.example/errors"


@pytest.mark.parametrize(
    ("said", "meant"),
    [("page", Severity.PAGE), ("Critical", Severity.PAGE), ("warning", Severity.TICKET), ("none", Severity.INFO)],
)
def test_severities_of_others_rules_are_understood(said: str, meant: Severity) -> None:
    assert notification(webhook(alert(NOW, severity=said))).alerts[0].severity is meant


def test_a_severity_that_nobody_knows_is_a_ticket() -> None:
    assert notification(webhook(alert(NOW, severity="purple"))).alerts[0].severity is Severity.TICKET


def test_alerts_of_one_objective_have_one_cause() -> None:
    fast, slow = (alert(NOW, alertname=name, slo="latency") for name in ("Fast", "Slow"))
    assert {a.cause for a in notification(webhook(fast, slow)).alerts} == {"slo latency"}


@pytest.mark.parametrize("name", ["../../etc", "Web", "a" * 41, "web production", "", "web\n"])
def test_what_no_service_could_be_called_names_none(name: str) -> None:
    assert notification(webhook(alert(NOW, service=name))).alerts[0].service == ""


def test_words_are_cut_and_what_a_reader_would_not_see_is_gone() -> None:
    (found,) = notification(webhook(alert(NOW, summary="a\u202eb\x1b[31m" + "x" * 10_000))).alerts
    assert found.summary.startswith("ab[31mxx")
    assert len(found.summary) == ANNOTATION_CHARACTERS


def test_the_last_end_is_the_latest_and_never_in_the_future() -> None:
    ends = [alert(NOW, ended_at=NOW + timedelta(seconds=n)) for n in (5, 9)]
    assert notification(webhook(*ends)).latest_end(NOW + timedelta(minutes=1)) == NOW + timedelta(seconds=9)
    assert notification(webhook(*ends)).latest_end(NOW + timedelta(seconds=7)) == NOW + timedelta(seconds=7)


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"status": "burning"}, "status"),
        ({"alerts": "none"}, "alerts"),
        ({"alerts": [{"status": "firing", "labels": {"a": 1}, "startsAt": "2026-01-01T00:00:00Z"}]}, "alerts.0.labels"),
        ({"alerts": [{"status": "firing", "labels": {}, "startsAt": "yesterday"}]}, "alerts.0.startsAt"),
        ({"alerts": [alert(NOW)] * (ALERTS_AT_MOST + 1)}, "alerts"),
        ({"truncatedAlerts": -1}, "truncatedAlerts"),
    ],
)
def test_what_alertmanager_would_not_send_is_refused_with_its_place(changed: dict[str, Any], where: str) -> None:
    with pytest.raises(PlatformError) as raised:
        notification({**webhook(alert(NOW)), **changed})
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT
    assert where in raised.value.message
