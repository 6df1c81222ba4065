"""No platform outlives the runner of its test, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.process import Process, processes_of

pytestmark = pytest.mark.e2e
LIMIT_SECONDS = 5.0
RUNNER = """
import sys
from pathlib import Path
from santiago_platform.testing.lifeline import Lifeline
from santiago_platform.testing.running_platform import RunningPlatform
with RunningPlatform(Lifeline(), parent=Path(sys.argv[1])) as platform:
    platform.santiago("deploy", "hello", "--env", "production", "--wait")
    print(platform.root, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Layout]]:
    with subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        yield process, Layout.of(process.stdout.readline().strip())
        process.kill()


def until_ended(lived: list[Process], layout: Layout) -> float:
    """Seconds until none of them lives and the workspace is gone."""
    began = time.monotonic()
    while any(process.alive for process in lived) or layout.root.exists():
        assert time.monotonic() - began < LIMIT_SECONDS, [process for process in lived if process.alive]
        time.sleep(0.02)
    return time.monotonic() - began


@pytest.mark.parametrize("whole_group", [False, True], ids=["the runner", "its process group"])
def test_a_killed_runner_leaves_no_process_and_no_workspace(
    runner: tuple[subprocess.Popen[str], Layout], whole_group: bool
) -> None:
    process, layout = runner
    lived = list(processes_of(layout.id))
    names = {Path(f"/proc/{one.pid}/comm").read_text().strip() for one in lived}
    assert {"envoy", "prometheus"} <= names
    assert len(lived) > 10
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
    process.wait()
    until_ended(lived, layout)
    assert list(processes_of(layout.id)) == []
    assert not layout.runtime.exists()
