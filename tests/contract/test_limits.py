"""Limits on the real thing: by the kernel where this machine lets us, and by the watchdog where it is told not to."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.local.compute import LocalCompute
from santiago_platform.adapters.local.control_group import ControlGroups, Enforcement
from santiago_platform.adapters.local.port_registry import PortRegistry
from santiago_platform.adapters.local.supervisor import Supervisor
from santiago_platform.adapters.local.watchdog import MemoryWatchdog
from santiago_platform.adapters.process import Process, processes_of
from santiago_platform.adapters.system import SystemClock
from santiago_platform.domain.workload import Instance, Limits, Probe, Template
from santiago_platform.ports.compute import InstanceState
from santiago_platform.testing.compute import UnpackedRelease, service_template, until, until_gone, until_ready
from santiago_platform.testing.eventually import eventually
from santiago_platform.testing.lifeline import Lifeline

pytestmark = pytest.mark.e2e

T = TypeVar("T")
MIB = 1 << 20
EATS = "import time; held = bytearray({mib} << 20); print('fed', flush=True); time.sleep(600)"
# The child leaves session and parent, as a daemon does.
CHILD_EATS = f"import os, time; os.fork() or (os.setsid(), os.fork() and os._exit(0), exec({EATS!r})); time.sleep(600)"
CHILD_IS_MISSED = f"import os, sys; os.fork() or exec({EATS!r}); sys.exit(0 if os.wait()[1] == 0 else 1)"
SHARES = (
    "import os, time; held = bytearray({mib} << 20); [os.fork() or time.sleep(600) for _ in range(4)]; time.sleep(600)"
)
BURNS = "while True: pass"
IDLES = "import time; time.sleep(600)"


class FastClock(SystemClock):
    """What is looked at every 5 s is looked at every 50 ms."""

    def monotonic(self) -> float:
        return time.monotonic() * 100


class Ground:
    """A workspace with a supervision tree."""

    def __init__(self, root: Path, lifeline: Lifeline) -> None:
        root.mkdir()
        lifeline.watch(root)
        self.layout = Layout.of(root)
        self.layout.state.mkdir(mode=0o700)
        self.supervisor = Supervisor(self.layout)
        self.supervisor.start_tree()
        self.release = UnpackedRelease(self.layout.state / "release")

    def compute(self, groups: ControlGroups, watchdog: MemoryWatchdog) -> LocalCompute:
        registry = PortRegistry(self.layout.root)
        return LocalCompute(
            self.layout, self.supervisor, registry, self.release, FastClock(), groups=groups, watchdog=watchdog
        )


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, binary: Callable[[str], Path]) -> Iterator[Ground]:
    binary("s6-svscan")
    lifeline = Lifeline()
    made = Ground(tmp_path_factory.mktemp("limits") / "workspace", lifeline)
    yield made
    made.supervisor.stop_tree(5)
    lifeline.close()
    assert list(processes_of(made.layout.id)) == []


@pytest.fixture
def groups(ground: Ground) -> ControlGroups:
    return ControlGroups(ground.layout.id)


@pytest.fixture
async def compute(ground: Ground, groups: ControlGroups) -> AsyncIterator[LocalCompute]:
    with MemoryWatchdog(ground.layout) as watchdog:
        compute = ground.compute(groups, watchdog)
        yield compute
        for status in await compute.list():
            await compute.stop(status.instance.id)
        await eventually(compute.list, lambda listed: not listed)


def worker(code: str, **changed: object) -> Template:
    command = (sys.executable, "-I", "-S", "-c", code)
    return service_template(command=command, ports=(), readiness=Probe(), **changed)


def fed(mib: int) -> Template:
    return worker(EATS.format(mib=mib), limits=Limits(memory_bytes=48 * MIB))


async def settled(ground: Ground, instance: Instance) -> Enforcement:
    """What holds for the instance once its launcher is through."""
    directory = ground.supervisor.directory(instance.id)
    return await later(lambda: Enforcement.read(directory), lambda found: found.settled)


async def members(group: Path, count: int) -> list[str]:
    """The processes in the group, once there are so many."""

    def look() -> list[str]:
        try:
            return (group / "cgroup.procs").read_text().split()
        except FileNotFoundError:
            return []

    return await later(look, lambda pids: len(pids) == count)


async def later(look: Callable[[], T], accept: Callable[[T], object]) -> T:
    async def looked() -> T:
        return look()

    return await eventually(looked, accept)


class LimitsContract:
    """What holds whoever enforces. Fixtures: `compute`."""

    async def test_one_that_exceeds_its_memory_is_ended_and_its_reason_says_so(self, compute: LocalCompute) -> None:
        instance = Instance(template=fed(400), index=0)
        await compute.start(instance)
        status = await until(compute, instance, lambda s: s.state is InstanceState.FAILED, 30)
        assert status.reason == "ran out of memory (limit 48Mi) (3 times)"
        assert status.restarts == 3

    async def test_one_within_its_memory_lives_and_tells_how_much_it_uses(self, compute: LocalCompute) -> None:
        instance = Instance(template=fed(16), index=0)
        await compute.start(instance)
        status = await until(compute, instance, lambda s: (s.memory_bytes or 0) > 16 * MIB)
        assert status.memory_bytes is not None
        assert status.memory_bytes < 48 * MIB
        assert (status.state, status.restarts) == (InstanceState.READY, 0)

    async def test_memory_that_several_processes_share_counts_once(self, compute: LocalCompute) -> None:
        template = worker(SHARES.format(mib=20), limits=Limits(memory_bytes=64 * MIB))
        instance = Instance(template=template, index=0)
        await compute.start(instance)
        status = await until(compute, instance, lambda s: (s.memory_bytes or 0) > 20 * MIB)
        assert (status.state, status.restarts) == (InstanceState.READY, 0)


class TestByTheKernel(LimitsContract):
    @pytest.fixture(autouse=True)
    async def enforced(self, compute: LocalCompute, ground: Ground) -> None:
        """Passed over where this machine gives us no control groups."""
        instance = Instance(template=worker(IDLES, limits=Limits(memory_bytes=64 * MIB, cpu_cores=1)), index=9)
        await compute.start(instance)
        gap = (await settled(ground, instance)).gap
        await compute.stop(instance.id)
        await until_gone(compute, instance)
        if gap:
            pytest.skip(f"no control groups here: {gap}")

    async def test_one_whose_child_exceeds_its_memory_and_that_ends_for_it_says_so(self, compute: LocalCompute) -> None:
        template = worker(CHILD_IS_MISSED.format(mib=400), limits=Limits(memory_bytes=48 * MIB))
        instance = Instance(template=template, index=0)
        await compute.start(instance)
        status = await until(compute, instance, lambda s: s.state is InstanceState.FAILED, 30)
        # The kernel ends one of the two.
        assert "ran out of memory (limit 48Mi)" in status.reason

    async def test_one_that_computes_without_a_rest_stays_near_its_share_of_a_core(
        self, compute: LocalCompute, ground: Ground
    ) -> None:
        instance = Instance(template=worker(BURNS, limits=Limits(cpu_cores=0.2)), index=0)
        await compute.start(instance)
        status = await until_ready(compute, instance)
        group = (await settled(ground, instance)).groups["cpu"]

        def counted() -> dict[str, int]:
            return {key: int(value) for key, value in map(str.split, (group / "cpu.stat").read_text().splitlines())}

        def used_ticks() -> int:
            fields = Path(f"/proc/{status.pid}/stat").read_text().rpartition(")")[2].split()
            return int(fields[11]) + int(fields[12])

        begun, ticks = counted(), used_ticks()
        ended = await later(counted, lambda now: now["nr_periods"] >= begun["nr_periods"] + 15)
        periods = ended["nr_periods"] - begun["nr_periods"]
        seconds = (used_ticks() - ticks) / os.sysconf("SC_CLK_TCK")
        assert ended["nr_throttled"] > begun["nr_throttled"]
        assert seconds / (periods * 0.1) == pytest.approx(0.2, abs=0.05)  # a period has 100 ms

    async def test_all_that_it_starts_is_in_its_groups_and_the_groups_go_with_it(
        self, compute: LocalCompute, ground: Ground
    ) -> None:
        template = worker(CHILD_EATS.format(mib=1), limits=Limits(memory_bytes=64 * MIB, cpu_cores=0.5))
        instance = Instance(template=template, index=0)
        await compute.start(instance)
        groups = (await settled(ground, instance)).groups
        assert set(groups) == {"memory", "pids", "cpu"}
        for group in groups.values():
            await members(group, 2)
        assert (groups["pids"] / "pids.max").read_text() == "4096\n"
        await compute.stop(instance.id)
        await until_gone(compute, instance)
        assert [group for group in groups.values() if group.exists()] == []

    async def test_what_a_crash_left_is_cleared_by_the_next_start(self, compute: LocalCompute, ground: Ground) -> None:
        template = worker(CHILD_EATS.format(mib=1), limits=Limits(memory_bytes=64 * MIB))
        instance = Instance(template=template, index=0)
        await compute.start(instance)
        status = await until_ready(compute, instance)
        group = (await settled(ground, instance)).groups["memory"]
        before = await members(group, 2)
        for process in processes_of(ground.layout.id, "s6-supervise"):
            process.send(signal.SIGKILL)  # so that nothing is tidied up after it
        Process(status.pid, status.started_ticks).send(signal.SIGKILL)
        after = await until(compute, instance, lambda s: s.state is InstanceState.READY and s.pid != status.pid)
        now = await members(group, 2)
        assert str(after.pid) in now
        assert not set(now) & set(before)


class TestByTheWatchdog(LimitsContract):
    @pytest.fixture
    def groups(self, ground: Ground) -> ControlGroups:
        return ControlGroups(ground.layout.id, mounts=Path("/dev/null"))

    async def test_it_is_said_that_the_kernel_does_not_enforce(self, compute: LocalCompute) -> None:
        template = worker(IDLES, limits=Limits(memory_bytes=48 * MIB, cpu_cores=0.5))
        instance = Instance(template=template, index=0)
        await compute.start(instance)
        status = await until(compute, instance, lambda s: s.not_enforced)
        assert status.not_enforced == (
            "the memory limit is not kernel-enforced: a watchdog ends what is above 48Mi; "
            "the CPU limit of 0.5 cores is not enforced"
        )

    async def test_one_without_limits_has_nothing_to_say_and_is_not_watched(self, compute: LocalCompute) -> None:
        instance = Instance(template=worker(EATS.format(mib=64)), index=0)
        await compute.start(instance)
        status = await until_ready(compute, instance)
        assert (status.not_enforced, status.memory_bytes) == ("", None)

    async def test_a_child_that_left_session_and_parent_counts_too(self, compute: LocalCompute) -> None:
        template = worker(CHILD_EATS.format(mib=400), limits=Limits(memory_bytes=48 * MIB))
        instance = Instance(template=template, index=0)
        await compute.start(instance)
        status = await until(compute, instance, lambda s: s.state is InstanceState.FAILED, 30)
        assert status.reason == "ran out of memory (limit 48Mi) (3 times)"
