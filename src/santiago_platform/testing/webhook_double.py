"""A webhook on loopback, as receivers of notifications have one: it keeps what came and answers what it is told to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class WebhookDouble:
    """status: of the next answers. bodies: what came, also what was refused."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.status = 200
        self.bodies: list[dict[str, Any]] = []

    def url(self, secret: str) -> str:
        """In the form of Apprise. secret: a part of the path, as chat services have it."""
        return f"json://127.0.0.1:{self.port}/{secret}"


@contextmanager
def webhook_double() -> Iterator[WebhookDouble]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            double.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(double.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    double = WebhookDouble(server.server_address[1])
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
