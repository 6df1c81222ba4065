"""What a collector is told of requests, tools, changes, advisors and rollouts: names and sizes, and no argument."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.traces import OpenTelemetryTraces
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.trace import operation_ids
from santiago_platform.entrypoints.http import build_app
from santiago_platform.operations.issue_token import TokenRequest, issue_token
from santiago_platform.reconcilers.rollout import RolloutReconciler
from santiago_platform.testing.otlp_collector import SeenSpan, seen
from santiago_platform.testing.traces import CALLER

ROOT = Principal(name="root", role=Role.OWNER)
SECRET = "hunter2"


class Told:
    """A platform in memory, its server, and the spans that it has told."""

    def __init__(self) -> None:
        self._kept = InMemorySpanExporter()
        self.platform = FakePlatform(traces=OpenTelemetryTraces(SimpleSpanProcessor(self._kept)))

        async def nothing() -> Any:
            return {}

        self.app: Any = build_app(self.platform.ports, status=nothing, problems=nothing, hook_token="hook")

    async def client(self, **headers: str) -> httpx2.AsyncClient:
        issued = await issue_token(self.platform.ports, ROOT, TokenRequest(name="owner", role=Role.OWNER))
        self._kept.clear()
        return httpx2.AsyncClient(
            transport=httpx2.ASGITransport(self.app),
            base_url="http://localhost",
            headers={"authorization": f"Bearer {issued.token}", **headers},
        )

    def served(self) -> AbstractAsyncContextManager[Any]:
        """The lifespan of the server, without which MCP does not answer."""
        inner = self.app
        while not hasattr(inner, "router"):
            inner = inner._app
        served: AbstractAsyncContextManager[Any] = inner.router.lifespan_context(inner)
        return served

    @property
    def spans(self) -> dict[str, SeenSpan]:
        return {span.name: span for span in seen(encode_spans(self._kept.get_finished_spans()))}

    @property
    def text(self) -> str:
        return "".join(span.text for span in self.spans.values())


@pytest.fixture
def told() -> Told:
    return Told()


async def test_a_request_goes_on_from_its_caller_down_to_the_change(told: Told) -> None:
    asked = {"service": "web", "environment": "production", "git_ref": "v1"}
    async with await told.client(traceparent=CALLER) as http:
        answer = (await http.post(f"/api/tools/deploy_service?key={SECRET}", json=asked)).json()
    spans = told.spans
    request, tool, change = (spans[n] for n in ("POST", "execute_tool deploy_service", "change deploy_service"))
    assert (request.trace, request.parent, request.kind) == (CALLER[3:35], CALLER[36:52], "server")
    assert (tool.parent, change.parent) == (request.span, tool.span)
    assert request.attributes["http.route"] == "/api/tools/{name}"
    assert request.attributes["http.response.status_code"] == 200
    assert tool.attributes["santiago.arguments"] == 3
    assert tool.attributes["santiago.answer_bytes"] > 100
    trace, root = operation_ids(answer["operation"]["id"] if "operation" in answer else answer["id"])
    assert change.links == ((f"{trace:032x}", f"{root:016x}"),)
    assert SECRET not in told.text


async def test_an_operation_and_its_phases_are_one_trace(told: Told) -> None:
    asked = {"service": "web", "environment": "production", "git_ref": "v1"}
    async with await told.client() as http:
        await http.post("/api/tools/deploy_service", json=asked)
    loop = RolloutReconciler(told.platform.ports)
    for _ in range(200):
        await loop.pass_over_all()
        told.platform.clock.advance(0.2)
        if not await told.platform.store.read(lambda v: v.operations(unlogged=True) or v.operations(running=True)):
            break
    spans = told.spans
    whole = spans["operation deploy_service"]
    assert whole.attributes["santiago.state"] == "succeeded"
    assert not whole.failed
    phases = [span for name, span in spans.items() if name.startswith("rollout ")]
    assert {"rollout starting", "rollout shifting", "rollout proving"} <= {span.name for span in phases}
    assert {(span.trace, span.parent) for span in phases} == {(whole.trace, whole.span)}
    assert spans["change deploy_service"].links == ((whole.trace, whole.span),)
    assert all(whole.began_ns <= span.began_ns <= span.ended_ns <= whole.ended_ns for span in phases)


async def test_a_tool_over_mcp_is_below_its_request_or_below_the_caller_that_its_meta_names(told: Told) -> None:
    http = await told.client()
    async with (
        told.served(),
        http,
        Client(streamable_http_client("http://localhost/mcp/json", http_client=http), mode="auto") as client,
    ):
        await client.call_tool("read_architecture", {})
        under = told.spans["execute_tool read_architecture"]
        await client.call_tool("read_logs", {"text": SECRET}, meta={"traceparent": CALLER})
    of_meta = told.spans["execute_tool read_logs"]
    assert under.parent != ""
    assert under.trace != of_meta.trace
    assert (of_meta.trace, of_meta.parent) == (CALLER[3:35], CALLER[36:52])
    assert SECRET not in told.text


async def test_a_refusal_is_an_error_of_its_code_and_says_no_more(told: Told) -> None:
    async with await told.client() as http:
        await http.post("/api/tools/read_architecture", json={"service": SECRET})
        await http.post(f"/api/tools/{SECRET}", json={})
        await http.get(f"/{SECRET}")
    spans = told.spans
    assert spans["execute_tool read_architecture"].attributes["error.type"] == "not_found"
    assert spans["execute_tool unknown"].failed
    assert "http.route" not in spans["GET"].attributes
    assert SECRET not in told.text


async def test_what_machines_ask_every_few_seconds_is_not_told(told: Told) -> None:
    async with await told.client() as http:
        for path in ("/metrics", "/healthz", "/readyz"):
            assert (await http.get(path)).status_code == 200
    assert told.spans == {}
