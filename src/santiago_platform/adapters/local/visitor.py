"""A client of the services that is the platform's own."""

from __future__ import annotations

from collections.abc import Mapping

import httpx2

from ...domain.route import hostname

TIMEOUT_SECONDS = 10.0


class IngressVisitor:
    """Implements ports.visitor.Visitor."""

    def __init__(self, ingress_port: int) -> None:
        self._url = f"http://127.0.0.1:{ingress_port}"
        self._client = httpx2.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False, follow_redirects=False)

    async def ask(self, service: str, environment: str, path: str, headers: Mapping[str, str]) -> int | None:
        sent = {**headers, "host": hostname(service, environment), "user-agent": "santiago-synthetic"}
        try:
            response = await self._client.get(f"{self._url}{path}", headers=sent)
        except httpx2.HTTPError:
            return None
        finally:
            self._client.cookies.clear()  # each one is another visitor
        return response.status_code

    async def close(self) -> None:
        await self._client.aclose()
