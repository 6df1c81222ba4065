"""One tool call, the same for MCP and for plain JSON: parsed, run, measured, and its failure made fit to be told."""

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
from ..ports import Ports
from ..tools import TOOLS
from ..tools.schema import echo, nearest
from ..tools.tool import Tool
from .metrics import ServerMetrics

log = logging.getLogger(__name__)


def find_tool(name: str) -> Tool:
    """Raises PlatformError(NOT_FOUND) with the nearest names."""
    tool = TOOLS.get(name)
    if tool is None:
        near = nearest(name, TOOLS)
        hint = f"did you mean {near}?" if near else f"there are: {', '.join(TOOLS)}"
        raise PlatformError(ErrorCode.NOT_FOUND, f"there is no tool {echo(name)}", hint)
    return tool


async def invoke(
    ports: Ports,
    metrics: ServerMetrics,
    principal: Principal,
    name: str,
    arguments: Mapping[str, Any],
    report: Report | None = None,
) -> BaseModel:
    """The tool's answer. Raises PlatformError alone: a fault of ours is INTERNAL with an id that the log has too."""
    started = time.perf_counter()
    label, outcome = "unknown", "ok"
    try:
        tool = find_tool(name)
        label = tool.name
        return await tool.call(ports, principal, tool.parse(arguments), report)
    except Exception as exc:
        error = refusal(exc, f"tool {label}")
        outcome = error.code
        raise error from exc
    except BaseException:
        outcome = "cancelled"
        raise
    finally:
        metrics.tool_called(label, outcome, time.perf_counter() - started)


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
