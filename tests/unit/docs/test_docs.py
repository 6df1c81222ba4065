"""Walkers: what can be named is documented, and what the documents name is there."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from santiago_platform.adapters.artifacts.build import Build
from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.environment import EnvironmentKind, Settings
from santiago_platform.domain.errors import ErrorCode, retryable
from santiago_platform.domain.evidence import EvidenceKind
from santiago_platform.domain.gate import Outcome
from santiago_platform.domain.gates import GATES
from santiago_platform.domain.identity import Level, Role, Scope
from santiago_platform.domain.incident import EventKind, Evidence, IncidentState, Recovery
from santiago_platform.domain.job import RunState, When
from santiago_platform.domain.mailbox import Severity
from santiago_platform.domain.operation import OperationState
from santiago_platform.domain.phase import Phase
from santiago_platform.domain.policy import ACTIONS, Verdict
from santiago_platform.domain.rules import RulesFormat, RulesTarget
from santiago_platform.domain.rules import Severity as AlertSeverity
from santiago_platform.domain.signal import Signal
from santiago_platform.domain.strategy import Strategy
from santiago_platform.entrypoints.cli import app
from santiago_platform.entrypoints.http import build_app
from santiago_platform.entrypoints.http_answer import http_status
from santiago_platform.entrypoints.metrics import ServerMetrics
from santiago_platform.tools import TOOLS
from santiago_platform.tools.documentation import REGENERATE, reference, with_table

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "src" / "santiago_platform"
README = ROOT / "README.md"
GUIDES = ROOT / "docs" / "guides"
DOCUMENTS = [
    README,
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
]
EVERY_DOCUMENT = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
HINT = f"run: {REGENERATE}"


def _guide(name: str) -> str:
    return (GUIDES / f"{name}.md").read_text()


def _blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, with the words that call it."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, part in command.commands.items():
        yield from _commands(part, f"{path} {name}")


CLI = typer.main.get_command(app)
COMMANDS = dict(_commands(CLI, "santiago"))


def _options(command: Any) -> set[str]:
    return {word for parameter in command.params for word in parameter.opts if word.startswith("--")}


def test_the_walk_finds_commands_within_commands() -> None:
    assert {"santiago up", "santiago token issue"} <= COMMANDS.keys()


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_option_is_documented(path: str) -> None:
    rows = [line for line in _guide("operations").splitlines() if line.startswith(f"| `{path}")]
    assert rows, f"docs/guides/operations.md has no row for {path}"
    assert {option for option in _options(COMMANDS[path]) - {"--json"} if option not in rows[0]} == set()


def _fields(model: type[BaseModel]) -> set[str]:
    """The keys of a model and of the models in it."""
    names = set()
    for name, field in model.model_fields.items():
        names.add(name)
        for part in _models(field.annotation):
            names |= _fields(part)
    return names


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models(argument)


@pytest.mark.parametrize("model", [Settings, Build])
def test_every_key_of_a_file_is_documented(model: type[BaseModel]) -> None:
    keys = _fields(model)
    assert len(keys) > 5, "the walk reaches the keys"
    guides = (
        "workspace",
        "jobs",
        "gates",
        "canary",
        "advisors",
        "governance",
        "approvals",
        "messages",
        "incidents",
        "monitoring",
    )
    text = "".join(map(_guide, guides))
    assert {key for key in keys if f"`{key}`" not in text} == set()


def test_every_environment_variable_is_documented() -> None:
    found = {
        node.value
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"SANTIAGO_[A-Z_]*[A-Z]", node.value)
    }
    assert "SANTIAGO_TOKEN" in found, "the walk finds them"
    rows = "".join(line for line in _guide("operations").splitlines() if line.startswith("| `SANTIAGO_"))
    documented = set(re.findall(r"`(SANTIAGO_[A-Z_]+)`", rows))
    assert documented == found


def test_every_path_of_the_server_is_documented(fake: FakePlatform) -> None:
    async def nothing() -> Any:
        return {}

    server: Any = build_app(fake.ports, status=nothing, problems=nothing, hook_token="x")
    while not hasattr(server, "routes"):
        server = server._app
    text = _guide("http-api")
    assert {route.path for route in server.routes if f"`{route.path}`" not in text} == set()


@pytest.fixture
def fake() -> FakePlatform:
    return FakePlatform()


def test_every_metric_of_the_server_is_documented() -> None:
    kinds = {"counter": "_total", "gauge": "", "histogram": ""}
    text = _guide("http-api")
    names = {
        family.name + kinds[family.type]
        for family in ServerMetrics().registry.collect()
        if family.name.startswith("santiago_")
    }
    assert names
    assert {name for name in names if f"`{name}`" not in text} == set()


def test_every_error_code_is_documented_with_its_status_and_whether_to_try_again() -> None:
    for code in ErrorCode:
        row = next(line for line in _guide("agents").splitlines() if line.startswith(f"| `{code}` |"))
        assert row.rsplit("|", 2)[1].strip().startswith("yes" if retryable(code) else "no"), row
        status = next(line for line in _guide("http-api").splitlines() if line.startswith(f"| {http_status(code)} |"))
        assert f"`{code}`" in status


@pytest.mark.parametrize(
    ("values", "guide"),
    [
        (Role, "agents"),
        (Role, "governance"),
        (Level, "governance"),
        (Scope, "governance"),
        (EnvironmentKind, "governance"),
        (Verdict, "governance"),
        (sorted(a for a in ACTIONS if "." not in a), "governance"),
        (EvidenceKind, "gates"),
        (GATES, "gates"),
        (Outcome, "gates"),
        (Signal, "agents"),
        (Strategy, "deploying"),
        (Phase, "deploying"),
        (OperationState, "deploying"),
        (When, "jobs"),
        (RunState, "jobs"),
        (Severity, "messages"),
        (AlertSeverity, "incidents"),
        (IncidentState, "incidents"),
        (EventKind, "incidents"),
        (Recovery, "incidents"),
        (Evidence, "incidents"),
        (RulesTarget, "monitoring"),
        (RulesFormat, "monitoring"),
    ],
)
def test_every_value_of_an_enumeration_is_documented(values: Any, guide: str) -> None:
    assert {str(value) for value in values if f"`{value}`" not in _guide(guide)} == set()


def test_the_table_of_tools_in_the_readme_is_up_to_date() -> None:
    assert README.read_text() == with_table(README.read_text()), HINT


def test_the_reference_of_tools_is_up_to_date() -> None:
    assert (ROOT / "docs" / "tools.md").read_text() == reference(), HINT


def test_a_readme_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="tools: begin"):
        with_table("# A title\n")


def _anchors(text: str) -> set[str]:
    """Of the headings, as GitHub makes them."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@EVERY_DOCUMENT
