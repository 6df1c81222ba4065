from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from santiago_platform.adapters.fake.traffic import FakeTraffic
from santiago_platform.adapters.fake.visitor import FakeVisitor
from santiago_platform.adapters.local.visitor import IngressVisitor
from santiago_platform.domain.route import Backend, Endpoint, Route
from santiago_platform.testing.visitor import VisitorContract


class TestFakeVisitor(VisitorContract):
    @pytest.fixture
    async def visitor(self) -> FakeVisitor:
        traffic = FakeTraffic()
        backend = Backend(version="v1", weight=1, endpoints=(Endpoint(instance="a", host="127.0.0.1", port=1),))
        await traffic.apply(
            Route(service="web", environment="production", hostnames=("web.localhost",), backends=(backend,))
        )
        made = FakeVisitor(traffic)
        made.missing.add("/missing")
        return made

    @pytest.fixture
    def silent(self) -> FakeVisitor:
        return FakeVisitor(FakeTraffic())


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = self.headers["Host"] == "web.production.localhost" and self.path != "/missing"
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is said of a request."""


class TestIngressVisitor(VisitorContract):
    @pytest.fixture
    def server(self) -> Iterator[HTTPServer]:
        with HTTPServer(("127.0.0.1", 0), _Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield server
            server.shutdown()
            thread.join()

    @pytest.fixture
    async def visitor(self, server: HTTPServer) -> AsyncIterator[IngressVisitor]:
        made = IngressVisitor(server.server_port)
        yield made
        await made.close()

    @pytest.fixture
    async def silent(self) -> AsyncIterator[IngressVisitor]:
        with HTTPServer(("127.0.0.1", 0), _Handler) as server:
            port = server.server_port  # free again, and nobody listens on it
        made = IngressVisitor(port)
        yield made
        await made.close()
