"""The real process that serves flags, on a workspace of a test's own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from ..adapters.flags.file import FLAGS_FILE

BOOLEAN: dict[str, Any] = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}


class FlagEndpoint:
    """A context manager, which leaves no process."""

    def __init__(self, root: Path, port: int, *origins: str) -> None:
        self.root, self.port = root.resolve(), port
        self._origins = origins
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/production"

    def start(self) -> None:
        """Returns once it answers."""
        module = "santiago_platform.adapters.flags.endpoint"
        words = [sys.executable, "-P", "-m", module, str(self.root), str(self.port), *self._origins]
        self._process = subprocess.Popen(words, cwd=self.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.health()
            except httpx2.TransportError:
                assert time.monotonic() < deadline, "the endpoint does not start"
                time.sleep(0.02)
            else:
                return

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status."""
        assert self._process is not None
        self._process.send_signal(how)
        return self._process.wait(10)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def write(self, flags: dict[str, Any], **rest: Any) -> None:
        """flags.json, as an editor saves it: in place."""
        (self.root / FLAGS_FILE).write_text(json.dumps({"flags": flags, **rest}, indent=2))

    def health(self) -> dict[str, Any]:
        answer: dict[str, Any] = httpx2.get(f"http://127.0.0.1:{self.port}/healthz", trust_env=False, timeout=5).json()
        return answer

    def ask(self, key: str | None = None, context: Any = None, **options: Any) -> httpx2.Response:
        """One flag, or all."""
        url = f"{self.url}/ofrep/v1/evaluate/flags" + (f"/{key}" if key is not None else "")
        body = {"context": {"targetingKey": "ann"} if context is None else context}
        return httpx2.post(url, trust_env=False, timeout=5, **{"json": body, **options})

    @asynccontextmanager
    async def stream(self, url: str, **headers: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The events of a change stream. Raises httpx2.HTTPStatusError where it is refused."""
        async with (
            httpx2.AsyncClient(trust_env=False, timeout=20) as client,
            client.stream("GET", url, headers=headers) as response,
        ):
            response.raise_for_status()
            yield _events(response)


async def _events(response: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield {**fields, "data": json.loads(fields["data"])}
            fields = {}
