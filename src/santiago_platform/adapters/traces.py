"""Traces by OpenTelemetry, sent by OTLP over HTTP; or none, which costs nothing.

Only our own spans: the provider is not made the process's, since spans of libraries have the words of errors, and with
them what callers sent.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ..domain.errors import PlatformError
from ..domain.trace import Attributes, operation_ids
from ..ports.client_model import NeedsInput
from ..ports.traces import Kind, Span

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import SpanContext

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
SCOPE = "santiago_platform"
SERVICE = "santiago"
CLOSE_SECONDS = 2.0  # for the last spans; the daemon has ten to end


class _NoSpan:
    def tell(self, attributes: Attributes, *, failed: bool = False) -> None:
        pass


_NOTHING: AbstractContextManager[Span] = nullcontext(_NoSpan())


class NoTraces:
    """Implements ports.traces.Traces where nobody asked for any."""

    enabled = False

    def span(self, name: str, **_: Any) -> AbstractContextManager[Span]:
        return _NOTHING

    def step(self, *_: Any, **__: Any) -> None:
        pass

    def operation(self, *_: Any, **__: Any) -> None:
        pass

    async def close(self) -> None:
        pass


def open_traces(variables: Mapping[str, str]) -> NoTraces | OpenTelemetryTraces:
    """As the standard variables of OpenTelemetry say, which the SDK reads itself. None without an endpoint."""
    off = variables.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if off or variables.get("OTEL_TRACES_EXPORTER") == "none" or not any(variables.get(name) for name in ENDPOINTS):
        return NoTraces()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # 0.3 s, for those who want it
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return OpenTelemetryTraces(BatchSpanProcessor(OTLPSpanExporter()))


class OpenTelemetryTraces:
    """Implements ports.traces.Traces. processor: what takes the spans that have ended."""

    enabled = True

    def __init__(self, processor: SpanProcessor) -> None:
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

        given: ContextVar[tuple[int, int] | None] = ContextVar("given", default=None)

        class Ids(RandomIdGenerator):
            """Random ones, but for the span that stands for an operation."""

            def generate_trace_id(self) -> int:
                ids = given.get()
                return ids[0] if ids else super().generate_trace_id()

            def generate_span_id(self) -> int:
                ids = given.get()
                return ids[1] if ids else super().generate_span_id()

        named = Resource({"service.name": SERVICE, "service.version": version("santiago-platform")})
        self._given = given
        self._provider = TracerProvider(
            resource=named.merge(OTELResourceDetector().detect()), id_generator=Ids(), shutdown_on_exit=False
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer(SCOPE)

    @contextmanager
    def span(
        self,
        name: str,
        *,
        kind: Kind = Kind.INTERNAL,
        attributes: Attributes | None = None,
        caller: Mapping[str, str] | None = None,
        operation: str = "",
    ) -> Iterator[Span]:
        from opentelemetry.trace import Link, SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        with self._tracer.start_as_current_span(
            name,
            context=None if caller is None else TraceContextTextMapPropagator().extract(caller),
            kind=SpanKind[kind.name],
            attributes=attributes,
            links=[Link(self._context(operation))] if operation else None,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            told = _Told(span)
            try:
                yield told
            except NeedsInput:
                raise
            except BaseException as exc:
                error = exc.code if isinstance(exc, PlatformError) else type(exc).__name__
                told.tell({"error.type": str(error)}, failed=True)
                raise

    def step(
        self,
        operation: str,
        name: str,
        began: datetime,
        ended: datetime,
        attributes: Attributes | None = None,
        *,
        failed: bool = False,
    ) -> None:
        from opentelemetry.trace import NonRecordingSpan, set_span_in_context

        whole = set_span_in_context(NonRecordingSpan(self._context(operation)))
        self._record(whole, name, began, ended, attributes, failed)

    def operation(
        self,
        operation: str,
        name: str,
        began: datetime,
        ended: datetime,
        attributes: Attributes | None = None,
        *,
        failed: bool = False,
    ) -> None:
        from opentelemetry.context import Context

        token = self._given.set(operation_ids(operation))
        try:
            self._record(Context(), name, began, ended, attributes, failed)
        finally:
            self._given.reset(token)

    def _record(
        self, context: Any, name: str, began: datetime, ended: datetime, attributes: Attributes | None, failed: bool
    ) -> None:
        span = self._tracer.start_span(name, context=context, attributes=attributes, start_time=_nanoseconds(began))
        _Told(span).tell({}, failed=failed)
        span.end(_nanoseconds(max(began, ended)))

    def _context(self, operation: str) -> SpanContext:
        """Of the operation's span, taken where the sampler will take that."""
        from opentelemetry.sdk.trace.sampling import Decision
        from opentelemetry.trace import SpanContext, TraceFlags

        trace, span = operation_ids(operation)
        taken = self._provider.sampler.should_sample(None, trace, operation).decision is Decision.RECORD_AND_SAMPLE
        return SpanContext(trace, span, is_remote=True, trace_flags=TraceFlags(int(taken)))

    async def close(self) -> None:
        """Sends what has ended, as far as that goes quickly."""
        last = threading.Thread(target=self._provider.shutdown, daemon=True)  # which no executor waits for
        last.start()
        await asyncio.to_thread(last.join, CLOSE_SECONDS)


class _Told:
    def __init__(self, span: Any) -> None:
        self._span = span

    def tell(self, attributes: Attributes, *, failed: bool = False) -> None:
        from opentelemetry.trace import StatusCode

        self._span.set_attributes(dict(attributes))
        if failed:
            self._span.set_status(StatusCode.ERROR)


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1000
