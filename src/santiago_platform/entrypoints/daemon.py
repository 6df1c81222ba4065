"""The daemon of one workspace: holds its lock, runs all loops, serves, and alone writes its state."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import uvloop

from ..bootstrap import Layout, Wired, anchor_ship_log, wire
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import PLATFORM, Principal, Role
from ..operations.ai_budget import settle_interrupted
from ..operations.change import close_interrupted, note, note_lost
from ..operations.deliveries import delivery_warnings
from ..operations.disk_space import disk_state
from ..operations.issue_token import TokenRequest, authenticate, issue_token
from ..operations.read_flags import flag_warnings
from ..reconcilers.announcement import AnnouncementReconciler
from ..reconcilers.change_request import ChangeRequestReconciler
from ..reconcilers.delivery import DeliveryReconciler
from ..reconcilers.disk import DiskReconciler
from ..reconcilers.flag import FlagReconciler
from ..reconcilers.incident import IncidentReconciler
from ..reconcilers.monitoring import MonitoringReconciler
from ..reconcilers.postmortem import PostmortemReconciler
from ..reconcilers.rollout import RolloutReconciler
from ..reconcilers.schedule import ScheduleReconciler
from ..reconcilers.scrape import ScrapeReconciler
from ..reconcilers.watch import WatchReconciler
from ..reconcilers.weekly_report import WeeklyReportReconciler
from .http import LOOPBACK_HOSTS, build_app
from .listener import check_listen, listen_tcp, listen_unix, serve
from .metrics import ServerMetrics

log = logging.getLogger(__name__)

OWNER = Principal(name="owner", role=Role.OWNER)
LOOPBACK = "127.0.0.1"
GARBAGE_THRESHOLD = 10_000  # objects that are made until garbage is looked for, for which 700 is the default


async def run(layout: Layout) -> None:
    """Runs until SIGTERM. Raises CONFLICT where another daemon holds the workspace."""
    with _held(layout):
        _use_temporary(layout)
        async with wire(layout) as wired:
            ports = wired.ports
            host = os.environ.get("SANTIAGO_HOST", LOOPBACK)
            check_listen(host, authenticated=True)
            places = [host] if host in (LOOPBACK, "0.0.0.0", "::") else [LOOPBACK, host]  # noqa: S104 - asked for
            listeners = [listen_tcp(place, wired.addresses.server) for place in places]
            listeners.append(listen_unix(layout.daemon_socket))
            lost = await _greet(layout, wired)
            metrics = ServerMetrics()
            app = build_app(
                ports,
                status=lambda: _status(layout, wired, lost),
                problems=lambda: _problems(wired),
                hook_token=wired.hook_token,
                metrics=metrics,
                hosts=(*LOOPBACK_HOSTS, *os.environ.get("SANTIAGO_HOST_NAMES", host).split(",")),
            )
            loops = [
                asyncio.create_task(RolloutReconciler(ports, metrics.reconciled).run(), name="rollout"),
                asyncio.create_task(ScheduleReconciler(ports, metrics.job_ended).run(), name="schedule"),
                asyncio.create_task(ScrapeReconciler(ports).run(), name="scrape"),
                asyncio.create_task(DiskReconciler(ports).run(), name="disk"),
                asyncio.create_task(WatchReconciler(ports).run(), name="watch"),
                asyncio.create_task(FlagReconciler(ports).run(), name="flags"),
                asyncio.create_task(MonitoringReconciler(ports).run(), name="monitoring"),
                asyncio.create_task(ChangeRequestReconciler(ports).run(), name="change requests"),
                asyncio.create_task(IncidentReconciler(ports).run(), name="incidents"),
                asyncio.create_task(PostmortemReconciler(ports).run(), name="post-mortems"),
                asyncio.create_task(AnnouncementReconciler(ports).run(), name="announcements"),
                asyncio.create_task(DeliveryReconciler(ports).run(), name="deliveries"),
                asyncio.create_task(WeeklyReportReconciler(ports).run(), name="weekly report"),
            ]
            try:
                await serve(app, listeners, started=lambda: log.info("ready on 127.0.0.1:%d", wired.addresses.server))
            finally:
                for loop in loops:
                    loop.cancel()
                await asyncio.gather(*loops, return_exceptions=True)
                await note(ports, PLATFORM, "platform.stop", str(layout.root), {"pid": os.getpid()})


def _use_temporary(layout: Layout) -> None:
    """What a kill leaves behind is gone with the next start, or with the workspace."""
    shutil.rmtree(layout.temporary, ignore_errors=True)
    layout.temporary.mkdir(mode=0o700)
    tempfile.tempdir = str(layout.temporary)


async def _greet(layout: Layout, wired: Wired) -> list[str]:
    """What a start finds unfinished, and what it needs: closed entries, the owner's token, the anchor in git.

    Returns what somebody should know of what is lost.
    """
    lost = await note_lost(wired.ports, PLATFORM)
    closed = await close_interrupted(wired.ports)
    unsettled = await settle_interrupted(wired.ports)
    charges = {"charges_settled_at_their_worst": unsettled} if unsettled else {}
    body = {"pid": os.getpid(), "interrupted": closed, **charges, **_restored(layout)}
    await note(wired.ports, PLATFORM, "platform.start", str(layout.root), body)
    layout.restored.unlink(missing_ok=True)
    await _ensure_owner_token(layout, wired)
    try:
        await asyncio.to_thread(anchor_ship_log, layout)
    except PlatformError as exc:
        log.warning("commits will not carry the ship's log: %s", exc)
    if not lost:
        return []
    words = f"the database has lost the end of {', '.join(lost)}: look at what is live, and deploy it again"
    log.warning("%s", words)
    return [words]


def _restored(layout: Layout) -> dict[str, Any]:
    """Where the workspace comes from, at the first start after `santiago restore`."""
    return {"restored": json.loads(layout.restored.read_text())} if layout.restored.exists() else {}


async def _ensure_owner_token(layout: Layout, wired: Wired) -> None:
    """The owner's token in a file of 0600; anew where the file is gone or the token no longer holds."""
    try:
        await authenticate(wired.ports, layout.owner_token.read_text().strip())
    except (FileNotFoundError, PlatformError):
        tenant = wired.ports.workspace.settings().tenant
        owner = OWNER.model_copy(update={"tenant": tenant})
        issued = await issue_token(
            wired.ports, owner, TokenRequest(name="owner", role=Role.OWNER, note="written by up")
        )
        partial = layout.owner_token.with_suffix(".new")
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(issued.token + "\n")
        partial.rename(layout.owner_token)


