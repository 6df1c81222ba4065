"""The ship's log: entries that are durable, chained and signed, and how fast a log is verified."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median

from santiago_platform.adapters.ship_log.log_directory import verify_directory
from santiago_platform.adapters.ship_log.ship_log import FileShipLog
from santiago_platform.adapters.system import SystemClock
from santiago_platform.domain.ship_log import Draft, EntryKind

from .figure import Figure
from .stage import Stage

ROUNDS = 3
ENTRIES = {1: 400, 100: 20_000}  # a round's, by the number of writers
APPENDS_PER_SECOND = 20_000.0
LINES_PER_SECOND = 200_000.0


async def ship_log(stage: Stage) -> list[Figure]:
    """Openings and completions of a deploy's size, each awaited by its writer before it goes on."""
    with tempfile.TemporaryDirectory(prefix="santiago-bench-") as name:
        directory = Path(name) / "log"
        log = FileShipLog(directory, Path(name) / "keys", SystemClock())
        rates: dict[int, list[float]] = {writers: [] for writers in ENTRIES}
        for _ in range(ROUNDS):
            for writers, entries in ENTRIES.items():
                rates[writers].append(await _append(log, writers, entries))
                stage.tell(f"{writers} writers: {rates[writers][-1]:,.0f} appends/s")
        await log.close()
        verified = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            found = verify_directory(directory)
            verified.append(found.entries / (time.perf_counter() - began))
            if not found.intact:
                raise RuntimeError(f"the log does not verify: {found.flaws[:3]}")
        stage.tell(f"verification: {verified[-1]:,.0f} lines/s")
    return [
        *(
            Figure(
                f"appends to the ship's log, {writers} writer{'s' if writers > 1 else ''}",
                median(rate),
                "entries/s",
                f"durable; {min(rate):,.0f} to {max(rate):,.0f}",
                at_least=APPENDS_PER_SECOND if writers == 100 else None,
            )
            for writers, rate in rates.items()
        ),
        Figure(
            "verification of the ship's log",
            median(verified),
            "lines/s",
            f"{found.entries:,} lines; {min(verified):,.0f} to {max(verified):,.0f}",
            at_least=LINES_PER_SECOND,
        ),
    ]


async def _append(log: FileShipLog, writers: int, entries: int) -> float:
    """Entries a second."""

    async def write() -> None:
        for number in range(entries // writers // 2):
            opened = await log.append(_draft(number))
            await log.append(_draft(number, opened.seq))

    began = time.perf_counter()
    await asyncio.gather(*(write() for _ in range(writers)))
    return entries / (time.perf_counter() - began)


def _draft(number: int, of: int = 0) -> Draft:
    asked = {"service": "hello", "environment": "production", "git_ref": "HEAD", "wait": True}
    return Draft(
        kind=EntryKind.COMPLETED if of else EntryKind.OPENED,
        of=of,
        action="deploy_service",
        principal="bench",
        role="developer",
        tenant="default",
        operation=f"op-{number:013}",
        subject="hello/production",
        outcome="succeeded" if of else "",
        body={"reason": "", "detail": []} if of else {"request": asked},
    )
