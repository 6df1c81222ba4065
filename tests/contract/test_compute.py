from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from santiago_platform.adapters.fake.compute import FakeCompute
from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.local.compute import LocalCompute
from santiago_platform.adapters.local.port_registry import PortRegistry
from santiago_platform.adapters.local.supervisor import Supervisor
from santiago_platform.adapters.process import Process, processes_of
from santiago_platform.adapters.system import SystemClock
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.workload import HttpGet, Instance, Port, Probe, Template
from santiago_platform.ports.compute import Compute, InstanceState, InstanceStatus
from santiago_platform.testing.compute import (
    ComputeContract,
    Make,
    UnpackedRelease,
    service_template,
    until,
    until_gone,
    until_ready,
    without_use,
)
from santiago_platform.testing.eventually import eventually
from santiago_platform.testing.lifeline import Lifeline

ALIVE = Probe(http_get=HttpGet(path="/alive", port="http"))


class FastClock(SystemClock):
    """Health is looked at again after 5 s of it: 50 ms."""

    def monotonic(self) -> float:
        return time.monotonic() * 100


class TestFakeCompute(ComputeContract):
    @pytest.fixture
    def compute(self, dying: Template, unready: Template) -> FakeCompute:
        fake = FakeCompute()
        fake.broken[dying.release] = (InstanceState.FAILED, "exited with code 3")
        fake.broken[unready.release] = (InstanceState.STARTING, "nothing listens on PORT=1")
        return fake

    @pytest.fixture
    def make(self) -> Make:
        return service_template

    @pytest.fixture
    def dying(self) -> Template:
        return service_template(release=f"sha256:{'d' * 64}")

    @pytest.fixture
    def unready(self) -> Template:
        return service_template(release=f"sha256:{'e' * 64}")


class Tree:
    """A workspace with a supervision tree, and what the tests ask of it."""

    def __init__(self, root: Path, lifeline: Lifeline) -> None:
        root.mkdir()
        lifeline.watch(root)
        self.layout = Layout.of(root)
        self.layout.state.mkdir(mode=0o700)
        self.supervisor = Supervisor(self.layout)
        self.supervisor.start_tree()
        self.release = UnpackedRelease(self.layout.state / "release")
        self.registry = PortRegistry(self.layout.root)

    def compute(self) -> LocalCompute:
        return LocalCompute(self.layout, self.supervisor, self.registry, self.release, FastClock())

    def supervisor_of(self, unit: str) -> Process:
        """The s6-supervise of a unit."""
        (found,) = (p for p in self._named("s6-supervise", unit) if p.alive)
        return found

    def _named(self, *words: str) -> Iterator[Process]:
        for process in processes_of(self.layout.id):
            try:
                said = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if said[: len(words)] == list(words):
                yield process

    def processes(self, instance: Instance) -> list[Process]:
        """Everything that runs as the instance, its children too."""
        mark = f"SANTIAGO_INSTANCE={instance.id}".encode()
        found = []
        for process in processes_of(self.layout.id):
            try:
                environment = Path(f"/proc/{process.pid}/environ").read_bytes()
            except OSError:
                continue
            if mark in environment.split(b"\0"):
                found.append(process)
        return found

    def log(self, instance: Instance) -> str:
        return (self.layout.logs / instance.id / "current").read_text()

    def home(self, template: Template) -> Path:
        return self.layout.state / "home" / f"{template.service}__{template.environment}"

    def end(self) -> list[Process]:
        return self.supervisor.stop_tree(5)


@pytest.fixture(scope="module")
def lifeline(binary: Callable[[str], Path]) -> Iterator[Lifeline]:
    binary("s6-svscan")
    held = Lifeline()
    yield held
    held.close()


@pytest.fixture(scope="module")
def module_tree(tmp_path_factory: pytest.TempPathFactory, lifeline: Lifeline) -> Iterator[Tree]:
    tree = Tree(tmp_path_factory.mktemp("compute") / "it's a workspace", lifeline)
    yield tree
    tree.end()
    assert list(processes_of(tree.layout.id)) == []


@pytest.fixture
def own_tree(tmp_path: Path, lifeline: Lifeline) -> Iterator[Tree]:
    """For a test that kills the tree itself."""
    tree = Tree(tmp_path / "workspace", lifeline)
    yield tree
    tree.end()
    assert list(processes_of(tree.layout.id)) == []


async def emptied(compute: Compute) -> None:
    for status in await compute.list():
        await compute.stop(status.instance.id)
    await eventually(compute.list, lambda listed: not listed)


