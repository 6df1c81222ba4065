from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.deployment import Deployment, Version
from santiago_platform.domain.job import KEPT_RUNS, Job, JobRun, RunState, When, job_run
from santiago_platform.reconcilers.schedule import ScheduleReconciler

REPORT = Job(name="report", when=When.SCHEDULED, command=("./report",), schedule="*/5 * * * *")


def version(platform: FakePlatform, release: str, *jobs: Job) -> Version:
    template = platform.workspace.template("web", release=release, environment="production", where="")
    return Version(template=template, replicas=1, jobs=jobs)


async def live(platform: FakePlatform, release: str, *jobs: Job) -> None:
    """A version takes over now."""
    row = await platform.store.read(lambda v: v.deployment("web", "production"))
    row = row or Deployment(service="web", environment="production", tenant="default")
    after = row.after(version(platform, release, *jobs), platform.clock.now(), None)
    await platform.store.write(lambda tx: tx.save_deployment(after))


async def runs(platform: FakePlatform, **filter: Any) -> list[JobRun]:
    return list(await platform.store.read(lambda v: v.job_runs(**filter)))


@pytest.fixture
async def platform() -> FakePlatform:
    """Just after a time of the schedule, with the job's version live for half a minute."""
    made = FakePlatform()
    now = made.clock.now()
    made.clock.advance((datetime(now.year, now.month, now.day, 10, 0, 30, tzinfo=UTC) - now).total_seconds())
    await live(made, "v1", REPORT)
    return made


async def let_pass(platform: FakePlatform, minutes: float, loop: ScheduleReconciler, every: float = 10.0) -> None:
    for _ in range(round(minutes * 60 / every)):
        platform.clock.advance(every)
        await loop.pass_over()


async def test_a_job_runs_at_each_of_its_times_once_and_its_end_is_stored(platform: FakePlatform) -> None:
    states: list[str] = []
    loop = ScheduleReconciler(platform.ports, states.append)
    await let_pass(platform, 16, loop)
    found = await runs(platform)
    assert [run.scheduled_for.minute for run in found if run.scheduled_for] == [15, 10, 5]
    assert {run.state for run in found} == {RunState.SUCCEEDED}
    assert len(platform.jobs.started) == len(set(platform.jobs.started)) == 3
    assert states == ["succeeded"] * 3
    assert await platform.jobs.list() == []
    assert [e for e in platform.ship_log.entries if e.action.startswith("job.")] == []


async def test_a_run_that_takes_longer_is_not_overlapped_and_this_is_seen(platform: FakePlatform) -> None:
    loop = ScheduleReconciler(platform.ports)
    platform.jobs.hanging.add("report")
    await let_pass(platform, 11, loop)
    assert [run.state for run in await runs(platform)] == [RunState.SKIPPED, RunState.RUNNING]
    platform.jobs.hanging.clear()
    await let_pass(platform, 5, loop)
    assert [run.state for run in await runs(platform)] == [RunState.SUCCEEDED, RunState.SKIPPED, RunState.SUCCEEDED]


async def test_what_was_missed_while_the_platform_was_down_runs_once_when_it_is_not_too_late(
    platform: FakePlatform,
) -> None:
    platform.clock.advance(23 * 60)
    await let_pass(platform, 1, ScheduleReconciler(platform.ports))
    assert [run.scheduled_for.minute for run in await runs(platform) if run.scheduled_for] == [20]


async def test_a_daemon_that_begins_anew_follows_what_runs_and_begins_nothing_twice(platform: FakePlatform) -> None:
    platform.jobs.hanging.add("report")
    await let_pass(platform, 6, ScheduleReconciler(platform.ports))
    await let_pass(platform, 2, ScheduleReconciler(platform.ports))
    assert len(platform.jobs.started) == 1
    platform.jobs.hanging.clear()
    await let_pass(platform, 1, ScheduleReconciler(platform.ports))
    assert [run.state for run in await runs(platform)] == [RunState.SUCCEEDED]


async def test_a_run_that_failed_is_an_entry_of_the_ships_log_and_counted(platform: FakePlatform) -> None:
    platform.jobs.failing["report"] = "exited with code 3"
    states: list[str] = []
    await let_pass(platform, 6, ScheduleReconciler(platform.ports, states.append))
    assert states == ["failed"]
    (entry,) = [e for e in platform.ship_log.entries if e.action == "job.failed"]
    assert (entry.subject, entry.body["reason"]) == ("web/production report", "exited with code 3")


async def test_the_schedule_is_that_of_the_live_version_and_nothing_of_before_it_is_made_up_for(
    platform: FakePlatform,
) -> None:
    loop = ScheduleReconciler(platform.ports)
    await live(platform, "v2", REPORT.model_copy(update={"schedule": "0 * * * *"}))
    await let_pass(platform, 20, loop)
    assert await runs(platform) == []
    await let_pass(platform, 45, loop)
    assert len(await runs(platform)) == 1
    await live(platform, "v3")
    await let_pass(platform, 70, loop, every=30)
    assert len(await runs(platform)) == 1


async def test_the_last_runs_of_each_job_are_kept(platform: FakePlatform) -> None:
    await let_pass(platform, 5 * (KEPT_RUNS + 3), ScheduleReconciler(platform.ports), every=60)
    found = await runs(platform, limit=1000, unfinished=False)
    assert len(found) == KEPT_RUNS
    assert len(platform.jobs.forgotten) >= 2
    assert set(platform.jobs.forgotten).isdisjoint(run.id for run in found), "their logs are kept too"
    assert found[0].scheduled_for == max(run.scheduled_for for run in found if run.scheduled_for)


async def test_runs_that_no_row_wants_are_ended_and_forgotten(platform: FakePlatform) -> None:
    stranger = job_run(REPORT, version(platform, "v0").template, "lost", platform.clock.now())
    await platform.jobs.start(stranger)
    left = job_run(REPORT, version(platform, "v0").template, "ro-9", platform.clock.now(), rollout_id="ro-9")
    done = left.model_copy(update={"id": left.id + "x"}).ended(RunState.SUCCEEDED, platform.clock.now())
    await platform.jobs.start(done)
    await platform.store.write(lambda tx: tx.save_job_run(done))
    await ScheduleReconciler(platform.ports).pass_over()
    assert await platform.jobs.list() == []


async def test_a_failed_pass_does_not_lose_what_was_due(platform: FakePlatform) -> None:
    loop, store = ScheduleReconciler(platform.ports), platform.store
    write = store.write

    async def refuse(unit: Any) -> Any:
        raise OSError("the disk is full")

    store.write = refuse  # type: ignore[method-assign]
    platform.clock.advance(timedelta(minutes=5).total_seconds())
    with pytest.raises(OSError, match="disk"):
        await loop.pass_over()
    store.write = write  # type: ignore[method-assign]
    await loop.pass_over()
    assert len(platform.jobs.started) == 1
