from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from santiago_platform.adapters.layout import WORKSPACE_VARIABLE
from santiago_platform.adapters.process import (
    Process,
    listening_ports,
    processes_of,
    recorded,
    started_ticks,
)

Spawn = Callable[..., subprocess.Popen[bytes]]
NAMED = """
import ctypes, sys
name = bytes.fromhex(sys.argv[1])
ctypes.CDLL(None).prctl(15, name, 0, 0, 0)
print("named", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    running: list[subprocess.Popen[bytes]] = []

    def start(*command: str, **options: object) -> subprocess.Popen[bytes]:
        running.append(subprocess.Popen(command, stdin=subprocess.PIPE, **options))  # type: ignore[call-overload]
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def seen(process: subprocess.Popen[bytes]) -> Process:
    ticks = started_ticks(process.pid)
    assert ticks is not None
    return Process(process.pid, ticks)


def test_a_process_is_alive_until_it_ends_and_its_zombie_is_not(spawn: Spawn) -> None:
    child = spawn("cat")
    process = seen(child)
    assert process.alive
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now: ended, and not fetched
    assert not process.alive
    assert started_ticks(child.pid) is None


def test_a_reused_pid_is_another_process_and_gets_no_signal(spawn: Spawn) -> None:
    child = spawn("cat")
    former = Process(child.pid, seen(child).started_ticks - 1)
    assert not former.alive
    former.send(signal.SIGKILL)
    former.send(signal.SIGKILL, group=True)
    assert seen(child).alive


def test_a_signal_to_one_that_is_gone_is_no_error(spawn: Spawn) -> None:
    child = spawn("cat")
    process = seen(child)
    child.kill()
    child.wait()
    process.send(signal.SIGTERM)


def test_a_signal_to_the_group_reaches_its_children(spawn: Spawn) -> None:
    leader = spawn("sh", "-c", "sleep 60 & echo $!; wait", stdout=subprocess.PIPE, start_new_session=True)
    assert leader.stdout is not None
    child = int(leader.stdout.readline())
    seen(leader).send(signal.SIGKILL, group=True)
    assert leader.wait(5) == -signal.SIGKILL
    assert leader.stdout.read() == b""  # the child held the other end of it
    assert started_ticks(child) is None


@pytest.mark.parametrize("name", [b"a) R 1 (b", b"\xff\xfe\x80", b"a b\nc", b")", b""], ids=repr)
def test_a_hostile_process_name_hides_nothing(spawn: Spawn, name: bytes) -> None:
    plain = spawn("cat")
    hostile = spawn(sys.executable, "-S", "-c", NAMED, name.hex(), stdout=subprocess.PIPE)
    assert hostile.stdout is not None
    assert hostile.stdout.readline() == b"named\n"
    assert 0 <= seen(hostile).started_ticks - seen(plain).started_ticks < 1000
    assert isinstance(listening_ports(hostile.pid), set)


@pytest.mark.parametrize("text", ["", "12", "12 x", "a b", "1 2 3", "12 None"])
def test_a_note_that_is_torn_names_no_process(tmp_path: Path, text: str) -> None:
    (tmp_path / "process").write_text(text)
    assert recorded(tmp_path / "process") is None


def test_a_note_names_its_process_alive_or_not(tmp_path: Path) -> None:
    assert recorded(tmp_path / "none") is None
    (tmp_path / "process").write_text("12 345\n")
    assert recorded(tmp_path / "process") == Process(12, 345)


def test_processes_are_found_by_their_workspace_whole_and_by_their_name(spawn: Spawn) -> None:
    mine = spawn("cat", env={**os.environ, WORKSPACE_VARIABLE: "0123test"})
    spawn("cat", env={**os.environ, WORKSPACE_VARIABLE: "0123test4"})
    spawn("cat", env={**os.environ, "OTHER": f"{WORKSPACE_VARIABLE}=0123test"})
    assert list(processes_of("0123test")) == [seen(mine)]
    assert list(processes_of("0123test", "cat")) == [seen(mine)]
    assert list(processes_of("0123test", "ca")) == []


def test_ports_are_those_that_the_session_listens_on(spawn: Spawn) -> None:
    serve = (
        "import socket, sys; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen();"
        "c = socket.create_connection(s.getsockname()); print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    with socket.socket() as ours:
        ours.bind(("127.0.0.1", 0))
        ours.listen()
        shell = spawn(
            "sh", "-c", '"$0" -S -c "$1"; :', sys.executable, serve, stdout=subprocess.PIPE, start_new_session=True
        )
        assert shell.stdout is not None
        port = int(shell.stdout.readline())
        assert listening_ports(shell.pid) == {port}
