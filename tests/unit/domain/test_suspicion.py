"""Which change is taken for the cause."""

from __future__ import annotations

from datetime import timedelta

from santiago_platform.domain.incident import Evidence
from santiago_platform.domain.suspicion import Answered, Change, suspect
from santiago_platform.testing.rows import incident

INCIDENT = incident(1000)
HOUR = timedelta(hours=1)


def change(seconds_before: float, version: str = "v2", **fields: str) -> Change:
    at = INCIDENT.began_at - timedelta(seconds=seconds_before)
    what = f"version {version}" if version else "ramp of the flag new"
    return Change(
        operation=f"op-{version or 'flag'}",
        kind="deploy_service",
        what=what,
        by="ann",
        at=at,
        version=version,
        **fields,
    )


def test_the_last_change_before_the_first_alert_is_suspected_by_time() -> None:
    found = suspect(INCIDENT, [change(900, "v1"), change(60, "v2"), change(-5, "v3")], HOUR, {})
    assert found is not None
    assert (found.operation, found.evidence) == ("op-v2", Evidence.TIME)
    assert found.reasons == ("version v2 came 60 s before the first alert, by operation op-v2 of ann",)


def test_nothing_is_suspected_where_nothing_was_changed_within_the_time() -> None:
    assert suspect(INCIDENT, [change(3601)], HOUR, {}) is None


def test_the_version_that_alerts_name_is_suspected_before_a_later_change_of_a_flag() -> None:
    named = INCIDENT.model_copy(update={"versions": ("v2",)})
    found = suspect(named, [change(600, "v2"), change(30, "", flag="new")], HOUR, {})
    assert found is not None
    assert (found.operation, found.evidence) == ("op-v2", Evidence.VERSION)


def test_a_rollout_of_another_version_than_the_alerts_name_is_no_suspect() -> None:
    named = INCIDENT.model_copy(update={"versions": ("v1",)})
    assert suspect(named, [change(60, "v2")], HOUR, {}) is None


def test_a_version_that_fails_clearly_more_often_than_the_one_before_is_suspected_by_version() -> None:
    answered = {"v2": Answered(requests=100, errors=10), "v1": Answered(requests=1000, errors=1)}
    found = suspect(INCIDENT, [change(60, "v2", before="v1")], HOUR, answered)
    assert found is not None
    assert found.evidence is Evidence.VERSION
    assert found.reasons[1] == "10 of 100 requests to v2 failed, of v1 before it 1 of 1000"


def test_a_version_that_fails_as_the_one_before_is_suspected_by_time_alone_and_that_is_said() -> None:
    for before in (Answered(requests=100, errors=6), Answered(requests=10, errors=0)):
        answered = {"v2": Answered(requests=100, errors=10), "v1": before}
        found = suspect(INCIDENT, [change(60, "v2", before="v1")], HOUR, answered)
        assert found is not None
        assert found.evidence is Evidence.TIME
        assert "not clearly worse" in found.reasons[1] or "too little is known" in found.reasons[1]


def test_a_few_requests_say_nothing() -> None:
    answered = {"v2": Answered(requests=19, errors=19), "v1": Answered(requests=1000, errors=0)}
    found = suspect(INCIDENT, [change(60, "v2", before="v1")], HOUR, answered)
    assert found is not None
    assert found.evidence is Evidence.TIME
