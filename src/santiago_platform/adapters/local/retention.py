"""Removes what of a workspace's state nothing uses any more. What is in use is found by looking at what names it."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...domain.disk import size_text
from ...domain.environment import Retention
from ..artifacts.layer import remove_tree
from ..file_lock import locked, locked_if_free
from ..layout import ENVOYS, Layout
from ..process import processes_of

REMOVED_AT_ONCE = 500
# What is younger may be about to be used: a unit's logs and a binary are there before the unit that names them.
SETTLED_SECONDS = 3600.0
DAY_SECONDS = 86400.0
GONE = ".gone-"  # renamed to this, then removed: a crash leaves nothing half there at its place
OWN_LOGS = ("daemon", *ENVOYS, "prometheus", "alertmanager")


def remove_unused(layout: Layout, retention: Retention, releases: Collection[str], now: float) -> list[str]:
    """Removes as ports.disk.Disk.tidy says. now: Unix seconds. Blocks. Returns what was removed, in words."""
    sweep = _Sweep(layout, now)
    sweep.rotated_logs(retention)
    sweep.logs(retention)
    sweep.unpacked(releases)
    sweep.binaries()
    sweep.cut_off()
    return sweep.removed


@dataclass(frozen=True)
class _Size:
    """Of a folder with all that is below it. changed_at: of the newest of it."""

    size_bytes: int
    changed_at: float


class _Sweep:
    def __init__(self, layout: Layout, now: float) -> None:
        self.removed: list[str] = []
        self._layout = layout
        self._now = now

    def rotated_logs(self, retention: Retention) -> None:
        """Of all units: those that are too old, and the oldest of one that has too much. Never what is written to."""
        for folder in _folders(self._layout.logs):
            kept, gone, size = 0, 0, 0
            for path in [folder / "current", *sorted(folder.glob("@*.[su]"), reverse=True)]:
                with suppress(OSError):  # rotated or removed meanwhile
                    status = path.lstat()
                    age = self._now - status.st_mtime
                    kept += status.st_size
                    past = age > retention.logs_days * DAY_SECONDS or kept > retention.logs_unit_bytes
                    if past and age > SETTLED_SECONDS and path.name != "current":
                        path.unlink()
                        gone, size = gone + 1, size + status.st_size
            if gone:
                self.removed.append(f"logs/{folder.name}: {gone} rotated files ({size_text(size)})")

    def logs(self, retention: Retention) -> None:
        """Of units that are gone: those that are too old, then the oldest until the others have room."""
        left = {path: _size(path) for path in _folders(self._layout.logs) if path.name not in OWN_LOGS}
        gone = {path: size for path, size in left.items() if not self._has_unit(path.name)}
        total = sum(size.size_bytes for size in gone.values())
        for path, size in sorted(gone.items(), key=lambda item: item[1].changed_at):
            age = self._now - size.changed_at
            if age < SETTLED_SECONDS or not (age > retention.logs_days * DAY_SECONDS or total > retention.logs_bytes):
                continue
            if not self._has_unit(path.name):
                total -= size.size_bytes
                self._remove(path, size)

    def _has_unit(self, name: str) -> bool:
        """Also one that is being written."""
        units = self._layout.units
        return (units / name).exists() or (units / f".{name}").exists()

    def unpacked(self, releases: Collection[str]) -> None:
        """Files of releases that are gone, unless something runs in them."""
        known = {digest.removeprefix("sha256:") for digest in releases}
        strangers = [path for path in _folders(self._layout.unpacked) if path.name not in known]
        if strangers:
            with locked(self._layout.unpacked):  # so that none of it is being unpacked
                self._remove_unnamed(strangers, set())

    def binaries(self) -> None:
        """Copies by digest. None while somebody starts or ends the platform."""
        with locked_if_free(self._layout.state) as free:
            copies = _folders(self._layout.binaries)
            if free and copies:
                self._remove_unnamed(copies, _noted(self._layout.binaries))

    def _remove_unnamed(self, paths: list[Path], names: set[str]) -> None:
        used = self._used()
        for path in paths:
            if path.name not in names and str(path) not in used and self._settled(path):
                self._remove(path, _size(path))

    def cut_off(self) -> None:
        """What a crash left: a write that was to be renamed, a copy, a backup, a trial, or a removal of ours."""
        layout = self._layout
        places = (
            (layout.xds, "*.tmp"),
            (layout.binaries, ".lib-*"),
            (layout.binaries, "*/.*"),
            (layout.binaries, f"{GONE}*"),
            (layout.logs, f"{GONE}*"),
            (layout.unpacked, f"{GONE}*"),
            (layout.state, "backup-*"),
            (layout.state, "trial-*"),
        )
        for folder, pattern in places:
            for path in folder.glob(pattern):
                if self._settled(path) and not _held(path):
                    self._remove(path, _size(path))

    def _settled(self, path: Path) -> bool:
        try:
            return self._now - path.lstat().st_ctime > SETTLED_SECONDS
        except FileNotFoundError:
            return False

    def _remove(self, path: Path, size: _Size) -> None:
        if len(self.removed) >= REMOVED_AT_ONCE:
            return
        gone = path.with_name(GONE + path.name.removeprefix(GONE))
        with suppress(OSError):  # tried again by the next sweep
            path.rename(gone)
            if gone.is_dir() and not gone.is_symlink():
                remove_tree(gone)
            else:
                gone.unlink()
            self.removed.append(f"{path.parent.name}/{path.name} ({size_text(size.size_bytes)})")

    def _used(self) -> str:
        """All that names paths in use: the units' files, the processes' programs and environments, and links."""
        layout, texts = self._layout, list[str]()
        for unit in (path for path in layout.units.glob("*") if path.is_dir()):
            for name in ("run", "finish", "log/run", "instance.json"):
                with suppress(OSError):
                    texts.append((unit / name).read_text(errors="replace"))
        for process in processes_of(layout.id):
            folder = Path("/proc", str(process.pid))
            for name in ("cmdline", "environ"):
                with suppress(OSError):
                    texts.append((folder / name).read_bytes().decode(errors="replace"))
            for name in ("exe", "cwd"):
                with suppress(OSError):
                    texts.append(os.readlink(folder / name))
        for place in (layout.scan, layout.alertmanager, layout.prometheus):
            texts += [os.readlink(path) for path in place.glob("*") if path.is_symlink()]
        return "\n".join(texts)


def _folders(place: Path) -> list[Path]:
    return sorted(p for p in place.glob("*") if p.is_dir() and not p.is_symlink() and not p.name.startswith(GONE))


def _noted(binaries: Path) -> set[str]:
    """Folders of the copies that are started next."""
    names: set[str] = set()
    for note in binaries.glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(note.read_text())
            names |= {kept["path"].partition("/")[0], kept["libraries"]}
    return names


def _held(path: Path) -> bool:
    """Whether a process that still works in the folder holds its lock."""
    if not path.is_dir():
        return False
    with locked_if_free(path) as free:
        return not free


def _size(path: Path) -> _Size:
    size, changed = 0, 0.0
    for place in (path, *(Path(folder, name) for folder, _, names in os.walk(path) for name in names)):
        with suppress(OSError):
            status = place.lstat()
            size += status.st_size if place != path or not place.is_dir() else 0
            changed = max(changed, status.st_mtime)
    return _Size(size, changed)
