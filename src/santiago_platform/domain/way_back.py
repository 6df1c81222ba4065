"""The way back of a rollout in words: where to, how fast, and whether it was tried. Pure."""

from __future__ import annotations

from datetime import datetime

from .phase import Phase
from .rollout import Rollout
from .strategy import WARM_STRATEGIES, Strategy


def way_back(r: Rollout, warm_until: datetime | None = None) -> str:
    """What a plan and an operation say of it; empty where there is nothing to go back from.

    warm_until: of the deployment that it has made. The words hold before and after it."""
    if r.old is None:
        return "none: nothing was live before"
    if r.unchanged or r.stranded or (r.phase.finished and r.phase is not Phase.SUCCEEDED):
        return ""
    return f"to version {r.old.name}, {_speed(r, warm_until)}; {_trial(r)}"


def _speed(r: Rollout, warm_until: datetime | None) -> str:
    warm = r.strategy in WARM_STRATEGIES and r.rollback_window_seconds > 0
    if r.phase is Phase.SUCCEEDED:
        until = f"{warm_until:%Y-%m-%d %H:%M:%S}Z" if warm_until else ""
        return f"kept warm until {until}, and started first after that" if until else "which is started first"
    if r.strategy is Strategy.RECREATE:
        return "which is stopped before the new one starts"
    if r.strategy is Strategy.ROLLING:
        return "of which one instance runs until the end"
    return "which runs until the end" + (f" and is kept warm for {r.rollback_window_seconds:g} s" if warm else "")


def _trial(r: Rollout) -> str:
    if r.rehearsal is not None:
        healthy = f"{r.rehearsal.healthy} of {r.old.replicas if r.old else 0} of its instances were healthy"
        return f"rehearsed at {r.rehearsal.at:%Y-%m-%d %H:%M:%S}Z, when {healthy}"
    if not r.runs_jobs:
        return "not rehearsed: it is a way back itself"
    if r.strategy is Strategy.RECREATE:
        return "not rehearsed: the two versions do not run together"
    if not all(v.template.ports for v in (r.old, r.new) if v is not None):
        return "not rehearsed: without ports there is no route"
    return "not rehearsed" if r.moved else "it is rehearsed, and proven, before any traffic moves"
