from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from santiago_platform.domain.job import (
    KEPT_RUNS,
    LATE,
    Job,
    JobRun,
    RunState,
    When,
    due,
    job_run,
    next_time,
    schedule_problem,
    superseded,
    time_zone_problem,
)
from santiago_platform.domain.workload import Container, HttpGet, Port, Probe, Template

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
TEMPLATE = Template(
    service="web",
    environment="production",
    tenant="default",
    release=f"sha256:{'a' * 64}",
    command=("serve",),
    variables=(("COLOUR", "red"), ("DATABASE", "/db")),
    ports=(Port(name="http", target=8080),),
    readiness=Probe(http_get=HttpGet(path="/", port="http")),
    beside=(Container(name="other", command=("beside",)),),
)


def job(schedule: str = "*/5 * * * *", **fields: Any) -> Job:
    return Job(name="report", when=When.SCHEDULED, command=("./report",), schedule=schedule, **fields)


def run(key: str = "a", **fields: Any) -> JobRun:
    return job_run(job(), TEMPLATE, key, NOW, **fields)


def test_a_job_runs_as_its_version_does_but_for_its_command_its_variables_and_the_ports() -> None:
    given_job = job(variables=(("COLOUR", "blue"), ("A", "1")))
    workload = job_run(given_job, TEMPLATE, "a", NOW).workload
    assert workload.command == ("./report",)
    assert workload.variables == (("A", "1"), ("COLOUR", "blue"), ("DATABASE", "/db"))
    assert (workload.ports, workload.beside, workload.readiness) == ((), (), Probe())
    assert workload.release == TEMPLATE.release


def test_the_same_key_is_the_same_run_and_another_key_another_one() -> None:
    assert run("a").id == run("a").id != run("b").id
    assert run("ro-1").id == f"web__production__report.{TEMPLATE.version}.ro-1"


def test_what_was_missed_several_times_is_due_once_and_for_the_last_time() -> None:
    assert due(job(), NOW - timedelta(minutes=23), NOW) == NOW
    assert due(job(), NOW, NOW) is None
    assert due(job(), NOW - timedelta(minutes=1), NOW + timedelta(minutes=4)) == NOW


def test_what_was_missed_too_long_ago_is_not_made_up_for() -> None:
    nightly = job("0 4 * * *")
    four = datetime(2026, 1, 1, 4, tzinfo=UTC)
    assert due(nightly, NOW - timedelta(days=3), four + LATE - timedelta(minutes=1)) == four
    assert due(nightly, NOW - timedelta(days=3), four + LATE + timedelta(minutes=1)) is None


def test_a_schedule_is_in_its_time_zone_and_the_answer_in_utc() -> None:
    madrid = job("30 4 * * *", time_zone="Europe/Madrid")
    assert next_time(madrid, datetime(2026, 1, 1, tzinfo=UTC)) == datetime(2026, 1, 1, 3, 30, tzinfo=UTC)
    assert next_time(madrid, datetime(2026, 7, 1, tzinfo=UTC)) == datetime(2026, 7, 1, 2, 30, tzinfo=UTC)


def test_on_the_night_of_another_hour_a_nightly_job_is_due_once() -> None:
    for day in (datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)):
        nightly, at, times = job("30 2 * * *", time_zone="Europe/Madrid"), day, []
        while at < day + timedelta(hours=20):
            found = due(nightly, max([day, *times]), at)
            times += [found] if found else []
            at += timedelta(minutes=1)
        assert len(times) == 1


@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=50), st.sampled_from(["*/5 * * * *", "0 * * * *", "* * * * *"])
)
def test_however_rarely_one_looks_no_time_is_due_twice_and_none_lies_ahead(rests: list[int], schedule: str) -> None:
    now, since, seen = NOW, NOW, set[datetime]()
    for minutes in rests:
        now += timedelta(minutes=minutes)
        at = due(job(schedule), since, now)
        if at is not None:
            assert since < at <= now
            assert at not in seen
            seen.add(at)
            since = at


@pytest.mark.parametrize(
    ("schedule", "problem"),
    [
        ("* * * *", "it has 4 fields"),
        ("*/5 * * * * *", "it has 6 fields"),
        ("61 * * * *", "bad minute"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("@daily", "it has 1 fields"),
        ("*/5 * * * *", ""),
        ("30 4 * * MON-FRI", ""),
    ],
)
def test_a_schedule_that_cannot_be_is_said(schedule: str, problem: str) -> None:
    found = schedule_problem(schedule)
    assert problem in found
    assert bool(found) == bool(problem)


@pytest.mark.parametrize("name", ["Mars/Olympus", "../../etc/passwd", "", "Europe"])
def test_a_time_zone_that_there_is_not_is_said(name: str) -> None:
    assert "no time zone" in time_zone_problem(name)
    assert time_zone_problem("UTC") == time_zone_problem("Europe/Madrid") == ""


def test_the_newest_finished_runs_are_kept_and_none_that_runs_is_forgotten() -> None:
    finished = [run(f"f{n}").ended(RunState.SUCCEEDED, NOW) for n in range(KEPT_RUNS + 3)]
    running = run("running")
    assert superseded([running, *finished]) == [r.id for r in finished[KEPT_RUNS:]]
    assert superseded([*finished[:2], running]) == []