async def _status(layout: Layout, wired: Wired, lost: Sequence[str]) -> dict[str, Any]:
    head = await wired.ports.ship_log.head()
    disk = disk_state(wired.ports)
    policy = [f"policies do not count as they stand: {problem}" for problem in wired.ports.policy.problems()]
    return {
        "workspace": str(layout.root),
        "addresses": wired.addresses.model_dump(),
        "units": [asdict(unit) for unit in wired.platform.units()],
        "problems": list(await _problems(wired)),
        "warnings": [
            *disk.warnings,
            *lost,
            *wired.concerns(),
            *await flag_warnings(wired.ports),
            *await delivery_warnings(wired.ports),
            *policy,
        ],
        "disk": {"level": disk.level, **disk.space.model_dump()},
        "ship_log": {"entries": head.seq, "head": head.hash},
    }


async def _problems(wired: Wired) -> Sequence[str]:
    """Why changes cannot be taken now."""
    try:
        await wired.ports.store.write(lambda tx: tx.deployment("none", "none"))
        wired.ports.workspace.settings()
    except PlatformError as exc:
        return [exc.message]
    if (await wired.ports.traffic.status("none", "none")).weights is None:
        return ["no proxy answers"]
    return disk_state(wired.ports).problems


class _held:  # noqa: N801 - reads as what it does: `with _held(layout)`
    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def __enter__(self) -> None:
        self._file = self._layout.lock.open("a")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise PlatformError(
                ErrorCode.CONFLICT,
                f"another daemon holds {self._layout.lock}",
                "there is one daemon for each workspace; `santiago status` shows it",
            ) from exc

    def __exit__(self, *_: object) -> None:
        self._file.close()


def main() -> None:
    """`python -m santiago_platform.entrypoints.daemon WORKSPACE`, as s6 starts it."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    _keep_descriptors_to_ourselves()
    _look_for_garbage_less_often()
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(Layout.of(sys.argv[1])))
    except PlatformError as exc:
        log.error("%s %s", exc, exc.internal)
        sys.exit(1)


def _look_for_garbage_less_often() -> None:
    """By default that took a seventh of the processor under load: a call makes a thousand objects, and hardly a cycle.
    What is there at the start is here to stay, and is not looked through again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)


def _keep_descriptors_to_ourselves() -> None:
    """A build must not inherit the unit's lock: uvloop leaves open what is inheritable, and a build may outlive us."""
    for descriptor in os.listdir("/proc/self/fd"):
        if int(descriptor) > 2:
            with suppress(OSError):  # the listing's own
                os.set_inheritable(int(descriptor), False)


if __name__ == "__main__":
    main()
