"""Rules as a Prometheus, or what speaks like one, says that it evaluates them. Imports nothing that writes rules."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

import httpx2

from ...domain.errors import ErrorCode, PlatformError
from ...domain.rules import Rule, RuleGroup

ANSWER_BYTES = 64 * 1024 * 1024


async def loaded_rules(
    client: httpx2.AsyncClient, name: str | re.Pattern[str], path: str = "/api/v1/rules"
) -> tuple[RuleGroup, ...]:
    """Groups of the file, or the namespace, that has this name. Raises UNAVAILABLE."""
    of = name if isinstance(name, re.Pattern) else re.compile(re.escape(name))
    try:
        answer = await client.get(path)
        if answer.status_code != 200 or len(answer.content) > ANSWER_BYTES:
            raise ValueError(f"{answer.status_code}: {answer.text[:300]}")
        groups = answer.json()["data"]["groups"]
        found = [group for group in groups if of.fullmatch(PurePosixPath(group["file"]).stem)]
        return tuple(_group(group) for group in found)
    except (httpx2.HTTPError, ValueError, KeyError, TypeError) as exc:
        raise PlatformError(
            ErrorCode.UNAVAILABLE,
            "what evaluates the rules does not say which it has",
            "`santiago status` says whether Prometheus runs; try again in a moment",
            internal=repr(exc),
            retry_after=1.0,
        ) from exc


def _group(group: dict[str, Any]) -> RuleGroup:
    return RuleGroup(
        name=group["name"], interval_seconds=group["interval"], rules=tuple(_rule(rule) for rule in group["rules"])
    )


def _rule(rule: dict[str, Any]) -> Rule:
    kind = "alert" if rule["type"] == "alerting" else "record"
    return Rule.model_validate(
        {
            kind: rule["name"],
            "expr": rule["query"],
            "for_seconds": rule.get("duration", 0),
            "labels": rule.get("labels") or {},
            "annotations": rule.get("annotations") or {},
        }
    )
