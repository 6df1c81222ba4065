"""A real platform in a throwaway workspace: for the demo, end-to-end tests, chaos and benchmarks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from ..adapters.layout import Layout
from ..adapters.local.platform import LocalPlatform
from ..adapters.local.port_registry import PortRegistry
from .lifeline import Lifeline, remove


class RunningPlatform:
    """A workspace made by `santiago init`, on free ports, driven by the real command line and a real MCP client.

    Used as a context manager: it is taken down and its folder removed at the end, and by the lifeline where the
    runner dies before. up: whether it is started at once. disk_bytes: of a small disk of its own, where this user may
    mount one; `has_own_disk` tells.
    """

    def __init__(
        self, lifeline: Lifeline, *, parent: Path | None = None, up: bool = True, disk_bytes: int | None = None
    ) -> None:
        self._lifeline = lifeline
        self.root = Path(tempfile.mkdtemp(prefix="santiago-", dir=parent))
        self.has_own_disk = disk_bytes is not None and _mount(self.root, disk_bytes)
        self.layout = Layout.of(self.root)
        self._up = up
        self.santiago("init", str(self.root))
        (self.root / ".santiago").mkdir(mode=0o700)  # claims of ports hold as long as this is there
        registry = PortRegistry(self.layout.root)
        self.server_port, self.ingress_port = registry.claim("server"), registry.claim("ingress")
        self.replace("santiago.yaml", "server_port: 8700", f"server_port: {self.server_port}")
        self.replace("santiago.yaml", "ingress_port: 8780", f"ingress_port: {self.ingress_port}")

    def __enter__(self) -> Self:
        self._lifeline.watch(self.root)
        if self._up:
            self.santiago("up", "-d")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        LocalPlatform(self.layout).down(timeout_seconds=5)
        remove(self.root)
        self._lifeline.forget(self.root)

    @property
    def platform(self) -> LocalPlatform:
        return LocalPlatform(self.layout)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def santiago(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs the command line on this workspace. Raises RuntimeError with its words where it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "santiago_platform", "--workspace", str(self.root), *words],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"santiago {' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def json(self, *words: str, check: bool = True) -> Any:
        """The answer of a command as JSON."""
        return json.loads(self.santiago(*words, "--json", check=check).stdout)

    def replace(self, path: str, before: str, after: str) -> None:
        """Changes a file of the workspace. Raises ValueError where `before` is not in it."""
        text = (self.root / path).read_text()
        if before not in text:
            raise ValueError(f"{path} has no {before!r}")
        (self.root / path).write_text(text.replace(before, after))

    def set_version(self, version: str, service: str = "hello") -> str:
        """Another VERSION in the service's score.yaml, committed. Returns the commit."""
        path = self.root / "services" / service / "score.yaml"
        path.write_text(re.sub(r'VERSION: ".*"', f'VERSION: "{version}"', path.read_text()))
        return self.commit(f"{service} {version}")

    def commit(self, message: str) -> str:
        """Commits the whole working tree and returns the commit."""
        author = ["-c", "user.name=Test", "-c", "user.email=test@localhost"]
        self._git("add", "--all")
        self._git(*author, "commit", "--quiet", "--no-gpg-sign", "--allow-empty", "--message", message)
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *words: str) -> str:
        done = subprocess.run(["git", "-C", str(self.root), *words], capture_output=True, text=True, check=True)
        return done.stdout

    @property
    def token(self) -> str:
        """The owner's."""
        return self.layout.owner_token.read_text().strip()

    @asynccontextmanager
    async def client(
        self, *, mode: str = "auto", path: str = "/mcp", token: str | None = None
    ) -> AsyncIterator[Client]:
        """A real MCP client. mode `legacy` speaks the protocol of the handshake, `auto` the newest."""
        headers = {"authorization": f"Bearer {token or self.token}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(10, read=120), trust_env=False) as http,
            Client(streamable_http_client(self.url + path, http_client=http), mode=mode) as client,
        ):
            yield client


def _mount(place: Path, size_bytes: int) -> bool:
    words = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=0700", "santiago-test", str(place)]
    return os.geteuid() == 0 and subprocess.run(words, capture_output=True, check=False).returncode == 0


async def call(client: Client, tool: str, arguments: dict[str, Any], **options: Any) -> dict[str, Any]:
    """The structured answer of a tool. Raises RuntimeError with the tool's words where it refused."""
    result = await client.call_tool(tool, arguments, **options)
    if result.is_error:
        raise RuntimeError(f"{tool}: {result.content}")
    structured: dict[str, Any] | None = result.structured_content
    assert structured is not None  # every tool has an output schema
    return structured
