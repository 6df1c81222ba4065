from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.local import supervisor as module
from santiago_platform.adapters.local import unit as unit_module
from santiago_platform.adapters.local.binaries import fetch
from santiago_platform.adapters.local.supervisor import Supervisor
from santiago_platform.adapters.local.unit import Unit
from santiago_platform.adapters.process import Process, processes_of
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.testing.lifeline import Lifeline

pytestmark = pytest.mark.e2e
SLEEP = ("sleep", "600")


class _Killed(BaseException):
    """Stands for SIGKILL: nothing of ours runs after it."""


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    fetch()
    lifeline = Lifeline()
    layout = Layout.of(tmp_path_factory.mktemp("supervisor"))
    lifeline.watch(layout.root)
    layout.state.mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch:  # what heals by time heals sooner
        patch.setattr(module, "RESCAN_MILLISECONDS", 200)
        patch.setattr(module, "LATE_SECONDS", 0.5)
        Supervisor(layout).start_tree()
        yield layout
    Supervisor(layout).stop_tree(3)
    assert list(processes_of(layout.id)) == []
    lifeline.close()


@pytest.fixture
def supervisor(layout: Layout) -> Iterator[Supervisor]:
    supervisor = Supervisor(layout)
    yield supervisor
    for name in supervisor.names():
        until(lambda name=name: supervisor.remove(name))


