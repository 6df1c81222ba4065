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


def platform_processes() -> set[int]:
    """Processes of any throwaway workspace on this machine, by the mark in their environment."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            marked = b"SANTIAGO_WORKSPACE_ID=" in (entry / "environ").read_bytes()
        except OSError:
            continue
        if marked and started_ticks(int(entry.name)) is not None:
            found.add(int(entry.name))
    return found


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.parent.name)
def test_an_example_ends_as_it_should_and_leaves_no_process_behind(example: Path) -> None:
    before = platform_processes()
    done = subprocess.run([sys.executable, str(example)], capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 of" in done.stdout
    assert platform_processes() - before == set()


def test_ctrl_c_ends_the_demo_and_everything_that_it_started() -> None:
    before = platform_processes()
    demo = subprocess.Popen([sys.executable, str(EXAMPLES[0])], stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    for line in demo.stdout:
        if "traffic begins" in line:
            break
    assert platform_processes() - before, "it runs"
    os.kill(demo.pid, signal.SIGINT)
    rest = demo.stdout.read()
    assert demo.wait(timeout=60) == 130
    assert "interrupted" in rest
    assert platform_processes() - before == set()