def test_every_relative_link_resolves(document: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        if not file.exists() or (anchor and anchor not in _anchors(file.read_text())):
            broken.append(target)
    assert broken == []


def _console_lines() -> list[tuple[str, str]]:
    """(document, line) of each command line that begins with `santiago`."""
    found = []
    for document in DOCUMENTS:
        for block in _blocks(document.read_text(), "console"):
            lines = (line.removeprefix("$ ") for line in block.replace("\\\n", " ").splitlines())
            found += [(document.name, line) for line in lines if line.startswith("santiago ")]
    return found


@pytest.mark.parametrize(("document", "line"), _console_lines())
def test_every_command_line_in_a_document_can_be_parsed(document: str, line: str) -> None:
    words = shlex.split(line)[1:]
    command: Any = CLI
    while hasattr(command, "commands"):
        assert words[0] in command.commands, f"{document}: there is no command {line}"
        command, words = command.commands[words[0]], words[1:]
    command.make_context(command.name, words)  # raises for an option or an argument that there is not


def test_the_documents_show_command_lines() -> None:
    assert {name for name, _ in _console_lines()} >= {"README.md", "deploying.md", "operations.md", "agents.md"}


@EVERY_DOCUMENT
def test_every_json_block_is_json_and_every_call_in_it_is_valid(document: Path) -> None:
    for block in _blocks(document.read_text(), "json"):
        value = json.loads(block)
        if isinstance(value, dict) and value.get("method") == "tools/call":
            tool = TOOLS[value["params"]["name"]]
            tool.parse(value["params"]["arguments"])