def until(accept: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not accept():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def process_of(supervisor: Supervisor, name: str) -> Process:
    until(lambda: supervisor.status(name).process)
    process = supervisor.status(name).process
    assert process is not None
    return process


def test_a_running_tree_is_left_as_it_is(supervisor: Supervisor) -> None:
    before = supervisor.running
    supervisor.start_tree()
    assert supervisor.running == before is not None


def test_a_unit_that_is_written_anew_is_restarted_and_an_equal_one_is_not(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    supervisor.replace(Unit("one", SLEEP, tmp_path))
    first = process_of(supervisor, "one")
    supervisor.replace(Unit("one", SLEEP, tmp_path))
    assert supervisor.status("one").process == first
    supervisor.replace(Unit("one", (*SLEEP, "1"), tmp_path, back_off_seconds=3))
    until(lambda: supervisor.status("one").process not in (None, first))
    assert (supervisor.directory("one") / "timeout-finish").read_text() == "8000\n"
    until(lambda: Path(f"/proc/{process_of(supervisor, 'one').pid}/cmdline").read_bytes() == b"sleep\x00600\x001\x00")


def test_what_had_lived_long_is_started_at_once_and_not_after_the_second_that_s6_rests(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit_module, "RAPID_SECONDS", 0)  # every life counts as long
    supervisor.add(Unit("lasting", SLEEP, tmp_path))
    took = []
    for _ in range(3):
        before = process_of(supervisor, "lasting")
        before.send(signal.SIGKILL)
        killed = time.monotonic()
        until(lambda before=before: supervisor.status("lasting").process not in (None, before))
        took.append(time.monotonic() - killed)
    assert min(took) < 0.9, took


def test_a_start_is_known_where_no_new_file_can_be_written(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.add(Unit("cramped", SLEEP, tmp_path))
    before = process_of(supervisor, "cramped")
    (supervisor.directory("cramped") / "process.new").mkdir()  # in the way, as a full disk is
    before.send(signal.SIGKILL)
    until(lambda: supervisor.status("cramped").process not in (None, before))
    assert process_of(supervisor, "cramped").alive


def test_a_status_that_was_read_before_is_not_told_of_a_unit_that_has_changed(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TICK_NANOSECONDS", 0)
    supervisor.add(Unit("follow", SLEEP, tmp_path))
    before = process_of(supervisor, "follow")
    assert supervisor.status("follow") is supervisor.status("follow")
    before.send(signal.SIGKILL)
    until(lambda: supervisor.status("follow").process not in (None, before))
    assert len(supervisor.status("follow").deaths) == 1
    supervisor.remove("follow")
    assert supervisor.status("follow").stopping


def test_output_is_written_to_files_that_are_rotated(supervisor: Supervisor, layout: Layout, tmp_path: Path) -> None:
    lines = "i=0; while [ $i -lt 1500 ]; do echo $i $PADDING; i=$((i + 1)); done; sleep 600"
    supervisor.add(Unit("one", ("sh", "-c", lines), tmp_path, {"PADDING": "x" * 1000, "PATH": "/usr/bin:/bin"}))
    logs = layout.logs / "one"
    until(lambda: list(logs.glob("@*.s")) and " 1499 " in (logs / "current").read_text())
    (rotated,) = logs.glob("@*.s")
    said = rotated.read_text() + (logs / "current").read_text()
    assert [int(line.split()[1]) for line in said.splitlines()] == list(range(1500))
    assert all(line.startswith("@4000") for line in said.splitlines())


def test_one_that_is_down_for_good_is_no_hindrance_to_taking_it_away(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.add(Unit("one", ("false",), tmp_path, give_up_after=1))
    until(lambda: supervisor.status("one").failed)
    until(lambda: supervisor.remove("one"))
    assert supervisor.names() == []


def test_a_unit_in_back_off_is_taken_away_at_once(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.add(Unit("one", ("false",), tmp_path, back_off_seconds=60))
    (supervisor.directory("one") / "rapid").write_text("30\n")
    until(lambda: supervisor.status("one").deaths)
    began = time.monotonic()
    until(lambda: supervisor.remove("one"))
    assert time.monotonic() - began < 5


def test_a_unit_that_was_killed_while_it_was_made_or_taken_away_at_any_step_is_mended(
    layout: Layout, supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each round is killed one step later, then goes on as a new process would."""
    left = 0

    def step(call: Callable[..., object]) -> Callable[..., object]:
        def stepped(*words: object, **options: object) -> object:
            nonlocal left
            if left == 0:
                raise _Killed
            left -= 1
            return call(*words, **options)

        return stepped

    unit = Unit("a__b__c__0", SLEEP, tmp_path, stop_grace_seconds=1)
    supervisor._tool("s6-log"), supervisor._tool("s6-svc")  # kept before
    finished, rounds = False, 0
    while not finished:
        rounds += 1
        with monkeypatch.context() as patch:
            for owner, name in [
                (Path, "touch"), (Path, "write_text"), (Path, "unlink"), (Path, "rename"), (Path, "symlink_to"),
                (Supervisor, "_run"),
            ]:  # fmt: skip
                patch.setattr(owner, name, step(getattr(owner, name)))
            left = rounds - 1
            try:
                supervisor.add(unit)
                supervisor.add(unit)
                until(lambda: supervisor.status(unit.name).process)
                until(lambda: supervisor.remove(unit.name))
                finished = True
            except _Killed:
                pass
        again = Supervisor(layout)
        if again.directory(unit.name).exists() and not again.status(unit.name).stopping:
            again.link(unit.name)
            process_of(again, unit.name)
        until(lambda again=again: again.remove(unit.name))
        assert [p for p in processes_of(layout.id, "sleep") if p.alive] == []
        assert not (layout.scan / unit.name).is_symlink()
    assert rounds >= 10


def test_a_tree_that_cannot_start_says_why(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path)
    layout.scan.mkdir(parents=True)
    (layout.scan / ".s6-svscan").touch()
    with pytest.raises(PlatformError, match=r"s6-svscan did not start: .*not a directory") as caught:
        Supervisor(layout).start_tree()
    assert caught.value.code is ErrorCode.UNAVAILABLE


def test_what_ignores_its_end_is_killed_and_told(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path)
    layout.state.mkdir()
    supervisor = Supervisor(layout)
    supervisor.start_tree()
    supervisor.add(Unit("one", ("sh", "-c", "trap '' TERM; touch ready; sleep 600"), tmp_path, stop_grace_seconds=60))
    until((tmp_path / "ready").exists)
    process = process_of(supervisor, "one")
    killed = supervisor.stop_tree(0.2)
    assert process in killed
    assert list(processes_of(layout.id)) == []
    assert supervisor.names() == ["one"]


def test_taking_down_what_does_not_run_is_no_error(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path)
    layout.state.mkdir()
    assert Supervisor(layout).stop_tree() == []
    assert not Supervisor(layout).alive


def test_a_stray_process_of_the_workspace_ends_with_it(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path)
    layout.state.mkdir()
    with subprocess.Popen(SLEEP, env={"PATH": "/usr/bin:/bin", "SANTIAGO_WORKSPACE_ID": layout.id}) as stray:
        killed = Supervisor(layout).stop_tree()
        assert [process.pid for process in killed] == [stray.pid]
        assert stray.wait(5) == -signal.SIGKILL
