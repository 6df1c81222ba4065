"""Every folder of examples/ runs, and says that it ended as it should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from santiago_platform.adapters.process import started_ticks

pytestmark = pytest.mark.e2e
EXAMPLES = sorted(Path(__file__).parents[2].glob("examples/*/demo.py"))


def processes_below(folder: Path) -> set[int]:
    """Living processes that work in a folder: of a platform, all do in its workspace."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            inside = (entry / "cwd").readlink().is_relative_to(folder)
        except OSError:
            continue
        if inside and started_ticks(int(entry.name)) is not None:
            found.add(int(entry.name))
    return found


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.parent.name)
def test_an_example_ends_as_it_should_and_leaves_no_process_behind(example: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(example)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 of" in done.stdout
    assert processes_below(tmp_path) == set()
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_the_demo_and_everything_that_it_started(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, str(EXAMPLES[0])],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        if "traffic begins" in line:
            break
    assert processes_below(tmp_path), "it runs"
    os.kill(demo.pid, signal.SIGINT)
    rest = demo.stdout.read()
    assert demo.wait(timeout=60) == 130
    assert "interrupted" in rest
    assert processes_below(tmp_path) == set()
