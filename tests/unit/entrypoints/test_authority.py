"""Walkers: nothing that can be asked for goes past the policy."""

from __future__ import annotations

import ast
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

import santiago_platform.operations
from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.policy import ACTIONS, Decision, Question, Verdict
from santiago_platform.entrypoints.a2a import CARD_PATH, RPC_PATH
from santiago_platform.entrypoints.authentication import OPEN_PATHS
from santiago_platform.entrypoints.console.console import is_console
from santiago_platform.entrypoints.http import build_app
from santiago_platform.entrypoints.json_api import HOOK_PATH
from santiago_platform.operations.issue_token import TokenRequest, issue_token
from santiago_platform.tools import TOOLS
from santiago_platform.tools.tool import Tool

ROOT = Principal(name="root", role=Role.OWNER)
OPERATIONS = Path(santiago_platform.operations.__file__).parent
# What each route is sent, so that it comes as far as the policy. A new route without a line here fails the walk.
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("GET", "/api/status"): {},
    ("POST", "/api/releases"): {"service": "web"},
    ("GET", "/api/jobs"): {},
    ("POST", "/api/jobs"): {"service": "web", "environment": "production", "job": "nightly"},
    ("POST", "/api/releases/push"): {"service": "web", "release": "a" * 64},
    ("GET", "/api/gates/{service}/{environment}"): {},
    ("GET", "/api/versions/{service}/{environment}"): {},
    ("GET", "/api/secrets"): {},
    ("GET", "/api/reports/budget"): {},
    ("GET", "/api/incidents"): {},
    ("GET", "/api/incidents/{id}"): {},
    ("POST", "/api/incidents/{id}"): {"action": "acknowledge"},
    ("GET", "/api/reports/dora"): {},
    ("GET", "/api/reports/weekly"): {},
    ("GET", "/api/reports/slo"): {},
    ("GET", "/api/reports/slo/{service}/proposal"): {},
    ("GET", "/api/deliveries"): {},
    ("POST", "/api/deliveries"): {},
    ("PUT", "/api/secrets/{environment}/{name}"): {},
    ("DELETE", "/api/secrets/{environment}/{name}"): {},
    ("POST", "/api/policy"): {"action": "deploy_service"},
    ("PUT", "/evidence/{digest}"): {},
    ("GET", "/evidence/{digest}"): {},
    ("POST", "/api/sessions"): {"purpose": "a walk"},
    ("GET", "/api/sessions"): {},
    ("POST", "/api/sessions/{id}"): {},
    ("DELETE", "/api/sessions/{id}"): {},
    ("POST", "/api/tokens"): {"name": "ann", "role": "qa"},
    ("GET", "/api/tokens"): {},
    ("DELETE", "/api/tokens/{id}"): {},
    ("GET", "/api/log/verify"): {},
}
WITHOUT = OPEN_PATHS | {HOOK_PATH, "/mcp", "/mcp/json", "/api/tools/{name}"}  # the tools have a walk of their own
# The console, too: tests/unit/entrypoints/console/test_pages.py walks its pages and forms.
WITHOUT |= {CARD_PATH, RPC_PATH}  # of A2A: one for everybody, one that answers in JSON-RPC and has tests of its own


class Refusing:
    """Denies everything, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Question] = []

    def decide(self, question: Question) -> Decision:
        self.asked.append(question)
        return Decision(verdict=Verdict.DENY, rules=("refusing",))

    def version(self) -> str:
        return "1"

    def problems(self) -> list[str]:
        return []


async def nothing() -> Any:
    return {}


def routes(platform: FakePlatform) -> list[tuple[str, str]]:
    server: Any = build_app(platform.ports, status=nothing, problems=nothing, hook_token="hook")
    while not hasattr(server, "routes"):
        server = server._app
    found = [(method, route.path) for route in server.routes for method in route.methods or ("POST",)]
    return [
        (method, path) for method, path in found if method != "HEAD" and path not in WITHOUT and not is_console(path)
    ]


@pytest.fixture
async def refusing() -> AsyncIterator[tuple[FakePlatform, httpx2.AsyncClient]]:
    token = await issue_token((open := FakePlatform()).ports, ROOT, TokenRequest(name="owner", role=Role.OWNER))
    platform = FakePlatform(policy=Refusing(), store=open.store)
    app = build_app(platform.ports, status=nothing, problems=nothing, hook_token="hook")
    headers = {"authorization": f"Bearer {token.token}"}
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        yield platform, client


def test_the_walk_knows_every_route() -> None:
    assert set(routes(FakePlatform())) == set(BODIES)


@pytest.mark.parametrize(("method", "path"), BODIES)
async def test_every_route_asks_the_policy(
    refusing: tuple[FakePlatform, httpx2.AsyncClient], method: str, path: str
) -> None:
    platform, client = refusing
    place = path.format(service="web", environment="production", digest="a" * 64, id="t1", name="key")
    answer = await client.request(method, place, json=BODIES[method, path] if method != "GET" else None)
    assert answer.status_code == 403, answer.text
    assert platform.policy.asked
    changing = method != "GET" and path != "/api/policy"
    assert [entry.outcome for entry in platform.ship_log.entries] == (["", "denied"] if changing else [])


@pytest.mark.parametrize("tool", TOOLS.values(), ids=list(TOOLS))
async def test_every_tool_asks_the_policy(refusing: tuple[FakePlatform, httpx2.AsyncClient], tool: Tool) -> None:
    platform, client = refusing
    answer = await client.post(f"/api/tools/{tool.name}", json=dict(tool.example))
    assert answer.status_code == 403, answer.text
    assert platform.policy.asked
    assert [entry.outcome for entry in platform.ship_log.entries] == ([] if tool.read_only else ["", "denied"])


def test_every_operation_that_is_given_a_principal_comes_by_the_one_place() -> None:
    """Public functions with ports and a principal call `authorise` themselves, or another operation that does."""
    functions = {
        node.name: node
        for path in OPERATIONS.glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)
    }

    def names(node: ast.AST) -> set[str]:
        return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}

    asking = {"authorise"}
    while found := {name for name, node in functions.items() if names(node) & asking} - asking:
        asking |= found
    # What is called by those that have asked, or by the platform itself.
    inner = {
        "change",
        "note",
        "note_lost",
        "start_rollback",
        "roll_back",
        "require_service",
        "require_tenant",
        "known_services",
        "is_own",
        "of_all_tenants",
        "sight",
        "question",
        "is_shown",
        "may_see",
        "advise",
        "narrate",
        "reserve",
        "within_session",
        "require_fix",
    }
    taking = {
        name
        for name, node in functions.items()
        if not name.startswith("_") and "principal" in {a.arg for a in node.args.args}
    }
    assert taking - asking - inner == set()


def test_operations_ask_about_actions_that_the_policy_knows() -> None:
    words = {
        node.args[2].value
        for path in OPERATIONS.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "authorise"
        and isinstance(node.args[2], ast.Constant)
    }
    assert words
    assert words <= ACTIONS
