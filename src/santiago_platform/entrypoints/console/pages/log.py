"""The ship's log: what was done last, single entries, and whether the chain holds."""

from __future__ import annotations

import json
from typing import Any

from ....domain.errors import ErrorCode, PlatformError
from ....domain.identity import Principal
from ....operations.read_ship_log import read_log_entries, read_log_entry, verify_ship_log
from ....ports import Ports
from ..page import Given, Page


async def _load(ports: Ports, who: Principal, _: Given) -> dict[str, Any]:
    return dict(await read_log_entries(ports, who))


async def _entry(ports: Ports, who: Principal, given: Given) -> dict[str, Any]:
    seq = given["seq"]
    if not (seq.isascii() and seq.isdecimal() and len(seq) <= 15):
        raise PlatformError(ErrorCode.INVALID_ARGUMENT, "this is no number of an entry", "entries count from 1")
    entry = await read_log_entry(ports, who, int(seq))
    body = json.dumps(entry.body, indent=2, ensure_ascii=False)
    return {"title": f"Entry {entry.seq} of the ship's log", "entry": entry, "body": body}


async def _verified(ports: Ports, who: Principal, _: Given) -> dict[str, Any]:
    return {"found": await verify_ship_log(ports, who)}


LOG = Page(path="/console/log", template="log.html", title="Ship's log", load=_load, section="log")
# Before the entry's path, which it fits too. Each look reads the whole log: it is for who asks, and not over and over.
VERIFICATION = Page(
    path="/console/log/verification",
    template="verification.html",
    title="Verification of the ship's log",
    load=_verified,
    section="log",
    live=False,
)
LOG_ENTRY = Page(
    path="/console/log/{seq}", template="log_entry.html", title="Entry", load=_entry, section="log", live=False
)
