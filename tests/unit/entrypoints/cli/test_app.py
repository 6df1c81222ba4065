from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import typer

from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.entrypoints.cli import app
from santiago_platform.entrypoints.cli.app import Daemon, workspace

Santiago = Callable[..., Any]


def leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    parts = getattr(command, "commands", None)
    if parts is None:
        yield words, command
        return
    for name, part in parts.items():
        yield from leaves(part, (*words, name))


COMMANDS = dict(leaves(typer.main.get_command(app)))
EVERY_COMMAND = pytest.mark.parametrize("words", COMMANDS, ids=" ".join)


def options(command: Any) -> dict[str, Any]:
    return {name: parameter for parameter in command.params for name in parameter.opts}


# --- the surface


def test_the_commands_are_those_that_are_promised() -> None:
    promised = "init up down status doctor stdio release deploy promote abort rollback logs tools"
    assert {words[0] for words in COMMANDS if len(words) == 1} >= set(promised.split())
    assert {words for words in COMMANDS if len(words) == 2} >= {("token", "issue"), ("log", "verify")}


@EVERY_COMMAND
def test_every_command_prints_json_for_programs(words: tuple[str, ...]) -> None:
    assert ("--json" in options(COMMANDS[words])) == (words != ("stdio",))  # stdio speaks MCP


@EVERY_COMMAND
def test_every_command_and_each_of_its_words_is_explained(words: tuple[str, ...], santiago: Santiago) -> None:
    done = santiago(*words, "--help")
    assert done.code == 0
    assert (COMMANDS[words].help or "nothing").splitlines()[0] in " ".join(done.out.split())
    for parameter in COMMANDS[words].params:
        assert getattr(parameter, "help", None), f"{parameter.name} is not explained"


def test_without_a_command_the_help_is_printed(santiago: Santiago) -> None:
    done = santiago()
    assert "Usage: santiago" in done.out + done.err
    assert "deploy" in done.out + done.err


def test_a_mistyped_command_is_told_the_nearest_one(santiago: Santiago) -> None:
    done = santiago("deplpy")
    assert done.code == 2
    assert "Did you mean 'deploy'?" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("deploy",), "Missing argument"),
        (("deploy", "web"), "--env"),
        (("deploy", "web", "--env", "staging", "--replicas", "many"), "valid integer"),
        (("token", "issue", "--role", "king", "--name", "x"), "king"),
        (("status", "--nonsense"), "--nonsense"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(santiago: Santiago, words: tuple[str, ...], said: str) -> None:
    done = santiago(*words)
    assert done.code == 2
    assert said in done.err


# --- the workspace


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "shop" / "services" / "web").mkdir(parents=True)
    (tmp_path / "shop" / "santiago.yaml").write_text("version: 1\n")
    return tmp_path / "shop"


def test_the_workspace_is_the_nearest_folder_above_with_settings(
    santiago: Santiago, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root / "services" / "web")
    santiago("tools")
    assert workspace().root == root


@pytest.mark.parametrize("where", ["above", "elsewhere"])
def test_a_workspace_is_named_by_an_option_or_the_environment(
    santiago: Santiago, root: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    if where == "above":
        santiago("--workspace", str(root), "tools")
    else:
        monkeypatch.setenv("SANTIAGO_WORKSPACE", str(root))
        santiago("tools")
    assert workspace().root == root


def test_without_a_workspace_the_error_says_how_to_make_one(santiago: Santiago, tmp_path: Path) -> None:
    done = santiago("status")
    assert done.code == 1
    assert done.out == ""
    assert f"error: there is no workspace at or above {tmp_path}" in done.err
    assert "santiago init" in done.err


def test_a_folder_that_is_no_workspace_is_refused_by_name(santiago: Santiago, tmp_path: Path) -> None:
    done = santiago("--workspace", str(tmp_path), "status")
    assert done.code == 1
    assert f"{tmp_path} is no workspace" in done.err
    assert f"santiago init {tmp_path}" in done.err


# --- errors


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("deploy", "web", "--env", "staging"),
        ("rollback", "web", "--env", "staging"),
        ("promote", "web", "--env", "staging"),
        ("abort", "web", "--env", "staging"),
        ("release", "web"),
        ("logs", "web"),
        ("token", "list"),
        ("token", "revoke", "x"),
        ("token", "issue", "--role", "owner", "--name", "x"),
        ("log", "verify"),
    ],
    ids=" ".join,
)
def test_where_nothing_runs_each_command_says_what_to_do(
    santiago: Santiago, root: Path, words: tuple[str, ...]
) -> None:
    done = santiago("--workspace", str(root), *words)
    assert done.code == 1
    assert "error: " in done.err
    assert "Traceback" not in done.err
    assert len(done.err.strip().splitlines()) >= 2  # a hint follows
    as_json = santiago("--workspace", str(root), *words, "--json")
    assert (as_json.code, as_json.err) == (1, "")
    error = as_json.json["error"]
    assert error["code"] in {"unavailable", "not_found"}
    assert error["message"]
    assert error["hint"]


