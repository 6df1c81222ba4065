from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from santiago_platform.adapters.file_lock import locked
from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.local import retention as module
from santiago_platform.adapters.local.retention import remove_unused
from santiago_platform.domain.environment import Retention

DAY = 86400.0
HEX = "a" * 64


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout.of(tmp_path)
    for folder in (layout.units, layout.logs, layout.unpacked, layout.binaries, layout.xds):
        folder.mkdir(parents=True)
    return layout


def sweep(layout: Layout, *releases: str, days: float = 30, size: int = 1 << 30, later: float = DAY) -> list[str]:
    return remove_unused(layout, Retention(logs_days=days, logs_bytes=size), set(releases), time.time() + later)


def logs(layout: Layout, unit: str, size: int = 100, days_ago: float = 0) -> Path:
    folder = layout.logs / unit
    folder.mkdir()
    (folder / "current").write_bytes(b"x" * size)
    then = time.time() - days_ago * DAY
    for path in (folder / "current", folder):
        os.utime(path, (then, then))
    return folder


def unit(layout: Layout, name: str, run: str = "") -> None:
    (layout.units / name).mkdir()
    (layout.units / name / "run").write_text(run)


# --- logs


def test_logs_of_a_unit_that_is_gone_go_when_they_are_old(layout: Layout) -> None:
    old, young = (
        logs(layout, "shop__production__a__0", days_ago=31),
        logs(layout, "shop__production__b__0", days_ago=10),
    )
    assert sweep(layout, later=0) == ["logs/shop__production__a__0 (100 bytes)"]
    assert not old.exists()
    assert young.exists()


@pytest.mark.parametrize("name", ["shop__production__a__0", ".shop__production__a__0"])
def test_logs_of_a_unit_that_exists_or_is_being_written_stay(layout: Layout, name: str) -> None:
    kept = logs(layout, "shop__production__a__0", days_ago=400)
    unit(layout, name)
    assert sweep(layout, days=0, size=0) == []
    assert kept.exists()


@pytest.mark.parametrize("name", ["shop__production__a__0", "envoy-a"])
def test_rotated_logs_of_what_runs_go_when_they_are_old_or_too_much(layout: Layout, name: str) -> None:
    folder = logs(layout, name, size=10)
    unit(layout, name)
    for n, days in enumerate((40, 20, 10, 0.001)):
        file = folder / f"@{n:024x}.s"
        file.write_bytes(b"x" * 100)
        os.utime(file, (time.time() - days * DAY,) * 2)
    assert sweep(layout, later=0) == [f"logs/{name}: 1 rotated files (100 bytes)"]
    remove_unused(layout, Retention(logs_unit_bytes=0), set(), time.time())
    assert sorted(path.name[-3:] for path in folder.iterdir()) == ["3.s", "ent"]


def test_the_platforms_own_logs_stay(layout: Layout) -> None:
    for name in module.OWN_LOGS:
        logs(layout, name, days_ago=400)
    (layout.logs / "svscan.log").touch()
    assert sweep(layout, days=0, size=0) == []


def test_the_oldest_logs_go_first_until_the_others_have_room(layout: Layout) -> None:
    for index in range(4):
        logs(layout, f"shop__production__a__{index}", size=100, days_ago=20 - index)
    assert [told.split()[0] for told in sweep(layout, size=250, later=0)] == [
        "logs/shop__production__a__0", "logs/shop__production__a__1",
    ]  # fmt: skip


def test_logs_that_were_written_a_moment_ago_stay_whatever_their_size(layout: Layout) -> None:
    logs(layout, "shop__production__a__0")
    assert sweep(layout, days=0, size=0, later=0) == []


# --- unpacked releases


def unpacked(layout: Layout, digits: str = HEX) -> Path:
    folder = layout.unpacked / digits
    (folder / "lib").mkdir(parents=True)
    (folder / "lib" / "file").touch()
    for path in (folder / "lib", folder):
        path.chmod(0o555)
    return folder


def test_files_of_a_release_that_is_gone_go_although_they_are_read_only(layout: Layout) -> None:
    folder = unpacked(layout)
    assert sweep(layout, f"sha256:{HEX}") == []
    assert len(sweep(layout, "sha256:" + "b" * 64)) == 1
    assert not folder.exists()


def test_files_that_an_instance_runs_in_stay_although_their_release_is_gone(layout: Layout) -> None:
    folder = unpacked(layout)
    unit(layout, "shop__production__a__0", f"cd {folder}\n")
    assert sweep(layout) == []
    assert folder.exists()


def test_files_that_were_unpacked_a_moment_ago_stay(layout: Layout) -> None:
    unpacked(layout)
    assert sweep(layout, later=0) == []


# --- copies of programs


def copy(layout: Layout, name: str) -> Path:
    folder = layout.binaries / name
    folder.mkdir()
    (folder / "program").touch()
    return folder


def test_copies_that_nothing_names_go(layout: Layout, tmp_path: Path) -> None:
    old, next_, run = copy(layout, "0" * 16), copy(layout, "1" * 16), copy(layout, "2" * 16)
    libraries, old_libraries = copy(layout, "lib-" + "1" * 16), copy(layout, "lib-" + "0" * 16)
    note = {"path": f"{next_.name}/program", "source": "", "libraries": libraries.name}
    (layout.binaries / "program.json").write_text(json.dumps(note))
    unit(layout, "prometheus", f"exec env -i {run}/program --flag\n")
    assert len(sweep(layout)) == 2
    assert not old.exists()
    assert not old_libraries.exists()
    assert next_.exists()
    assert libraries.exists()
    assert run.exists()


def test_a_copy_that_a_link_leads_to_stays(layout: Layout) -> None:
    kept = copy(layout, "0" * 16)
    layout.scan.mkdir()
    (layout.scan / ".s6-supervise").symlink_to(kept / "program")
    assert sweep(layout) == []


def test_copies_are_left_alone_while_the_platform_is_being_started(layout: Layout) -> None:
    copy(layout, "0" * 16)
    with locked(layout.state):
        assert sweep(layout) == []
    assert len(sweep(layout)) == 1


# --- what a crash left


def test_what_a_crash_cut_off_goes_and_what_is_under_way_stays(layout: Layout) -> None:
    (layout.xds / "cds.tmp").write_text("half")
    (layout.xds / "cds.json").write_text("whole")
    (layout.logs / ".gone-shop__production__a__0").mkdir()
    dead, alive = layout.state / "backup-dead", layout.state / "backup-alive"
    dead.mkdir()
    alive.mkdir()
    with locked(alive):
        assert len(sweep(layout)) == 3
    assert (layout.xds / "cds.json").exists()
    assert alive.exists()
    assert not dead.exists()


def test_a_call_removes_a_bounded_number_and_the_next_goes_on(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMOVED_AT_ONCE", 3)
    for index in range(5):
        logs(layout, f"shop__production__a__{index}", days_ago=40)
    assert [len(sweep(layout)) for _ in range(3)] == [3, 2, 0]


def test_keys_rows_releases_volumes_and_homes_are_never_touched(layout: Layout) -> None:
    kept = [layout.keys, layout.releases, layout.state / "volumes", layout.state / "home", layout.ship_log]
    for folder in kept:
        folder.mkdir(parents=True)
        (folder / "precious").touch()
    layout.database.touch()
    assert sweep(layout, days=0, size=0, later=400 * DAY) == []
    assert all((folder / "precious").exists() for folder in kept)