@pytest.mark.e2e
class TestLocalCompute(ComputeContract):
    @pytest.fixture
    def tree(self, module_tree: Tree) -> Tree:
        return module_tree

    @pytest.fixture
    async def compute(self, tree: Tree) -> AsyncIterator[LocalCompute]:
        compute = tree.compute()
        yield compute
        await emptied(compute)
        assert {p for p in tree.registry.mine() if "__" in p} == set()
        for file in tree.layout.state.glob("home/*/*"):
            file.unlink()

    @pytest.fixture
    def make(self) -> Make:
        return service_template

    @pytest.fixture
    def dying(self) -> Template:
        return service_template(mode="exits 3")

    @pytest.fixture
    def unready(self) -> Template:
        return service_template(mode="listens nowhere")

    async def started(self, compute: Compute, **changed: object) -> tuple[Instance, InstanceStatus]:
        instance = Instance(template=service_template(**changed), index=0)
        await compute.start(instance)
        return instance, await until_ready(compute, instance)

    # --- what a process gets

    async def test_its_environment_is_what_the_template_says_and_the_few_words_of_the_platform(
        self, compute: Compute, tree: Tree
    ) -> None:
        hostile = {
            "QUOTES": 'it\'s "quoted" `id` $HOME ${HOME} \\',
            "COMMAND": "$(touch /tmp/santiago-owned); rm -rf . & | < >",
            "LINES": "one\ntwo\n'\n\ttab \r end",
            "UNICODE": "Große Grüße 🚢 \u202e",
            "EMPTY": "",
            "BRACES": "{unit} {{}} %s %%",
            "-S": "sh -c 'exit 1'",
            "HOME_DIRECTORY": "~root *",
            "SANTIAGO_INSTANCE": "another",
        }
        ports = (Port(name="http", target=8080), Port(name="admin-api", target=9))
        instance, status = await self.started(compute, variables=hostile, ports=ports)
        words = Path(f"/proc/{status.pid}/environ").read_bytes().decode().split("\0")[:-1]
        found = dict(word.split("=", 1) for word in words)
        assert found.pop("PATH").startswith("/")
        assert found == {
            **hostile,
            "MODE": "",
            "HOME": str(tree.home(instance.template)),
            "LANG": "C.UTF-8",
            "PORT": str(status.endpoints["http"].port),
            "PORT_ADMIN_API": str(status.endpoints["admin-api"].port),
            "SANTIAGO_INSTANCE": instance.id,
            "SANTIAGO_WORKSPACE_ID": tree.layout.id,
        }

    async def test_its_arguments_reach_it_as_they_are(self, compute: Compute) -> None:
        words = ("it's", "$(id)", "two\nlines", "", "*", "a=b", "--", "🚢")
        command = (*service_template().command, *words)
        _, status = await self.started(compute, command=command)
        assert Path(f"/proc/{status.pid}/cmdline").read_bytes().decode().split("\0")[:-1] == list(command)

    async def test_it_runs_in_its_release_and_leads_a_session_of_its_own(self, compute: Compute, tree: Tree) -> None:
        _, status = await self.started(compute)
        assert os.readlink(f"/proc/{status.pid}/cwd") == str(tree.release.folder)
        assert os.getsid(status.pid) == status.pid

    async def test_its_output_goes_to_private_files_that_outlive_it(self, compute: Compute, tree: Tree) -> None:
        instance, status = await self.started(compute)
        await compute.stop(instance.id)
        await until_gone(compute, instance)
        assert f"serving {status.endpoints['http'].port}" in tree.log(instance)
        assert "ended gracefully" in tree.log(instance)
        for path in (tree.layout.logs / instance.id, tree.layout.units, tree.layout.scan):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path

    @pytest.mark.parametrize(
        "changed",
        [
            {"variables": {"A": "nul\0"}},
            {"variables": {"A=B": "c"}},
            {"variables": {"": "c"}},
            {"variables": {"A": "\ud800"}},
            {"command": ()},
            {"command": ("a=b", "c")},
            {"command": ("sh", "nul\0")},
        ],
    )
    async def test_what_no_process_can_be_started_with_is_refused(
        self, compute: Compute, changed: dict[str, object]
    ) -> None:
        with pytest.raises(PlatformError) as caught:
            await compute.start(Instance(template=service_template(**changed), index=0))
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT
        assert caught.value.hint
        assert await compute.list() == []

    async def test_a_release_that_is_missing_here_is_refused(self, compute: Compute) -> None:
        with pytest.raises(PlatformError) as caught:
            await compute.start(Instance(template=service_template(release=f"sha256:{'0' * 64}"), index=0))
        assert caught.value.code is ErrorCode.FAILED_PRECONDITION

    # --- readiness and liveness

    @pytest.mark.parametrize(
        "readiness",
        [Probe(), Probe(command=("sh", "-c", 'test "$MODE" = "" && test -f service.py'))],
        ids=["a port that accepts", "a command"],
    )
    async def test_readiness_is_as_its_probe_says(self, compute: Compute, readiness: Probe) -> None:
        await self.started(compute, readiness=readiness)

    async def test_a_probe_command_that_fails_says_so(self, compute: Compute) -> None:
        instance = Instance(template=service_template(readiness=Probe(command=("sh", "-c", "exit 7"))), index=0)
        await compute.start(instance)
        await until(compute, instance, lambda s: s.reason == "the probe's command exited with code 7")

    async def test_one_that_listens_elsewhere_is_told_where(self, compute: Compute, tree: Tree) -> None:
        instance = Instance(template=service_template(mode="listens elsewhere"), index=0)
        await compute.start(instance)
        status = await until(compute, instance, lambda s: "it listens" in s.reason)
        (port,) = (line.split()[-1] for line in tree.log(instance).splitlines() if "elsewhere" in line)
        assert status.reason == f"nothing listens on PORT={status.endpoints['http'].port} (it listens on {port})"

    async def test_one_that_was_ready_is_unready_until_it_is_ready_again(self, compute: Compute, tree: Tree) -> None:
        instance, before = await self.started(compute)
        said = tree.home(instance.template) / "healthz"
        said.write_text("503")
        status = await until(compute, instance, lambda s: s.state is InstanceState.UNREADY)
        assert (status.reason, status.pid) == ("GET /healthz answered 503", before.pid)
        said.unlink()
        assert (await until_ready(compute, instance)).pid == before.pid

    async def test_one_that_is_no_longer_alive_is_restarted_by_a_restarted_daemon_too(
        self, compute: Compute, tree: Tree
    ) -> None:
        instance, before = await self.started(compute, liveness=ALIVE)
        (tree.home(instance.template) / "alive").write_text("500")
        (tree.home(instance.template) / "healthz").write_text("500")
        again = tree.compute()
        status = await until(again, instance, lambda s: s.pid not in (0, before.pid))
        assert status.restarts == 1

    async def test_one_that_hangs_and_ignores_the_term_is_killed(self, compute: Compute, tree: Tree) -> None:
        instance, before = await self.started(compute, mode="ignores TERM", liveness=ALIVE, stop_grace_seconds=0.2)
        (tree.home(instance.template) / "alive").write_text("500")
        await until(compute, instance, lambda s: s.pid not in (0, before.pid))
        assert not Process(before.pid, before.started_ticks).alive

    # --- ends

    async def test_one_that_ignores_the_term_is_killed_after_its_grace_and_stays_listed_until_then(
        self, compute: Compute
    ) -> None:
        instance, before = await self.started(compute, mode="ignores TERM", stop_grace_seconds=0.4)
        began = time.monotonic()
        await compute.stop(instance.id)
        status = await until(compute, instance, lambda s: s.state is InstanceState.STOPPING)
        assert status.pid == before.pid
        await until_gone(compute, instance)
        assert time.monotonic() - began >= 0.4
        assert not Process(before.pid, before.started_ticks).alive

    async def test_one_that_is_stopping_is_not_started_by_a_start_and_a_later_one_starts_it(
        self, compute: Compute
    ) -> None:
        instance, before = await self.started(compute, mode="ignores TERM", stop_grace_seconds=0.3)
        await compute.stop(instance.id)
        await compute.start(instance)
        await until_gone(compute, instance)
        await compute.start(instance)
        assert (await until_ready(compute, instance)).pid != before.pid

    async def test_what_it_left_in_the_background_ends_with_it(self, compute: Compute, tree: Tree) -> None:
        instance, before = await self.started(compute, mode="leaves a child")
        assert len(tree.processes(instance)) == 2
        os.kill(before.pid, signal.SIGKILL)
        await until(compute, instance, lambda s: s.state is InstanceState.READY and s.pid != before.pid)
        assert len(tree.processes(instance)) == 2
        await compute.stop(instance.id)
        await until_gone(compute, instance)
        assert tree.processes(instance) == []

    async def test_concurrent_stops_and_lists_step_on_nothing(self, compute: Compute, tree: Tree) -> None:
        instances = [Instance(template=service_template(), index=index) for index in range(3)]
        for instance in instances:
            await compute.start(instance)
        other = tree.compute()

        async def all_gone() -> bool:
            await asyncio.gather(*(compute.stop(i.id) for i in instances), compute.list(), other.list())
            return not await compute.list()

        await eventually(all_gone)

    # --- kills

    async def test_one_that_was_killed_is_restarted_on_its_own_port(self, compute: Compute) -> None:
        instance, before = await self.started(compute)
        os.kill(before.pid, signal.SIGKILL)
        await until(compute, instance, lambda s: s.state is InstanceState.BACKING_OFF and "SIGKILL" in s.reason)
        after = await until(compute, instance, lambda s: s.state is InstanceState.READY and s.pid != before.pid)
        assert (after.restarts, after.endpoints) == (1, before.endpoints)

    async def test_a_killed_supervisor_leaves_one_process_and_no_orphan(self, compute: Compute, tree: Tree) -> None:
        instance, before = await self.started(compute, mode="leaves a child")
        tree.supervisor_of(instance.id).send(signal.SIGKILL)
        after = await until(compute, instance, lambda s: s.state is InstanceState.READY and s.pid != before.pid)
        assert len(tree.processes(instance)) == 2  # it and its child
        assert Process(after.pid, after.started_ticks) in tree.processes(instance)
        assert not Process(before.pid, before.started_ticks).alive
        assert "ended gracefully" in tree.log(instance)

    async def test_a_killed_supervisor_of_one_that_is_stopping_starts_nothing(
        self, compute: Compute, tree: Tree
    ) -> None:
        instance, before = await self.started(compute, mode="ignores TERM", stop_grace_seconds=0.5)
        await compute.stop(instance.id)
        tree.supervisor_of(instance.id).send(signal.SIGKILL)
        await until_gone(compute, instance)
        assert tree.processes(instance) == []
        assert tree.log(instance).count("serving") == 1
        assert not Process(before.pid, before.started_ticks).alive

    async def test_a_restarted_daemon_sees_the_same_instances_and_processes(self, compute: Compute, tree: Tree) -> None:
        _, before = await self.started(compute)
        again = tree.compute()
        after = await until_ready(again, before.instance)
        assert without_use(after) == without_use(before)
        await emptied(again)
        assert await compute.list() == []

    async def test_a_crash_between_writing_a_unit_and_linking_it_is_mended_by_a_look(
        self, compute: Compute, tree: Tree
    ) -> None:
        instance, _ = await self.started(compute)
        await compute.stop(instance.id)
        saved = tree.layout.state / "saved"
        shutil.copytree(tree.supervisor.directory(instance.id), saved, ignore=shutil.ignore_patterns("supervise", "e*"))
        await until_gone(compute, instance)
        for file in ("stopping", "process", "lock"):
            (saved / file).unlink()
        saved.rename(tree.supervisor.directory(instance.id))
        tree.registry.claim(f"{instance.id}:http")
        await until(compute, instance, lambda s: s.pid)

    async def test_a_unit_whose_record_was_lost_is_removed_and_can_be_started_again(
        self, compute: Compute, tree: Tree
    ) -> None:
        instance, before = await self.started(compute)
        (tree.supervisor.directory(instance.id) / "instance.json").write_text("")
        again = tree.compute()
        assert await again.list() == []

        async def gone() -> bool:
            return not await again.list() and not tree.supervisor.directory(instance.id).exists()

        await eventually(gone)
        await again.start(instance)
        assert (await until_ready(again, instance)).pid != before.pid

    async def test_ports_that_a_crash_left_claimed_are_freed_by_the_next_daemon(
        self, compute: Compute, tree: Tree
    ) -> None:
        tree.registry.claim("web__production__0123456789ab__0:http")
        tree.registry.claim("prometheus")
        await tree.compute().list()
        assert set(tree.registry.mine()) == {"prometheus"}


