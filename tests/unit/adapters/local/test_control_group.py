"""Version 2 on a tree of plain files: what is written where. Version 1 and the kernel itself are in tests/contract."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from santiago_platform.adapters.local.control_group import ControlGroups, Enforcement
from santiago_platform.domain.workload import Limits

MIB = 1 << 20
NAME = "santiago.abc.web__production__v1__0"
LIMITS = Limits(memory_bytes=64 * MIB, cpu_cores=0.25)


class Hierarchy:
    """Version 2 mounted at `top`; the launcher is in `/platform.service/launcher`."""

    def __init__(self, folder: Path) -> None:
        self.top = folder / "cgroup"
        self.unit = folder / "unit"
        self.unit.mkdir()
        self.mounts = folder / "mountinfo"
        self.mounts.write_text(
            "21 1 0:20 / / rw - ext4 /dev/vda rw\n"
            f"30 21 0:26 / {self.top} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
        )
        self.memberships = folder / "membership"
        self.memberships.write_text("0::/platform.service/launcher\n")
        self.group("platform.service/launcher", "", "")

    def group(self, path: str, controllers: str, passed_on: str | None) -> Path:
        """passed_on None: the kernel refuses, for there are processes in it."""
        folder = self.top / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.controllers").write_text(controllers + "\n")
        if passed_on is None:
            (folder / "cgroup.subtree_control").unlink(missing_ok=True)
            (folder / "cgroup.subtree_control").mkdir()
        else:
            (folder / "cgroup.subtree_control").write_text(passed_on + "\n")
        return folder

    def enter(self, limits: Limits = LIMITS) -> Enforcement:
        groups = ControlGroups("abc", self.mounts, self.memberships)
        words = groups.enter("web__production__v1__0", limits)
        done = subprocess.run(
            ["4711" if word == "PID" else word for word in words],
            cwd=self.unit,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        return Enforcement.read(self.unit)


@pytest.fixture
def hierarchy(tmp_path: Path) -> Hierarchy:
    return Hierarchy(tmp_path)


def test_all_limits_are_in_one_group_below_the_nearest_that_passes_the_controllers_on(hierarchy: Hierarchy) -> None:
    hierarchy.group("platform.service/launcher", "cpu memory pids", None)
    hierarchy.group("platform.service", "cpu memory pids", "cpu memory pids")
    swap = hierarchy.top / "platform.service" / NAME
    swap.mkdir()
    (swap / "memory.swap.max").write_text("max\n")
    (swap / "memory.oom.group").write_text("0\n")
    found = hierarchy.enter()
    assert (found.settled, found.gap) == (True, "")
    assert found.groups == dict.fromkeys(("memory", "pids", "cpu"), hierarchy.top / "platform.service" / NAME)
    written = {file.name: file.read_text().strip() for file in swap.iterdir()}
    assert written == {
        "memory.max": str(64 * MIB),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": "4096",
        "cpu.max": "25000 100000",
        "cgroup.procs": "4711",
    }


def test_controllers_that_a_group_has_are_passed_on_where_they_were_not(hierarchy: Hierarchy) -> None:
    hierarchy.group("platform.service/launcher", "memory pids", "")
    assert set(hierarchy.enter(Limits(memory_bytes=MIB)).groups) == {"memory", "pids"}
    assert (hierarchy.top / "platform.service/launcher/cgroup.subtree_control").read_text() == "+pids\n"


def test_without_the_cpu_controller_memory_is_enforced_and_the_rest_is_told(hierarchy: Hierarchy) -> None:
    hierarchy.group("platform.service", "memory pids", "memory pids")
    found = hierarchy.enter()
    assert set(found.groups) == {"memory", "pids"}
    assert found.gap == "the CPU limit of 0.25 cores is not enforced"


@pytest.mark.parametrize("limits", [LIMITS, Limits()])
def test_where_no_group_passes_on_anything_the_watchdog_has_the_memory(hierarchy: Hierarchy, limits: Limits) -> None:
    found = hierarchy.enter(limits)
    assert found.settled
    assert found.groups == {}
    assert (found.watched_bytes, found.free_cores) == (limits.memory_bytes, limits.cpu_cores)
    assert list(hierarchy.top.rglob("santiago.*")) == []


def test_a_container_that_sees_its_own_part_alone_finds_itself_at_the_mount(hierarchy: Hierarchy) -> None:
    hierarchy.mounts.write_text(f"30 21 0:26 /docker/123 {hierarchy.top} rw - cgroup2 cgroup rw\n")
    hierarchy.memberships.write_text("0::/\n")
    hierarchy.top.mkdir(exist_ok=True)
    hierarchy.group("", "memory pids cpu", "memory pids cpu")
    assert hierarchy.enter().groups["memory"] == hierarchy.top / NAME


@pytest.mark.parametrize(
    ("cores", "written"), [(2.5, "250000 100000"), (0.004, "4000 1000000"), (0.0001, "1000 1000000")]
)
def test_a_tiny_share_of_a_core_is_given_over_a_longer_period(hierarchy: Hierarchy, cores: float, written: str) -> None:
    hierarchy.group("platform.service", "memory pids cpu", "memory pids cpu")
    group = hierarchy.enter(Limits(cpu_cores=cores)).groups["cpu"]
    assert (group / "cpu.max").read_text().strip() == written


@pytest.mark.parametrize(
    ("events", "cause"), [("oom 3\noom_kill 1\n", "ran out of memory (limit 64Mi)\n"), ("oom_kill 0\n", None)]
)
def test_leaving_tells_whether_the_kernel_found_it_out_of_memory(
    hierarchy: Hierarchy, events: str, cause: str | None
) -> None:
    group = hierarchy.top / NAME
    group.mkdir()
    (group / "memory.events").write_text(events)
    (hierarchy.unit / "limits").write_text(f"group memory {group}\n")
    (group / "cgroup.procs").write_text("")
    words = ControlGroups("abc").leave(LIMITS)
    subprocess.run(words, cwd=hierarchy.unit, check=False, timeout=20)
    said = hierarchy.unit / "cause"
    assert (said.read_text() if said.exists() else None) == cause


def test_leaving_without_ever_having_entered_is_nothing(hierarchy: Hierarchy) -> None:
    done = subprocess.run(ControlGroups("abc").leave(LIMITS), cwd=hierarchy.unit, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_of_a_unit_that_noted_nothing_nothing_is_known(tmp_path: Path) -> None:
    assert Enforcement.read(tmp_path) == Enforcement(settled=False, groups={})
