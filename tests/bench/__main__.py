"""Runs the benches, prints one table, and writes it into docs/benchmarks.md when all of them ran."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import uvloop
from rich.console import Console

from .canary import canary
from .data_plane import data_plane
from .deploys import deploys
from .figure import Figure, markdown, shown
from .hundred_services import hundred_services
from .life import memory, recovery, start
from .load_client import ROOT
from .logs import logs
from .machine import facts
from .paced import paced
from .policy import policy
from .ship_log import ship_log
from .stage import Stage
from .switch import switch
from .throughput import throughput

Bench = Callable[[Stage], Awaitable[list[Figure]]]

BENCHES: dict[str, Bench] = {
    bench.__name__: bench
    for bench in (
        ship_log,
        policy,
        logs,
        start,
        throughput,
        paced,
        deploys,
        canary,
        switch,
        data_plane,
        recovery,
        memory,
        hundred_services,
    )
}
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures: written by python -m tests.bench -->", "<!-- end of figures -->"

console = Console(width=None if sys.stdout.isatty() else 150)


async def run(names: list[str]) -> list[Figure]:
    figures: list[Figure] = []
    with Stage(console) as stage:
        for name in names:
            stage.tell(f"[bold]{name}[/bold], load average {os.getloadavg()[0]:.2f}")
            figures += await BENCHES[name](stage)
    return figures


def write(known: dict[str, str], figures: list[Figure]) -> None:
    """Between the markers; the words around them are people's."""
    lines = "\n".join(f"- {name}: {words}" for name, words in known.items())
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{lines}\n\n{markdown(figures)}{END}{after}")


def main() -> int:
    names = sys.argv[1:]
    if unknown := [name for name in names if name not in BENCHES]:
        console.print(f"there is no bench {', '.join(unknown)}; there are: {', '.join(BENCHES)}")
        return 2
    known = {"command": "`python -m tests.bench`", "date": f"{datetime.now(UTC):%Y-%m-%d}", **facts()}
    for name, words in known.items():
        console.print(f"{name}: {words}", highlight=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything ends in order
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            figures = runner.run(run(names or list(BENCHES)))
    except KeyboardInterrupt:
        console.print("interrupted: everything that was started has ended")
        return 130
    console.print(shown(figures))
    if not names:
        write({**known, "load average after": f"{os.getloadavg()[0]:.2f}"}, figures)
        console.print(f"written to {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
