from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from santiago_platform.adapters.fake.jobs import FakeJobs
from santiago_platform.adapters.local.jobs import LocalJobs
from santiago_platform.adapters.local.launcher import Launcher
from santiago_platform.adapters.process import Process, processes_of, recorded
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.job import JobRun
from santiago_platform.domain.workload import File, Limits, Volume
from santiago_platform.ports.jobs import JobState
from santiago_platform.testing.eventually import eventually
from santiago_platform.testing.jobs import JobsContract, MakeRun, shell_run, status_of, until, until_gone
from santiago_platform.testing.supervised import SupervisedWorkspace


def maker(script: str, **job: Any) -> MakeRun:
    return lambda **template: shell_run(script, template=template, **job)


@pytest.fixture
def succeeding() -> MakeRun:
    return maker("true", name="migrate")


@pytest.fixture
def failing() -> MakeRun:
    return maker("exit 3", name="fail", retries=1)


@pytest.fixture
def hanging() -> MakeRun:
    return maker("exec sleep 600", name="hang")


def _words(process: Process) -> list[str]:
    return Path(f"/proc/{process.pid}/cmdline").read_bytes().decode().split("\0")


class TestFakeJobs(JobsContract):
    @pytest.fixture
    def jobs(self) -> FakeJobs:
        fake = FakeJobs()
        fake.failing["fail"] = "exited with code 3 (2 times)"
        fake.hanging.add("hang")
        return fake


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, binary: Callable[[str], Path]) -> Iterator[SupervisedWorkspace]:
    binary("s6-svscan")
    with SupervisedWorkspace(tmp_path_factory.mktemp("jobs") / "it's a workspace") as made:
        yield made


