"""The calling client's own model, through MCP: it costs the platform nothing, and is believed no more than another."""

from __future__ import annotations

from ...domain.advisor import CLIENT
from ...domain.budget import Price
from ...domain.errors import ErrorCode
from ...domain.proposal import Ask, Completion, Task
from ...ports.advisors import NotBilledError
from ...ports.client_model import calling


class ClientAdvisor:
    """Implements ports.advisors.Advisor."""

    name = CLIENT

    def model(self, task: Task, *, cheap: bool) -> str:
        return ""

    def price(self, model: str) -> Price | None:
        return None

    async def propose(self, ask: Ask, model: str) -> Completion:
        client = calling.get()
        if client is None:
            raise NotBilledError(
                ErrorCode.UNAVAILABLE, "the calling client has no model to ask", "one with MCP sampling has"
            )
        return await client.ask(ask)
