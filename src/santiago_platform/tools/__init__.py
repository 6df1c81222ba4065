"""The tools that agents call. A new one is its value in a module of its family, and one line here."""

from __future__ import annotations

from collections.abc import Iterable

from .alert import CREATE_ALERT
from .change import DEPLOY_SERVICE, MANAGE_OPERATION, SCALE_RESOURCES
from .communicate import MESSAGE_ROLE, MESSAGE_TEAM
from .flag import CONFIGURE_FLAG
from .monitoring import CONFIGURE_MONITORING
from .read import QUERY_METRICS, READ_ARCHITECTURE, READ_LOGS
from .tool import Tool


def registry(tools: Iterable[Tool]) -> dict[str, Tool]:
    """By name, in order. Raises ValueError for a name that two tools have."""
    by_name: dict[str, Tool] = {}
    for tool in tools:
        if tool.name in by_name:
            raise ValueError(f"two tools are named {tool.name}")
        by_name[tool.name] = tool
    return by_name


TOOLS = registry(
    [
        READ_ARCHITECTURE,
        QUERY_METRICS,
        READ_LOGS,
        DEPLOY_SERVICE,
        SCALE_RESOURCES,
        CONFIGURE_FLAG,
        CONFIGURE_MONITORING,
        CREATE_ALERT,
        MANAGE_OPERATION,
        MESSAGE_TEAM,
        MESSAGE_ROLE,
    ]
)
