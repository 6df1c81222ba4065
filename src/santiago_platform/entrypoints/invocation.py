"""Tool calls, the same for MCP and for plain JSON: parsed, run, measured, and their failures made fit to be told."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Principal
from ..operations.manage_operation import Report
from ..operations.sessions import within_session
from ..ports import Ports
from ..ports.client_model import NeedsInput
from ..tools import TOOLS
from ..tools.schema import echo, nearest
from ..tools.tool import Answer, Tool
from .metrics import ServerMetrics
from .shared_read import SharedReads

log = logging.getLogger(__name__)


def find_tool(name: str) -> Tool:
    """Raises PlatformError(NOT_FOUND) with the nearest names."""
    tool = TOOLS.get(name)
    if tool is None:
        near = nearest(name, TOOLS)
        hint = f"did you mean {near}?" if near else f"there are: {', '.join(TOOLS)}"
        raise PlatformError(ErrorCode.NOT_FOUND, f"there is no tool {echo(name)}", hint)
    return tool


class ToolCalls:
    """The tools of one server, over its ports.

    Calls that only read, of callers who may see the same, share their evaluations where they come together. Every
    caller has been authenticated by itself, and what it may do is judged after it has asked.
    """

    def __init__(self, ports: Ports, metrics: ServerMetrics | None = None) -> None:
        self.metrics = metrics or ServerMetrics()
        self._ports = ports
        self._reads: SharedReads[Answer] = SharedReads()

    async def within(self, principal: Principal, session: object) -> Principal:
        """As it asks within the session that it names. Raises PlatformError."""
        if not isinstance(session, str):
            raise PlatformError(ErrorCode.INVALID_ARGUMENT, "a session is named by its id, a text")
        return await within_session(self._ports, principal, session)

    async def answer(
        self, principal: Principal, name: str, arguments: Mapping[str, Any], report: Report | None = None
    ) -> Answer:
        """Raises PlatformError alone: a fault of ours is INTERNAL with an id that the log has too."""
        if not self._ports.traces.enabled:
            return await self._answer(principal, name, arguments, report)
        known = name if name in TOOLS else "unknown"
        told: dict[str, str | int] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": known,
            "santiago.principal": principal.name,
            "santiago.tenant": principal.tenant,
            "santiago.arguments": len(arguments),
        }
        with self._ports.traces.span(f"execute_tool {known}", attributes=told) as span:
            answer = await self._answer(principal, name, arguments, report)
            span.tell({"santiago.answer_bytes": len(answer.text)})
            return answer

    async def _answer(
        self, principal: Principal, name: str, arguments: Mapping[str, Any], report: Report | None
    ) -> Answer:
        started = time.perf_counter()
        label, outcome = "unknown", "ok"
        self.metrics.tool_begun()
        try:
            tool = find_tool(name)
            label = tool.name
            request = tool.parse(arguments)
            audience = tool.audience(request, principal)
            if audience is None:
                return await self._run(tool, principal, request, report)
            key = (label, request, audience)
            return await self._reads.read(key, lambda: self._run(tool, principal, request, None))
        except NeedsInput:
            outcome = "input_required"
            raise
        except PlatformError as exc:
            outcome = exc.code
            raise
        except Exception as exc:
            outcome = ErrorCode.INTERNAL
            raise refusal(exc, f"tool {label}") from exc
        except BaseException:
            outcome = "cancelled"
            raise
        finally:
            self.metrics.tool_called(label, outcome, time.perf_counter() - started)

    async def _run(self, tool: Tool, principal: Principal, request: BaseModel, report: Report | None) -> Answer:
        try:
            return Answer(await tool.call(self._ports, principal, request, report))
        except NeedsInput:
            raise
        except Exception as exc:  # here, so that a fault that several are told of has one id and one trace
            raise refusal(exc, f"tool {tool.name}") from exc


def refusal(exc: Exception, where: str) -> PlatformError:
    """What a caller may be told of `exc`. The trace and the internal words go to the log alone."""
    if isinstance(exc, PlatformError):
        if exc.internal:
            log.warning("%s: %s: %s (%s)", where, exc.code, exc.message, exc.internal)
        return exc
    error_id = secrets.token_hex(4)
    log.error("%s: internal error %s", where, error_id, exc_info=exc)
    return PlatformError(
        ErrorCode.INTERNAL,
        f"internal error {error_id}",
        "this is a fault of the platform: its log has the trace under that id",
    )
