from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.local.binaries import Binary
from santiago_platform.adapters.local.unit import DEATHS_KEPT, Death, Unit, UnitStatus
from santiago_platform.adapters.process import recorded, started_ticks

HOSTILE = 'it\'s "a" $(touch owned) `touch owned`\n{braces} %s \\ ; touch owned #'


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.of(tmp_path / "it's a $(workspace)")


def written(unit: Unit, layout: Layout) -> Path:
    directory = layout.units / unit.name
    unit.write(directory, layout, Binary("s6-log", Path("/opt/it's here/s6-log"), "PATH"))
    return directory


def run(directory: Path, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [f"./{script}", *words], cwd=directory, capture_output=True, text=True, timeout=20, check=False
    )


def until(accept: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not accept():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def test_hostile_words_reach_the_service_as_they_are_and_no_shell(tmp_path: Path, layout: Layout) -> None:
    where = tmp_path / HOSTILE.replace("/", "")
    where.mkdir()
    command = ("sh", "-c", 'printf "%s|%s|%s" "$1" "$HOSTILE" "$PWD"', "sh", HOSTILE)
    directory = written(Unit("a__b__c__0", command, where, {"HOSTILE": HOSTILE, "PATH": "/usr/bin:/bin"}), layout)
    done = run(directory, "run")
    assert done.stdout == f"{HOSTILE}|{HOSTILE}|{where}"
    assert list(tmp_path.rglob("owned")) == []


def test_a_directory_that_is_missing_ends_it_with_111(tmp_path: Path, layout: Layout) -> None:
    assert run(written(Unit("one", ("true",), tmp_path / "none"), layout), "run").returncode == 111


def test_the_logger_is_called_by_quoted_words(tmp_path: Path, layout: Layout) -> None:
    directory = written(Unit("one", ("true",), tmp_path), layout)
    said = (directory / "log" / "run").read_text().splitlines()[1]
    words = subprocess.run(
        ["sh", "-c", said.replace("exec ", "printf '%s\\n' ")], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert words[0] == "/opt/it's here/s6-log"
    assert words[-1] == str(layout.logs / "one")


@pytest.mark.parametrize("marker", ["stopping", "failed"])
def test_one_that_is_leaving_or_given_up_on_does_not_start_and_is_not_started_again(
    tmp_path: Path, layout: Layout, marker: str
) -> None:
    directory = written(Unit("one", ("touch", "started"), tmp_path), layout)
    (directory / marker).touch()
    assert run(directory, "run").returncode == 0
    assert run(directory, "finish", "0", "0").returncode == 125
    assert not (tmp_path / "started").exists()
    assert UnitStatus.read(directory).deaths == ()


def test_it_is_given_up_on_after_so_many_short_lives(tmp_path: Path, layout: Layout) -> None:
    directory = written(Unit("one", ("true",), tmp_path, give_up_after=2), layout)
    codes = []
    for _ in range(2):
        run(directory, "run")
        codes.append(run(directory, "finish", "3", "0").returncode)
    assert codes == [0, 125]
    status = UnitStatus.read(directory)
    assert status.failed
    assert [str(death) for death in status.deaths] == ["exited with code 3"] * 2


def test_a_long_life_is_no_reason_to_give_up(tmp_path: Path, layout: Layout) -> None:
    directory = written(Unit("one", ("true",), tmp_path, give_up_after=1), layout)
    run(directory, "run")
    subprocess.run(["touch", "-d", "-20 seconds", directory / "process"], check=True)
    assert run(directory, "finish", "256", "9").returncode == 0
    (death,) = UnitStatus.read(directory).deaths
    assert death.life_seconds >= 19
    assert str(death) == "was ended by SIGKILL"


def test_a_finish_of_a_run_that_never_began_kills_no_process_of_an_older_life(tmp_path: Path, layout: Layout) -> None:
    directory = written(Unit("one", ("true",), tmp_path, give_up_after=1), layout)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        (directory / "process").write_text(f"{stranger.pid} 1\n")  # its pid was another's before
        (directory / "lock").mkdir()  # so that it fails before it notes itself
        assert run(directory, "run").returncode != 0
        run(directory, "finish", "111", "0")
        assert stranger.poll() is None
        stranger.kill()


def test_a_torn_note_of_a_process_is_passed_over(tmp_path: Path, layout: Layout) -> None:
    directory = written(Unit("one", ("echo", "started"), tmp_path), layout)
    (directory / "process").write_text("999999\n")
    assert run(directory, "run").stdout == "started\n"


def test_deaths_are_bounded_and_torn_lines_passed_over(tmp_path: Path, layout: Layout) -> None:
    directory = written(Unit("one", ("true",), tmp_path, back_off_seconds=0), layout)
    (directory / "deaths").write_text("1 2 3 4\n" * (2 * DEATHS_KEPT) + "1700000000 3\nx y z w\n1 2 3 4 5\n")
    run(directory, "finish", "7", "0")
    deaths = UnitStatus.read(directory).deaths
    assert len((directory / "deaths").read_text().splitlines()) == DEATHS_KEPT
    assert deaths[-1].code == 7
    assert deaths[0] == Death(1, 2, 3, 4)


def test_deaths_are_told_in_words() -> None:
    assert str(Death(0, 0, 0, 1)) == "exited with code 0"
    assert str(Death(0, 256, 15, 1)) == "was ended by SIGTERM"
    assert str(Death(0, 256, 255, 1)) == "was ended by signal 255"


def test_a_unit_that_is_gone_runs_nothing(tmp_path: Path) -> None:
    assert UnitStatus.read(tmp_path / "none") == UnitStatus(None, (), failed=False, stopping=False)


def test_its_files_are_private(tmp_path: Path, layout: Layout) -> None:
    directory = written(Unit("one", ("true",), tmp_path, extra={"secret.json": "{}"}), layout)
    for path in (directory / "log", *(p for p in directory.rglob("*"))):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_run_whose_supervisor_was_killed_and_its_successor_leave_one_process(tmp_path: Path, layout: Layout) -> None:
    """One of them drains an orphan that ignores its end and becomes the service; the other waits, and drains that."""
    directory = written(Unit("one", ("sleep", "60"), tmp_path, stop_grace_seconds=0.5), layout)
    ready = tmp_path / "ready"
    stubborn = ["sh", "-c", f"trap '' TERM; touch {ready}; while :; do sleep 0.1; done"]
    with subprocess.Popen(stubborn, start_new_session=True) as orphan:
        until(ready.exists)
        (directory / "process").write_text(f"{orphan.pid} {started_ticks(orphan.pid)}\n")
        both = {p.pid: p for p in (subprocess.Popen(["./run"], cwd=directory, start_new_session=True) for _ in "ab")}
        assert orphan.wait(10) == -signal.SIGKILL
    until(lambda: [p for p in both.values() if p.poll() is not None])
    until(lambda: (noted := recorded(directory / "process")) and noted.alive)
    noted = recorded(directory / "process")
    assert noted is not None
    last = both.pop(noted.pid)
    assert last.poll() is None
    assert [p.wait(5) for p in both.values()] == [-signal.SIGTERM]
    last.kill()
    last.wait()


def test_the_service_does_not_get_the_lock(tmp_path: Path, layout: Layout) -> None:
    command = ("sh", "-c", "test -e /proc/$$/fd/9 && echo has it; test -e /proc/$$/fd/2 && echo has stderr")
    done = run(written(Unit("one", command, tmp_path, {"PATH": "/usr/bin:/bin"}), layout), "run")
    assert done.stdout == "has stderr\n"


def test_what_prepares_it_knows_its_pid_and_one_that_fails_keeps_it_from_starting(
    tmp_path: Path, layout: Layout
) -> None:
    prepare = ("sh", "-c", 'echo "$1" >prepared', "sh", "PID")
    directory = written(Unit("one", ("sh", "-c", "echo $$"), tmp_path, prepare=(prepare,)), layout)
    assert run(directory, "run").stdout == (directory / "prepared").read_text()
    failing = written(Unit("two", ("touch", "started"), tmp_path, prepare=(("false",),)), layout)
    assert run(failing, "run").returncode == 111
    assert not (tmp_path / "started").exists()


def test_what_is_in_front_of_it_does_not_get_its_variables(tmp_path: Path, layout: Layout) -> None:
    planted = tmp_path / "bin"
    planted.mkdir()
    (planted / "sh").write_text("#!/bin/sh\necho planted\n")
    (planted / "sh").chmod(0o755)
    prefix = ("sh", "-c", f'echo "{{{HOSTILE.splitlines()[1]}}} $PATH"; exec "$@"', "sh")
    environment = {"PATH": f"{planted}:/usr/bin:/bin"}
    directory = written(Unit("one", ("printenv", "PATH"), tmp_path, environment, prefix=prefix), layout)
    said = run(directory, "run").stdout.splitlines()
    assert said[-1] == environment["PATH"]
    assert str(planted) not in said[0]
    assert "planted" not in said


@pytest.mark.parametrize(
    ("code", "number", "words"),
    [
        ("256", "9", "ran out of memory (limit 1Mi)"),
        ("137", "0", "exited with code 137, after it ran out of memory (limit 1Mi)"),
        ("256", "11", "was ended by SIGSEGV, after it ran out of memory (limit 1Mi)"),
    ],
)
def test_a_death_has_the_cause_that_was_found_after_it(
    tmp_path: Path, layout: Layout, code: str, number: str, words: str
) -> None:
    conclude = ("sh", "-c", "[ -e process ] && echo 'ran out of memory (limit 1Mi)' >cause")
    directory = written(Unit("one", ("true",), tmp_path, conclude=(conclude,)), layout)
    run(directory, "run")
    run(directory, "finish", code, number)
    (death,) = UnitStatus.read(directory).deaths
    assert str(death) == words
    (directory / "process").unlink()
    run(directory, "finish", "1", "0")
    assert str(UnitStatus.read(directory).deaths[-1]) == "exited with code 1"
