"""A collector of traces on loopback: takes OTLP over HTTP, decodes its protobuf, and keeps what it was sent."""

from __future__ import annotations

import gzip
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

ERROR = 2  # of opentelemetry.proto.trace.v1.Status


@dataclass(frozen=True)
class SeenSpan:
    """Ids in hexadecimal; parent: empty at the root. links: (trace, span). kind: as ports.traces.Kind. text: all that
    is in it, to look for what must not be. resource: attributes of who sent it."""

    name: str
    trace: str
    span: str
    parent: str
    kind: str
    began_ns: int
    ended_ns: int
    failed: bool
    attributes: dict[str, Any]
    links: tuple[tuple[str, str], ...]
    resource: dict[str, Any]
    text: str


class OtlpCollector:
    """Used as a context manager. endpoint: for OTEL_EXPORTER_OTLP_ENDPOINT. status: what it answers."""

    def __init__(self) -> None:
        self.spans: list[SeenSpan] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.headers.append({name.lower(): value for name, value in self.headers.items()})
                if collector.status == 200 and self.path == "/v1/traces":
                    collector.spans += seen(ExportTraceServiceRequest.FromString(body))
                self.send_response(collector.status if self.path == "/v1/traces" else 404)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def seen(request: Any) -> list[SeenSpan]:
    """The spans of a decoded request."""
    return [
        SeenSpan(
            name=span.name,
            trace=span.trace_id.hex(),
            span=span.span_id.hex(),
            parent=span.parent_span_id.hex(),
            kind=span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
            began_ns=span.start_time_unix_nano,
            ended_ns=span.end_time_unix_nano,
            failed=span.status.code == ERROR,
            attributes=_attributes(span.attributes),
            links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
            resource=_attributes(each.resource.attributes),
            text=str(span),
        )
        for each in request.resource_spans
        for scope in each.scope_spans
        for span in scope.spans
    ]


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
