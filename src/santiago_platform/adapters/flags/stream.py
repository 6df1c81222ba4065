"""The change stream: server-sent events that tell clients to fetch their flags anew."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

WINDOW_SECONDS = 900  # tokens of one window are equal, so that an unchanged answer stays unchanged
KEEP_ALIVE_SECONDS = 15.0
RETRY_MILLISECONDS = 500
MOST_STREAMS = 1000


class StreamTokens:
    """Tokens for the URL of a stream: of one environment, for 15 to 30 minutes; they hold over a restart."""

    def __init__(self, key_file: Path) -> None:
        self._key = _key(key_file)

    def issue(self, environment: str, now: float | None = None) -> str:
        window = int((now or time.time()) // WINDOW_SECONDS)
        return self._token(environment, (window + 2) * WINDOW_SECONDS)

    def seconds_left(self, token: str, environment: str, now: float | None = None) -> float:
        """0 or less for a token that holds no longer, or never did."""
        until = token.partition(".")[0]
        if not until.isdecimal() or len(until) > 12:
            return 0.0
        if not hmac.compare_digest(self._token(environment, int(until)).encode(), token.encode()):
            return 0.0
        return int(until) - (now or time.time())

    def _token(self, environment: str, until: int) -> str:
        return f"{until}.{hmac.digest(self._key, f'{environment} {until}'.encode(), 'sha256').hex()[:32]}"


class Changes:
    """The newest revision of the flags, and who waits for another one."""

    def __init__(self, revision: str) -> None:
        self.revision = revision
        self.changed_at = int(time.time())
        self._event = asyncio.Event()
        self._open = 0
        self._closed = False

    def publish(self, revision: str) -> None:
        if revision != self.revision:
            self.revision, self.changed_at = revision, int(time.time())
            self._wake()

    def close(self) -> None:
        """Ends every stream; clients come back by themselves."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    @property
    def full(self) -> bool:
        return self._open >= MOST_STREAMS

    async def events(self, since: str, seconds: float) -> AsyncIterator[bytes]:
        """Events as they are sent, for `seconds` at most. since: the revision that the client knows."""
        deadline = time.monotonic() + seconds
        self._open += 1
        try:
            yield f"retry: {RETRY_MILLISECONDS}\n: flags\n\n".encode()
            while not self._closed and (left := deadline - time.monotonic()) > 0:
                waiting, now = self._event, self.revision
                if now != since:
                    since = now
                    data = {"type": "refetchEvaluation", "etag": now, "lastModified": self.changed_at}
                    yield f"id: {now}\nevent: message\ndata: {json.dumps(data)}\n\n".encode()
                    continue
                try:
                    async with asyncio.timeout(min(left, KEEP_ALIVE_SECONDS)):
                        await waiting.wait()
                except TimeoutError:
                    yield b": still here\n\n"
        finally:
            self._open -= 1


def _key(path: Path) -> bytes:
    """Made at first, whole or not at all."""
    if not path.exists():
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
        with suppress(FileExistsError):
            os.link(partial, path)
        partial.unlink()
    return path.read_bytes()
