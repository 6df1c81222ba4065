from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from santiago_platform.adapters.traces import CLOSE_SECONDS, NoTraces, OpenTelemetryTraces, open_traces
from santiago_platform.testing.otlp_collector import OtlpCollector, SeenSpan, seen
from santiago_platform.testing.traces import BEGAN, TracesContract


class TestTracesInMemory(TracesContract):
    @pytest.fixture
    def memory(self) -> InMemorySpanExporter:
        return InMemorySpanExporter()

    @pytest.fixture
    def traces(self, memory: InMemorySpanExporter) -> OpenTelemetryTraces:
        self.kept = memory
        return OpenTelemetryTraces(SimpleSpanProcessor(memory))

    async def ended(self, traces: OpenTelemetryTraces) -> list[SeenSpan]:  # type: ignore[override]
        return seen(encode_spans(self.kept.get_finished_spans()))


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpCollector]:
    with OtlpCollector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        yield collector


class TestTracesOverHttp(TracesContract):
    @pytest.fixture
    async def traces(self, collector: OtlpCollector) -> AsyncIterator[OpenTelemetryTraces]:
        self.collector = collector
        traces = opened()
        yield traces
        await traces.close()

    async def ended(self, traces: OpenTelemetryTraces) -> list[SeenSpan]:  # type: ignore[override]
        await traces.close()
        return self.collector.spans


def opened(**variables: str) -> OpenTelemetryTraces:
    traces = open_traces({"OTEL_EXPORTER_OTLP_ENDPOINT": "of the environment", **variables})
    assert isinstance(traces, OpenTelemetryTraces)
    return traces


async def test_the_standard_variables_name_the_service_and_add_headers(
    collector: OtlpCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "factory")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=lab")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=k")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    traces = opened()
    with traces.span("one"):
        pass
    await traces.close()
    (span,) = collector.spans
    assert span.resource["service.name"] == "factory"
    assert span.resource["deployment.environment"] == "lab"
    assert collector.headers[0]["x-key"] == "k"


async def test_without_a_name_the_service_is_santiago(collector: OtlpCollector) -> None:
    traces = opened()
    with traces.span("one"):
        pass
    await traces.close()
    assert collector.spans[0].resource["service.name"] == "santiago"


async def test_a_sampler_that_takes_nothing_takes_no_part_of_an_operation(
    collector: OtlpCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    traces = opened()
    traces.step("op-1", "starting", BEGAN, BEGAN)
    traces.operation("op-1", "operation", BEGAN, BEGAN)
    await traces.close()
    assert collector.spans == []


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
async def test_nothing_is_traced_unless_somebody_asks_for_it(variables: dict[str, str]) -> None:
    traces = open_traces(variables)
    assert isinstance(traces, NoTraces)
    assert not traces.enabled
    with traces.span("one", attributes={"a": 1}) as span:
        span.tell({"b": 2}, failed=True)
    traces.step("op-1", "starting", BEGAN, BEGAN)
    traces.operation("op-1", "operation", BEGAN, BEGAN)
    await traces.close()


async def test_a_collector_that_fails_or_is_gone_holds_up_nobody(collector: OtlpCollector) -> None:
    collector.status = 503
    traces = opened()
    began = time.monotonic()
    with traces.span("one"):
        await asyncio.sleep(0)
    assert time.monotonic() - began < 1
    await traces.close()
    assert time.monotonic() - began < CLOSE_SECONDS + 2
    assert collector.spans == []
