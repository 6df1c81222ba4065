"""Pages of what is a resource for agents: the same reading, shown as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from ....domain.identity import Principal
from ....ports import Ports
from ....tools.resources import RESOURCES
from ..page import Given, Load


def of_resource(uri: str, what: str) -> Load:
    """Of the resource `uri`; where this version keeps none, the page says so. what: it is about, in words."""

    async def load(ports: Ports, who: Principal, _: Given) -> dict[str, Any]:
        found = RESOURCES.get(uri)
        shown: dict[str, Any] | None = None
        if found is not None:
            answer = await found.read(ports, who, {})
            shown = answer.model_dump(mode="json", exclude_none=True) if isinstance(answer, BaseModel) else {}
        return {"what": what, "tables": tables(shown) if shown is not None else None}

    return load


def tables(shown: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """By name: lists of objects as they are, and what stands alone together in one row."""
    alone = {name: str(value) for name, value in shown.items() if not isinstance(value, list | dict)}
    found = {"": [alone]} if alone else {}
    for name, value in shown.items():
        rows = value if isinstance(value, list) else [value] if isinstance(value, dict) and value else []
        if rows:
            found[name] = [row if isinstance(row, dict) else {"": row} for row in rows]
    return {name: [{k: _cell(v) for k, v in row.items()} for row in rows] for name, rows in found.items()}


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(map(_cell, value))
    if isinstance(value, dict):
        return ", ".join(f"{k} {_cell(v)}" for k, v in value.items())
    return "" if value is None else str(value)