@pytest.mark.e2e
class TestLocalJobs(JobsContract):
    @pytest.fixture
    async def jobs(self, tree: SupervisedWorkspace) -> AsyncIterator[LocalJobs]:
        jobs = LocalJobs(tree.layout, tree.supervisor, Launcher(tree.layout, tree.supervisor, tree.release))
        yield jobs
        for status in await jobs.list():
            await jobs.stop(status.run_id)
        await eventually(jobs.list, lambda listed: not listed)

    def log(self, tree: SupervisedWorkspace, run: JobRun) -> str:
        path = tree.layout.logs / run.id / "current"
        return path.read_text() if path.exists() else ""

    async def ended(self, jobs: LocalJobs, run: JobRun, state: JobState = JobState.SUCCEEDED) -> str:
        await jobs.start(run)
        return (await until(jobs, run, state)).reason

    async def test_it_runs_in_its_release_with_the_variables_of_its_version_and_its_own_and_no_port(
        self, jobs: LocalJobs, tree: SupervisedWorkspace
    ) -> None:
        run = shell_run(
            'echo "in $PWD: $MODE $COLOUR ${PORT-no port} $SANTIAGO_INSTANCE"',
            variables=(("COLOUR", 'it\'s "red" $HOME'),),
            template={"mode": "of the version"},
        )
        await self.ended(jobs, run)
        said = f'in {tree.release.folder}: of the version it\'s "red" $HOME no port {run.id}'
        await eventually(lambda: asyncio.to_thread(self.log, tree, run), lambda text: said in text)

    async def test_one_that_takes_too_long_is_ended_with_all_that_it_started(
        self, jobs: LocalJobs, tree: SupervisedWorkspace
    ) -> None:
        run = shell_run("trap '' TERM; setsid sleep 300 & sleep 300", timeout_seconds=1)
        assert await self.ended(jobs, run, JobState.FAILED) == "ran out of time (1 s)"
        left = list(processes_of(tree.layout.id, "sleep"))
        assert left == []

    async def test_one_that_ends_on_the_time_out_s_term_has_run_out_of_time_too(self, jobs: LocalJobs) -> None:
        run = shell_run("exec sleep 300", timeout_seconds=1)
        assert "ran out of time (1 s)" in await self.ended(jobs, run, JobState.FAILED)

    async def test_one_that_fails_first_and_then_succeeds_has_succeeded(self, jobs: LocalJobs, tmp_path: Path) -> None:
        flag = tmp_path / "flag"
        run = shell_run('[ -e "$FLAG" ] || { : >"$FLAG"; exit 1; }', retries=3, variables=(("FLAG", str(flag)),))
        await jobs.start(run)
        assert (await until(jobs, run, JobState.SUCCEEDED)).attempts == 2

    async def test_it_is_held_to_the_limits_of_its_version(self, jobs: LocalJobs, tree: SupervisedWorkspace) -> None:
        run = shell_run("exec sleep 300", template={"limits": Limits(memory_bytes=64 << 20)})
        await jobs.start(run)
        await eventually(lambda: asyncio.to_thread((tree.supervisor.directory(run.id) / "limits").exists))

    @pytest.mark.parametrize("of", ["the job", "its supervisor", "both"])
    async def test_a_killed_process_leaves_one_run_and_no_other_process(
        self, jobs: LocalJobs, tree: SupervisedWorkspace, of: str
    ) -> None:
        run = shell_run("echo begun; exec sleep 300", retries=1)
        await jobs.start(run)
        place = tree.supervisor.directory(run.id)
        process = await eventually(lambda: asyncio.to_thread(recorded, place / "process"), lambda p: p is not None)
        assert process is not None
        if of != "its supervisor":
            os.kill(process.pid, signal.SIGKILL)
        if of != "the job":
            supervisor = next(p for p in processes_of(tree.layout.id) if _words(p)[:2] == ["s6-supervise", run.id])
            supervisor.send(signal.SIGKILL)
        again = await eventually(
            lambda: asyncio.to_thread(recorded, place / "process"), lambda p: p is not None and p.alive and p != process
        )
        assert again is not None
        status = await status_of(jobs, run)
        assert status is not None
        assert status.state is JobState.RUNNING
        sleeping = list(processes_of(tree.layout.id, "sleep"))
        assert len(sleeping) <= 1
        await until_gone(jobs, run)
        assert list(processes_of(tree.layout.id, "sleep")) == []

    async def test_a_finished_run_stays_finished_over_down_and_up_and_one_that_was_cut_off_begins_again(
        self, tmp_path: Path, binary: Callable[[str], Path]
    ) -> None:
        with SupervisedWorkspace(tmp_path / "own") as tree:
            jobs = LocalJobs(tree.layout, tree.supervisor, Launcher(tree.layout, tree.supervisor, tree.release))
            done, cut = shell_run("echo done", name="done"), shell_run("echo begun; exec sleep 300", name="cut")
            await self.ended(jobs, done)
            await jobs.start(cut)
            await eventually(lambda: asyncio.to_thread(self.log, tree, cut), lambda text: "begun" in text)
            await asyncio.to_thread(tree.supervisor.stop_tree, 5)
            await asyncio.to_thread(tree.supervisor.start_tree)
            again = lambda text: text.count("begun") == 2  # noqa: E731
            await eventually(lambda: asyncio.to_thread(self.log, tree, cut), again)
            status = await status_of(jobs, cut)
            assert status is not None
            assert (status.state, status.attempts) == (JobState.RUNNING, 1), "what cut it off counts as no attempt"
            assert (await until(jobs, done, JobState.SUCCEEDED)).attempts == 1
            assert self.log(tree, done).count("done") == 1

    async def test_a_release_that_is_missing_here_is_said(self, jobs: LocalJobs) -> None:
        with pytest.raises(PlatformError) as caught:
            await jobs.start(shell_run(template={"release": f"sha256:{'0' * 64}"}))
        assert caught.value.code is ErrorCode.FAILED_PRECONDITION

    async def test_the_logs_of_a_run_outlive_it_until_it_is_forgotten(
        self, jobs: LocalJobs, tree: SupervisedWorkspace
    ) -> None:
        run, other = shell_run("echo said"), shell_run("exec sleep 300", key="ro-2")
        await self.ended(jobs, run)
        await jobs.start(other)
        await until_gone(jobs, run)
        assert "said" in self.log(tree, run)
        await jobs.forget([run.id, other.id, "../logs", "a__../../b__c", "daemon"])
        assert not (tree.layout.logs / run.id).exists()
        assert (tree.layout.logs / other.id).is_dir()

    async def test_files_and_volumes_of_its_version_are_at_their_paths(
        self, jobs: LocalJobs, tree: SupervisedWorkspace
    ) -> None:
        mounted = {
            "files": (File(path="/etc/shop/shop.conf", content="name = shop\n"),),
            "volumes": (Volume(path="/var/lib/shop", name="data"),),
        }
        run = shell_run("cp /etc/shop/shop.conf /var/lib/shop/seen", template=mounted)
        await self.ended(jobs, run)
        assert (tree.layout.volumes / "web__production" / "data" / "seen").read_text() == "name = shop\n"

    async def test_instances_and_runs_of_jobs_are_not_taken_for_each_other(
        self, jobs: LocalJobs, tree: SupervisedWorkspace
    ) -> None:
        await jobs.start(shell_run("exec sleep 300"))
        compute = tree.compute()
        assert await compute.list() == []
        assert len(await jobs.list()) == 1
