from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from santiago_platform.adapters.artifacts.build import Build, read_build, run_build
from santiago_platform.domain.errors import ErrorCode, PlatformError


async def run(tmp_path: Path, script: str, **more: object) -> Path:
    source, scratch = tmp_path / "source", tmp_path / "scratch"
    source.mkdir()
    scratch.mkdir()
    build = Build.model_validate({"command": ["sh", "-c", script], **more})
    await run_build(build, source, scratch=scratch, epoch=1_700_000_000, subject="web at 0123")
    return source


async def failure(tmp_path: Path, script: str, **more: object) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        await run(tmp_path, script, **more)
    assert caught.value.code is ErrorCode.FAILED_PRECONDITION
    return caught.value


async def gone(pid: int) -> bool:
    for _ in range(200):
        if (
            not Path(f"/proc/{pid}").exists()
            or Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        ):
            return True
        await asyncio.sleep(0.01)
    return False


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("command: make\n", 1, "command"),
        ("command: []\n", 1, "command"),
        ("outputs: [x]\ntimeout_seconds: 0\n", 2, "greater than 0"),
        ("outputs:\n  - ../x\n", 1, "within the service's folder"),
        ("outputs: [/etc/passwd]\n", 1, "within the service's folder"),
        ("comand: [make]\n", 1, "unknown key 'comand'"),
        ("base: {}\n", 1, "exactly one of"),
        ("base: {oci_layout: a, image: b}\n", 1, "exactly one of"),
        ("variables:\n  A: 1\n", 2, "must be a text"),
        ("variables:\n  A=B: x\n", 2, "pattern"),
    ],
)
def test_what_is_no_build_file_is_refused_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(PlatformError) as caught:
        read_build(text, "build.yaml")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert caught.value.message.startswith(f"build.yaml:{line}: ")
    assert words in caught.value.message


def test_a_base_image_of_a_registry_is_named_whole() -> None:
    with pytest.raises(PlatformError) as caught:
        read_build("outputs: [x]\nbase:\n  image: debian\n", "build.yaml")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert "write it whole" in caught.value.message


@pytest.mark.parametrize(
    "image", ["localhost:5000/a/b:1", "docker.io/library/python:3.13-slim", f"r.example/x@sha256:{'a' * 64}"]
)
def test_a_base_image_may_be_of_any_registry(image: str) -> None:
    base = read_build(f"base: {{image: '{image}'}}\n", "build.yaml").base
    assert base is not None
    assert base.image == image


def test_an_empty_file_means_that_the_sources_are_the_release() -> None:
    assert read_build("", "build.yaml") == Build()


async def test_the_environment_is_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANTIAGO_SECRET", "x")
    source = await run(tmp_path, "env > seen", variables={"MODE": "fast"})
    seen = dict(line.split("=", 1) for line in (source / "seen").read_text().splitlines())
    known = {"PATH", "HOME", "TMPDIR", "LANG", "TZ", "SOURCE_DATE_EPOCH", "MODE"}
    assert set(seen) - {"PWD", "OLDPWD", "SHLVL", "_"} == known
    assert (seen["MODE"], seen["SOURCE_DATE_EPOCH"], seen["PATH"]) == ("fast", "1700000000", os.environ["PATH"])
    assert seen["HOME"].startswith(str(tmp_path))


async def test_a_failed_build_shows_its_last_20_lines(tmp_path: Path) -> None:
    error = await failure(tmp_path, "seq 1 100; echo broken >&2; exit 3")
    assert "ended with code 3" in error.message
    assert error.message.splitlines()[1:] == [*(str(n) for n in range(82, 101)), "broken"]


async def test_secrets_in_the_output_are_redacted(tmp_path: Path) -> None:
    token = "ghp_" + "0123456789abcdefghijABCDEFGHIJ012345"
    error = await failure(tmp_path, f"echo token={token}; exit 1")
    assert "token=" in error.message
    assert token not in error.message


async def test_junk_in_the_output_is_shown_harmlessly(tmp_path: Path) -> None:
    error = await failure(tmp_path, r"head -c 3000000 /dev/zero; printf '\n\033[31mred\377\n'; exit 1")
    assert "red\\xff" in error.message
    assert "\033" not in error.message
    assert len(error.message) < 20_000


async def test_a_build_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    error = await failure(tmp_path, "sleep 600 & echo $! > child; echo waiting; wait", timeout_seconds=0.3)
    assert "did not end within 0.3 s" in error.message
    assert "waiting" in error.message
    assert await gone(int((tmp_path / "source" / "child").read_text()))


async def test_what_a_build_leaves_running_is_ended(tmp_path: Path) -> None:
    source = await run(tmp_path, "sleep 600 & echo $! > child")
    assert await gone(int((source / "child").read_text()))


async def test_a_cancelled_build_is_ended(tmp_path: Path) -> None:
    task = asyncio.create_task(run(tmp_path, "sleep 600 & echo $! > child; wait"))
    child = tmp_path / "source" / "child"
    for _ in range(500):
        if child.exists() and child.read_text().strip():
            break
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await gone(int(child.read_text()))


async def test_a_command_that_is_not_there_says_so(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    with pytest.raises(PlatformError, match="cannot start") as caught:
        await run_build(Build(command=("./nothing",)), tmp_path, scratch=tmp_path / "scratch", epoch=0, subject="web")
    assert caught.value.code is ErrorCode.FAILED_PRECONDITION
