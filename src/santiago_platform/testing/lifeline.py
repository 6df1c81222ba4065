"""No platform of a test outlives its runner, however the runner ends.

A small process of its own session reads a pipe that the runner holds open. It is told of each workspace; when the
pipe closes, because the runner said so or because it died, it takes down every platform that is still up and kills
what is left of them, by pid and start time.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

from ..adapters.layout import Layout
from ..adapters.local.platform import LocalPlatform


class Lifeline:
    """Held by a runner as long as it lives; one for all of its workspaces."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "santiago_platform.testing.lifeline"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def watch(self, workspace: Path) -> None:
        """From now on the workspace's platform ends with the runner, and its folder goes."""
        self._write(f"watch {workspace}")

    def forget(self, workspace: Path) -> None:
        """The runner has taken it down itself."""
        self._write(f"forget {workspace}")

    def close(self) -> None:
        """Takes down what is still watched, and returns when that is done."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=60)

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None  # it was opened with a pipe
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


def remove(workspace: Path) -> None:
    """The folder, and its disk where it has one of its own."""
    if workspace.is_mount():
        subprocess.run(["umount", "--lazy", str(workspace)], check=False)
    shutil.rmtree(workspace, ignore_errors=True)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they are meant for the runner; the pipe tells when it is gone
    watched: set[Path] = set()
    for line in sys.stdin:
        verb, _, path = line.rstrip("\n").partition(" ")
        if verb == "watch":
            watched.add(Path(path))
        else:
            watched.discard(Path(path))
    for workspace in watched:
        LocalPlatform(Layout.of(workspace)).down(timeout_seconds=3)
        remove(workspace)


if __name__ == "__main__":
    main()
