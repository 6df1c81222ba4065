"""The HTTP connection to a provider: no redirects, no proxies, no credentials of the environment, bounded answers."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from functools import lru_cache

import httpx2

ANSWER_BYTES = 4 << 20  # of one answer; the longest that is asked for is some ten thousand tokens
CONNECT_SECONDS = 10.0


def client_over(transport: OneRequest, timeout_seconds: float) -> httpx2.AsyncClient:
    """For one call. To a redirect nobody goes: it would take the key along."""
    return httpx2.AsyncClient(
        transport=transport,
        follow_redirects=False,
        trust_env=False,
        timeout=httpx2.Timeout(timeout_seconds, connect=min(CONNECT_SECONDS, timeout_seconds)),
        headers={"accept-encoding": "identity"},
    )


@lru_cache(maxsize=1)
def _trusted() -> ssl.SSLContext:
    """Certificates are verified; reading the authorities takes a while, so once."""
    return httpx2.create_ssl_context(trust_env=False)


class OneRequest(httpx2.AsyncHTTPTransport):
    """Makes one request and no other, and knows what became of it, whatever a vendor's library makes of that.

    sent: whether the provider may have read of it. status: of its answer. Refuses answers that are too long, or
    compressed, which could become so.
    """

    def __init__(self) -> None:
        super().__init__(verify=_trusted(), trust_env=False, retries=0)
        self.sent = False
        self.status: int | None = None
        self._used = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self._used:
            raise httpx2.RequestError("one call is one request", request=request)
        self._used = self.sent = True
        try:
            response = await super().handle_async_request(request)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout):
            self.sent = False
            raise
        self.status = response.status_code
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise httpx2.ReadError("the answer is compressed, which was not asked for")
        assert isinstance(response.stream, httpx2.AsyncByteStream)  # noqa: S101 - of this transport
        response.stream = _Stream(response.stream)
        return response


class _Stream(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._inner:
            size += len(chunk)
            if size > ANSWER_BYTES:
                raise httpx2.ReadError(f"the answer is longer than {ANSWER_BYTES} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()
