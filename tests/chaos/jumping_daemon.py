"""The real daemon, whose wall clock is off by what a file says. Run in place of it: jumping_daemon.py ROOT"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from santiago_platform.adapters.system import SystemClock
from santiago_platform.entrypoints import daemon
from santiago_platform.testing.faults import clock_file


def rig(file: Path) -> None:
    """Everything that asks Python for the time of day gets the one that is off."""
    true_time, true_time_ns = time.time, time.time_ns

    def offset() -> float:
        try:
            return float(file.read_text())
        except FileNotFoundError:
            return 0.0

    time.time = lambda: true_time() + offset()
    time.time_ns = lambda: true_time_ns() + int(offset() * 1e9)
    SystemClock.now = lambda _: datetime.fromtimestamp(time.time(), UTC)  # type: ignore[method-assign]


if __name__ == "__main__":
    rig(clock_file(Path(sys.argv[1]) / ".santiago"))
    daemon.main()
