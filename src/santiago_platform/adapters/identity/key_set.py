"""The keys of an issuer: fetched, kept for a while, and fetched again where one is unknown."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx2
import jwt

from ...domain.errors import ErrorCode, PlatformError
from ...ports.clock import Clock

FRESH_SECONDS = 300.0
STALE_SECONDS = 3600.0  # for so long keys go on where they cannot be fetched
AGAIN_SECONDS = 10.0  # between two fetches, however many unknown keys are named
BYTES = 256 * 1024
KEYS = 100


class KeySet:
    """source: a URL, or a file below `root`."""

    def __init__(self, source: str, root: Path, clock: Clock) -> None:
        self._source = source
        self._root = root
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def key(self, kid: str) -> jwt.PyJWK | None:
        """None where the issuer has no such key; it is a name to compare with, and nothing else. Raises UNAVAILABLE."""
        async with self._fetching:
            now = self._clock.monotonic()
            due = kid not in self._keys or now - self._fetched_at > FRESH_SECONDS
            if due and now - self._tried_at >= AGAIN_SECONDS:
                self._tried_at = now
                try:
                    self._keys, self._fetched_at = _keys(await self._read()), now
                except (OSError, ValueError, httpx2.HTTPError, jwt.PyJWTError) as exc:
                    if now - self._fetched_at > STALE_SECONDS:
                        raise self._unavailable(repr(exc)) from exc
            if now - self._fetched_at > STALE_SECONDS:
                raise self._unavailable("it was tried a moment ago")
            return self._keys.get(kid)

    async def _read(self) -> bytes:
        if "://" not in self._source:
            return await asyncio.to_thread(_file, self._root / self._source)
        async with (
            httpx2.AsyncClient(timeout=5, follow_redirects=False, trust_env=False) as client,
            client.stream("GET", self._source) as answer,
        ):
            if answer.status_code != 200:
                raise ValueError(f"it answers {answer.status_code}")
            found = bytearray()
            async for chunk in answer.aiter_bytes():
                found += chunk
                if len(found) > BYTES:
                    raise ValueError(f"it is larger than {BYTES} bytes")
            return bytes(found)

    def _unavailable(self, why: str) -> PlatformError:
        return PlatformError(
            ErrorCode.UNAVAILABLE,
            "the issuer's keys cannot be had now",
            "oauth.jwks in santiago.yaml says where they are; tokens of `santiago token issue` work without",
            internal=f"{self._source}: {why}",
            retry_after=AGAIN_SECONDS,
        )


def _file(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(BYTES)


def _keys(document: bytes) -> dict[str, jwt.PyJWK]:
    """Those that verify signatures, by their ids. A shared secret is none of them."""
    found = json.loads(document)
    if not isinstance(found, dict) or not isinstance(found.get("keys"), list):
        raise ValueError("it is no set of keys")
    keys = {}
    for key in found["keys"][:KEYS]:
        if isinstance(key, dict) and key.get("kty") != "oct" and key.get("use", "sig") == "sig":
            try:
                keys[str(key.get("kid", ""))] = jwt.PyJWK(key)
            except jwt.PyJWTError:  # of a kind that this version does not know
                continue
    return keys
