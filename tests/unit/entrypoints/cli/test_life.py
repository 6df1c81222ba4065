from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Santiago = Callable[..., Any]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    root = tmp_path / "workspace"
    root.mkdir()
    (root / "santiago.yaml").write_text("version: 1\n")
    return root


def test_up_prints_a_unit_for_systemd_and_starts_nothing(santiago: Santiago, workspace: Path) -> None:
    done = santiago("--workspace", str(workspace), "up", "--print-unit")
    assert done.code == 0
    command = f'ExecStart="{sys.executable}" "-m" "santiago_platform" "--workspace" "{workspace}" "up"'
    assert command in done.out.splitlines()
    assert ("User=root" in done.out.splitlines()) == (os.getuid() == 0)
    assert not (workspace / ".santiago").exists()
    said = santiago("--workspace", str(workspace), "up", "--print-unit", "--json").json
    assert said["text"] == done.out
    assert said["path"].endswith(f"/{said['name']}")


def test_a_backup_of_what_never_ran_is_refused_in_words(santiago: Santiago, workspace: Path, tmp_path: Path) -> None:
    done = santiago("--workspace", str(workspace), "backup", str(tmp_path / "backup.tar"))
    assert done.code == 1
    assert "was never started" in done.err
    assert not (tmp_path / "backup.tar").exists()


def test_a_restore_over_something_is_refused_in_words(santiago: Santiago, workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "backup.tar").touch()
    done = santiago("restore", "backup.tar", str(workspace), "--json")
    assert done.code == 1
    assert done.json["error"]["code"] == "failed_precondition"
    assert (workspace / "santiago.yaml").read_text() == "version: 1\n"
