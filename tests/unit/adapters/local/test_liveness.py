from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from santiago_platform.adapters.layout import ENVOYS, Layout
from santiago_platform.adapters.local import liveness as module
from santiago_platform.adapters.local.liveness import Liveness
from santiago_platform.adapters.local.unit import UnitStatus
from santiago_platform.adapters.process import Process, started_ticks

ANSWERING = """\
import contextlib, socket, sys
with socket.socket(socket.AF_UNIX) as listening:
    listening.bind(sys.argv[1])
    listening.listen()
    print("listening", flush=True)
    while True:
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):  # whoever asked while it was stopped has gone
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
"""


class Units:
    """In place of the supervisor: two programs that answer where Envoys would."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.children: dict[str, subprocess.Popen[str]] = {}
        self.gone = False

    def start(self, name: str) -> None:
        admin = self.layout.envoy_admin(name)
        admin.unlink(missing_ok=True)
        words = [sys.executable, "-c", ANSWERING, str(admin)]
        child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "listening\n"
        self.children[name] = child

    def stop(self, *names: str) -> None:
        for name in names:
            self.children[name].send_signal(signal.SIGSTOP)

    def revive(self) -> bool:
        was_gone, self.gone = self.gone, False
        return was_gone

    def status(self, name: str) -> UnitStatus:
        pid = self.children[name].pid
        ticks = started_ticks(pid)
        return UnitStatus(None if ticks is None else Process(pid, ticks), (), failed=False, stopping=False)

    def is_alive(self, name: str) -> bool:
        return self.status(name).process is not None


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Units]:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.2)
    units = Units(Layout.of(tmp_path))
    units.layout.runtime.mkdir(mode=0o700)
    for name in ENVOYS:
        units.start(name)
    yield units
    for child in units.children.values():
        child.kill()
        child.wait()
    shutil.rmtree(units.layout.runtime)


@pytest.fixture
def liveness(units: Units) -> Liveness:
    return Liveness(units.layout, units)  # type: ignore[arg-type]


def looks_until_mended(liveness: Liveness, limit: int) -> tuple[int, list[str]]:
    for number in range(1, limit + 1):
        if mended := liveness.look():
            return number, mended
    return limit, []


def test_an_envoy_that_is_stopped_is_killed_after_three_questions_and_the_other_one_is_left_alone(
    units: Units, liveness: Liveness
) -> None:
    assert liveness.look() == []
    units.stop("envoy-b")
    assert looks_until_mended(liveness, 10) == (3, ["envoy-b"])
    units.children["envoy-b"].wait()
    assert (units.is_alive("envoy-a"), units.is_alive("envoy-b")) == (True, False)
    assert liveness.look() == []


def test_one_that_answers_again_in_time_is_not_killed(units: Units, liveness: Liveness) -> None:
    liveness.look()
    units.stop("envoy-a")
    assert [liveness.look(), liveness.look()] == [[], []]
    os.kill(units.children["envoy-a"].pid, signal.SIGCONT)
    assert looks_until_mended(liveness, 5) == (5, [])


def test_where_neither_answers_more_time_is_given_and_one_is_killed_after_the_other(
    units: Units, liveness: Liveness
) -> None:
    liveness.look()
    units.stop(*ENVOYS)
    assert looks_until_mended(liveness, 40) == (module.BOTH_SILENT_LIMIT, ["envoy-a"])
    units.children["envoy-a"].wait()
    assert units.is_alive("envoy-b")
    units.start("envoy-a")
    assert looks_until_mended(liveness, 40) == (module.SILENT_LIMIT, ["envoy-b"])


def test_one_that_has_not_answered_yet_is_being_started(units: Units, liveness: Liveness) -> None:
    units.stop("envoy-a")
    assert looks_until_mended(liveness, 5) == (5, [])
    assert units.is_alive("envoy-a")


def test_a_tree_that_is_gone_is_started_again(units: Units, liveness: Liveness) -> None:
    units.gone = True
    assert [liveness.look(), liveness.look()] == [["s6-svscan"], []]