async def seen(value: bool) -> bool:
    return value


@pytest.mark.e2e
class TestKilledTree:
    """s6-svscan was killed: its supervisors live on, and must be neither doubled nor forgotten."""

    @pytest.fixture
    async def compute(self, own_tree: Tree) -> LocalCompute:
        return own_tree.compute()

    async def killed(self, compute: Compute, tree: Tree) -> tuple[Instance, InstanceStatus]:
        instance = Instance(template=service_template(), index=0)
        await compute.start(instance)
        before = await until_ready(compute, instance)
        tree_process = tree.supervisor.running
        assert tree_process is not None
        tree_process.send(signal.SIGKILL)
        await eventually(lambda: seen(tree.supervisor.running is None))
        return instance, before

    async def test_its_services_go_on_and_a_new_tree_takes_them_over_without_a_double(
        self, own_tree: Tree, compute: Compute
    ) -> None:
        instance, before = await self.killed(compute, own_tree)
        own_tree.supervisor.start_tree()
        other = Instance(template=service_template(), index=1)
        await compute.start(other)
        await until_ready(compute, other)
        assert (await until_ready(compute, instance)).pid == before.pid
        os.kill(before.pid, signal.SIGKILL)  # the old supervisor still does its work
        now = await until(compute, instance, lambda s: s.state is InstanceState.READY and s.pid != before.pid)
        assert len(own_tree.processes(instance)) == 1
        assert "already running" not in (own_tree.layout.logs / "svscan.log").read_text()
        own_tree.supervisor_of(instance.id).send(signal.SIGKILL)  # and when it dies, the new tree has it
        await until(compute, instance, lambda s: s.state is InstanceState.READY and s.pid != now.pid)
        assert len(own_tree.processes(instance)) == 1
        await eventually(lambda: seen(own_tree.log(instance).count("serving") == 3))

    async def test_an_instance_of_the_old_tree_can_be_stopped(self, own_tree: Tree, compute: Compute) -> None:
        instance, _ = await self.killed(compute, own_tree)
        own_tree.supervisor.start_tree()
        await compute.stop(instance.id)
        await until_gone(compute, instance)
        assert own_tree.processes(instance) == []

    async def test_without_a_new_tree_too(self, own_tree: Tree, compute: Compute) -> None:
        instance, _ = await self.killed(compute, own_tree)
        await compute.stop(instance.id)
        await until_gone(compute, instance)
        assert list(processes_of(own_tree.layout.id)) == []

    @pytest.mark.parametrize("again", [False, True], ids=["no new tree", "a new tree"])
    async def test_taking_it_down_ends_what_lives_on_gracefully(
        self, own_tree: Tree, compute: Compute, again: bool
    ) -> None:
        instance, _ = await self.killed(compute, own_tree)
        if again:
            own_tree.supervisor.start_tree()
        assert await asyncio.to_thread(own_tree.end) == []
        assert "ended gracefully" in own_tree.log(instance)
        assert list(processes_of(own_tree.layout.id)) == []

    async def test_down_and_up_brings_the_same_instance_back_on_its_port(
        self, own_tree: Tree, compute: Compute
    ) -> None:
        instance = Instance(template=service_template(), index=0)
        await compute.start(instance)
        before = await until_ready(compute, instance)
        assert await asyncio.to_thread(own_tree.end) == []
        own_tree.supervisor.start_tree()
        after = await until_ready(compute, instance)
        assert (after.endpoints, after.restarts) == (before.endpoints, 0)
        assert after.pid != before.pid

    async def test_a_tree_whose_start_was_not_recorded_is_found(self, own_tree: Tree) -> None:
        running = own_tree.supervisor.running
        (own_tree.layout.state / "svscan").unlink()
        assert own_tree.supervisor.running == running
        own_tree.supervisor.start_tree()
        assert own_tree.supervisor.running == running

    async def test_a_down_that_was_killed_half_way_is_finished_by_the_next_up(
        self, own_tree: Tree, compute: Compute
    ) -> None:
        instance = Instance(template=service_template(), index=0)
        await compute.start(instance)
        before = await until_ready(compute, instance)
        (own_tree.layout.state / "ending").touch()
        own_tree.supervisor.control(instance.id, "-d")
        await asyncio.to_thread(own_tree.supervisor.start_tree)
        assert (await until_ready(compute, instance)).pid != before.pid
        assert not (own_tree.layout.state / "ending").exists()

    async def test_a_failed_instance_stays_failed_over_down_and_up(self, own_tree: Tree, compute: Compute) -> None:
        instance = Instance(template=service_template(mode="exits 3"), index=0)
        await compute.start(instance)
        before = await until(compute, instance, lambda s: s.state is InstanceState.FAILED)
        assert await asyncio.to_thread(own_tree.end) == []
        own_tree.supervisor.start_tree()
        supervise = own_tree.supervisor.directory(instance.id) / "supervise" / "control"
        await eventually(lambda: seen(supervise.exists()))
        status = await until(compute, instance, lambda s: s.state is InstanceState.FAILED)
        assert without_use(status) == without_use(before)
        assert own_tree.log(instance).count("serving") == before.restarts
