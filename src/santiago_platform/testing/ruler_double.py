"""A ruler on loopback, as Mimir has one: it stores rule groups, refuses what does not parse, and says what it runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote

import yaml

from ..domain.expression import ExpressionError, canonical

STORED, LOADED = "/prometheus/config/v1/rules/", "/prometheus/api/v1/rules"


class RulerDouble:
    """groups: by namespace and name. writes: requests that changed something. orgs: whose each request was."""

    def __init__(self) -> None:
        self.url = ""
        self.groups: dict[str, dict[str, dict[str, Any]]] = {}
        self.writes: list[str] = []
        self.orgs: set[str | None] = set()

    def set(self, namespace: str, group: dict[str, Any]) -> int:
        try:
            for rule in group["rules"]:
                canonical(rule["expr"])
        except ExpressionError:
            return 400
        self.groups.setdefault(namespace, {})[group["name"]] = group
        return 202

    def remove(self, namespace: str, group: str) -> int:
        return 202 if self.groups.get(namespace, {}).pop(group, None) else 404

    def loaded(self) -> dict[str, Any]:
        found = [
            {
                "file": namespace,
                "name": g["name"],
                "interval": _seconds(g["interval"]),
                "rules": list(map(_rule, g["rules"])),
            }
            for namespace, groups in self.groups.items()
            for g in groups.values()
        ]
        return {"status": "success", "data": {"groups": found}}


def _rule(rule: dict[str, Any]) -> dict[str, Any]:
    kind, name = ("alerting", rule["alert"]) if "alert" in rule else ("recording", rule["record"])
    said = {"type": kind, "name": name, "query": canonical(rule["expr"]), "duration": _seconds(rule.get("for", "0ms"))}
    return {**said, "labels": rule.get("labels"), "annotations": rule.get("annotations")}


def _seconds(duration: str) -> float:
    return float(duration.removesuffix("ms")) / 1000


@contextmanager
def ruler_double() -> Iterator[RulerDouble]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == LOADED:
                return self._answer(200, json.dumps(double.loaded()))
            namespace = self._names()[0]
            groups = double.groups.get(namespace)
            return self._answer(200 if groups else 404, yaml.safe_dump({namespace: list((groups or {}).values())}))

        def do_POST(self) -> None:
            group = yaml.safe_load(self.rfile.read(int(self.headers["content-length"])))
            double.writes.append(f"set {group['name']}")
            self._answer(double.set(self._names()[0], group), "")

        def do_DELETE(self) -> None:
            namespace, group = self._names()
            double.writes.append(f"remove {group}")
            self._answer(double.remove(namespace, group), "")

        def _names(self) -> list[str]:
            return [unquote(part) for part in self.path.removeprefix(STORED).split("/")]

        def _answer(self, status: int, text: str) -> None:
            double.orgs.add(self.headers.get("x-scope-orgid"))
            self.send_response(status)
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    double = RulerDouble()
    double.url = f"http://127.0.0.1:{server.server_address[1]}/prometheus"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
