from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.ship_log.ship_log import FileShipLog
from santiago_platform.adapters.system import SystemClock
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.operations.change import note
from santiago_platform.tools import TOOLS

Santiago = Callable[..., Any]


# --- tools


def test_tools_prints_a_row_for_each_tool(santiago: Santiago) -> None:
    done = santiago("tools")
    assert done.code == 0
    rows = {line.split()[0]: line.split()[1] for line in done.out.splitlines()}
    assert rows.pop("TOOL") == "KIND"
    assert rows == {tool.name: "read" if tool.read_only else "change" for tool in TOOLS.values()}


def test_tools_as_json_carries_the_schemas(santiago: Santiago) -> None:
    found = {tool["name"]: tool for tool in santiago("tools", "--json").json}
    assert set(found) == set(TOOLS)
    assert found["deploy_service"]["input_schema"] == TOOLS["deploy_service"].input_schema


# --- init


def test_init_makes_a_workspace_and_a_second_one_keeps_every_file(santiago: Santiago, tmp_path: Path) -> None:
    first = santiago("init", "shop")
    assert first.code == 0
    assert "wrote santiago.yaml" in first.out
    assert "cd shop && santiago up -d" in first.out
    (tmp_path / "shop" / "santiago.yaml").write_text("version: 1 # mine\n")
    second = santiago("init", "shop", "--json").json
    assert second["written"] == []
    assert "santiago.yaml" in second["kept"]
    assert second["workspace"] == str(tmp_path / "shop")
    assert (tmp_path / "shop" / "santiago.yaml").read_text() == "version: 1 # mine\n"


def test_init_where_a_file_is_is_refused_in_words(santiago: Santiago, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = santiago("init", "file")
    assert done.code == 1
    assert done.err.startswith("error: file cannot be made")


# --- log verify


@pytest.fixture
def logged(tmp_path: Path) -> Layout:
    """A workspace whose ship's log has five entries."""
    layout = Layout.of(tmp_path / "workspace")
    layout.root.mkdir()
    (layout.root / "santiago.yaml").write_text("version: 1\n")
    layout.state.mkdir(mode=0o700)

    async def write() -> None:
        class Only:
            ship_log = FileShipLog(layout.ship_log, layout.keys, SystemClock())
            clock = SystemClock()

        for number in range(5):
            await note(Only, Principal(name="owner", role=Role.OWNER), "test.note", f"entry {number}", {})  # type: ignore[arg-type]
        await Only.ship_log.close()

    asyncio.run(write())
    return layout


def verify(santiago: Santiago, layout: Layout, *words: str) -> Any:
    return santiago("--workspace", str(layout.root), "log", "verify", *words)


def day(layout: Layout) -> Path:
    (file,) = layout.ship_log.glob("*.jsonl")
    return file


def test_a_whole_log_verifies_with_exit_status_0(santiago: Santiago, logged: Layout) -> None:
    done = verify(santiago, logged)
    assert done.code == 0
    assert "intact" in done.out
    found = verify(santiago, logged, "--json")
    assert (found.code, found.json["intact"]) == (0, True)
    assert found.json["entries"] >= 5


@pytest.mark.parametrize("harm", ["change", "remove", "reorder", "cut", "insert"])
def test_a_harmed_log_names_the_place_with_exit_status_1(santiago: Santiago, logged: Layout, harm: str) -> None:
    file = day(logged)
    lines = file.read_bytes().splitlines(keepends=True)
    if harm == "change":
        lines[2] = lines[2].replace(b"entry", b"enemy")
    elif harm == "remove":
        del lines[2]
    elif harm == "reorder":
        lines[2], lines[3] = lines[3], lines[2]
    elif harm == "cut":
        lines = lines[:3]
    else:
        lines.insert(2, lines[3])
    file.write_bytes(b"".join(lines))
    done = verify(santiago, logged)
    assert done.code == 1
    assert done.out.startswith("flaw ")
    assert ("head.json" if harm == "cut" else f"{file.name}:3") in done.out
    found = verify(santiago, logged, "--json")
    assert (found.code, found.json["intact"]) == (1, False)
    assert found.json["flaws"]


def test_a_log_that_is_missing_is_an_error_with_the_way_on(santiago: Santiago, tmp_path: Path) -> None:
    (tmp_path / "santiago.yaml").write_text("version: 1\n")
    done = santiago("log", "verify", "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "not_found")


# --- doctor


def doctor(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """On a machine that has nothing."""
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "LANG": "C.UTF-8"}
    return subprocess.run(
        [sys.executable, "-m", "santiago_platform", "doctor", *words],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_doctor_says_how_to_mend_what_is_missing(tmp_path: Path) -> None:
    done = doctor(tmp_path)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    for name in ("s6-svscan", "prometheus", "alertmanager"):
        (at,) = (n for n, line in enumerate(lines) if line.startswith("problem") and f" {name}: not found" in line)
        assert "doctor --fetch" in lines[at + 1]
    assert any("apt-get install git" in line for line in lines)


def test_doctor_that_cannot_fetch_says_what_to_install(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--fetch")
    assert done.returncode == 1
    assert "error: this machine has no apt-get" in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_quietly_tells_problems_alone_and_as_json_all(santiago: Santiago) -> None:
    quiet, all_of_it = santiago("doctor", "--quiet"), santiago("doctor", "--json").json
    problems = [finding for finding in all_of_it if finding["health"] == "problem"]
    assert len(quiet.out.splitlines()) <= 2 * len(problems)
    assert quiet.code == (1 if problems else 0)
    assert {"subject", "health", "said", "mend"} == set(all_of_it[0])


# --- down, stdio


def test_down_of_what_never_ran_is_no_error(santiago: Santiago, tmp_path: Path) -> None:
    (tmp_path / "santiago.yaml").write_text("version: 1\n")
    assert santiago("down", "--json").json == {"down": True, "killed": 0}
    assert not (tmp_path / ".santiago").exists()


def test_stdio_without_a_platform_says_how_to_start_it_and_writes_nothing_to_stdout(
    santiago: Santiago, tmp_path: Path
) -> None:
    (tmp_path / "santiago.yaml").write_text("version: 1\n")
    done = santiago("stdio")
    assert (done.code, done.out) == (1, "")
    assert "santiago up" in done.err
