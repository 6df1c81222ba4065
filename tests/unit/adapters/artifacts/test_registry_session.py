"""Credentials by token, as most public registries want them."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from santiago_platform.adapters.artifacts.registry_session import RegistrySession
from santiago_platform.domain.errors import ErrorCode, PlatformError

KNOWN = base64.b64encode(b"ada:secret").decode()


class Handler(BaseHTTPRequestHandler):
    realm = ""
    scopes: list[str] = []

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/token":
            self.scopes.extend(parse_qs(url.query)["scope"])
            known = self.headers.get("authorization") == f"Basic {KNOWN}"
            self._answer(200 if known else 401, json.dumps({"token": "of the day"}).encode())
        elif self.headers.get("authorization") == "Bearer of the day":
            self._answer(200, b"{}")
        else:
            self._answer(401, b"", {"www-authenticate": f'Bearer realm="{self.realm}",service="a registry"'})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        name = f"127.0.0.1:{server.server_port}"
        monkeypatch.setattr(Handler, "realm", f"http://{name}/token")
        monkeypatch.setattr(Handler, "scopes", [])
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield name
        server.shutdown()
        thread.join()


def auth_file(folder: Path, host: str, auth: str = KNOWN) -> Path:
    path = folder / "auth.json"
    path.write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    return path


async def test_a_token_for_the_repository_is_asked_for_and_used(host: str, tmp_path: Path) -> None:
    async with RegistrySession(f"{host}/team/web", auth_file=auth_file(tmp_path, host), actions="pull,push") as session:
        assert await session.get("manifests/1") == b"{}"
    assert Handler.scopes == ["repository:team/web:pull,push"]


async def test_credentials_of_another_host_are_not_sent(host: str, tmp_path: Path) -> None:
    with pytest.raises(PlatformError) as refused:
        async with RegistrySession(f"{host}/team/web", auth_file=auth_file(tmp_path, "other.example")):
            pass
    assert refused.value.code is ErrorCode.PERMISSION_DENIED


async def test_credentials_are_not_sent_to_a_place_that_is_not_encrypted(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "realm", "http://tokens.example/token")
    with pytest.raises(PlatformError, match="not encrypted"):
        async with RegistrySession(f"{host}/team/web", auth_file=auth_file(tmp_path, host)):
            pass


@pytest.mark.parametrize("text", ["no json", '{"auths": 1}', '{"auths": {"HOST": {"auth": "no base64!"}}}'])
async def test_a_file_that_cannot_be_read_is_named(host: str, tmp_path: Path, text: str) -> None:
    path = tmp_path / "auth.json"
    path.write_text(text.replace("HOST", host))
    with pytest.raises(PlatformError, match=r"auth\.json cannot be read") as refused:
        async with RegistrySession(f"{host}/team/web", auth_file=path):
            pass
    assert refused.value.code is ErrorCode.FAILED_PRECONDITION