def test_a_mistake_in_the_settings_is_told_with_its_place(santiago: Santiago, root: Path) -> None:
    (root / "santiago.yaml").write_text("version: 1\nadresses: {}\n")
    done = santiago("--workspace", str(root), "up", "-d")
    assert done.code == 1
    assert "error: santiago.yaml:2: " in done.err
    assert "addresses" in done.err


def test_an_error_of_the_system_is_told_in_words(
    santiago: Santiago, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "/somewhere/x")

    monkeypatch.setattr("santiago_platform.entrypoints.cli.life.examine", full)
    done = santiago("doctor")
    assert done.code == 1
    assert done.err.startswith("error: /somewhere/x: No space left on device\n")


def test_untrusted_text_is_no_markup(santiago: Santiago, tmp_path: Path) -> None:
    done = santiago("--workspace", str(tmp_path / "[red]x[/red]"), "status")
    assert "[red]x[/red] is no workspace" in done.err


def test_the_owners_token_of_another_user_is_refused_with_the_way_out(
    santiago: Santiago, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", denied)
    done = santiago("--workspace", str(root), "token", "list")
    assert done.code == 1
    assert "not yours to read" in done.err
    assert "SANTIAGO_TOKEN" in done.err


# --- the daemon's answers


@pytest.fixture
def answering(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[httpx2.Response], Daemon]:
    """A daemon that answers everything so."""
    from santiago_platform.bootstrap import Layout

    monkeypatch.setenv("SANTIAGO_TOKEN", "secret")

    def make(answer: httpx2.Response) -> Daemon:
        daemon = Daemon(Layout.of(root))
        daemon._client = httpx2.Client(transport=httpx2.MockTransport(lambda request: answer))
        return daemon

    return make


def test_a_refusal_of_the_daemon_is_the_same_refusal_here(answering: Callable[..., Daemon]) -> None:
    error = {"code": "conflict", "message": "a rollout is running", "hint": "wait for it"}
    with pytest.raises(PlatformError) as caught:
        answering(httpx2.Response(409, json={"error": error})).get("/api/status")
    assert (caught.value.code, caught.value.message, caught.value.hint) == (
        ErrorCode.CONFLICT, "a rollout is running", "wait for it"
    )  # fmt: skip


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(502, text="<html>Bad Gateway"),
        httpx2.Response(200, text="hello"),
        httpx2.Response(500, json={"error": {"code": "no such code", "message": "x"}}),
        httpx2.Response(500, json=[1]),
        httpx2.Response(500, json={}),
    ],
    ids=lambda a: f"{a.status_code} {a.text[:12]}",
)
def test_an_answer_that_makes_no_sense_is_an_error_and_no_trace(
    answering: Callable[..., Daemon], answer: httpx2.Response
) -> None:
    with pytest.raises(PlatformError) as caught:
        answering(answer).get("/api/status")
    assert caught.value.code is ErrorCode.INTERNAL
    assert str(answer.status_code) in caught.value.message


# --- colours


@pytest.mark.parametrize(("more", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_is_respected(more: dict[str, str], coloured: bool) -> None:
    environment = {**{k: v for k, v in os.environ.items() if k != "NO_COLOR"}, "FORCE_COLOR": "1", "TERM": "xterm"}
    done = subprocess.run(
        [sys.executable, "-m", "santiago_platform", "--workspace", "/nonexistent", "status"],
        capture_output=True,
        env={**environment, **more},
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert ("\x1b[31m" in done.stderr) == coloured
    assert "is no workspace" in done.stderr
