"""Rules of a ruler: the HTTP API by which Mimir, Cortex and what speaks like them take rule groups."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx2
import yaml

from ...domain.errors import ErrorCode, PlatformError
from ...domain.monitoring import is_same
from ...domain.rules import Rule, RuleGroup, RuleTest
from ..local.promtool import check_rules, group_document
from .loaded import loaded_rules

ANSWER_SECONDS = 10.0
NAMESPACE = "santiago-{owner}"
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}


class RulerRules:
    """Implements ports.rules.Rules. url: under which it has `config/v1/rules` and `api/v1/rules`. headers: the tenant's
    and who asks. Each owner has a namespace of its own; those of others are left alone."""

    verifiable = True
    settles_seconds = 90.0  # it looks at what is stored once a minute

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self._client = httpx2.AsyncClient(base_url=url, headers=dict(headers or {}), timeout=ANSWER_SECONDS)
        self._writing = asyncio.Lock()

    async def close(self) -> None:
        await self._client.aclose()

    async def check(self, groups: Sequence[RuleGroup], tests: Sequence[RuleTest] = ()) -> None:
        await check_rules(groups, tests)

    async def apply(self, owner: str, groups: Sequence[RuleGroup]) -> None:
        """Group by group, as the API has it; where one is refused those that were set are set back."""
        namespace = NAMESPACE.format(owner=owner)
        async with self._writing:
            before = {group.name: group for group in await self._stored(namespace)}
            wanted = {group.name: group for group in groups}
            changed = [g for name, g in wanted.items() if name not in before or not is_same(g, before[name])]
            written: list[str] = []
            try:
                for group in changed:
                    await self._set(namespace, group)
                    written.append(group.name)
            except PlatformError:
                for name in written:
                    await (self._set(namespace, before[name]) if name in before else self._remove(namespace, name))
                raise
            for name in before.keys() - wanted.keys():
                await self._remove(namespace, name)

    async def loaded(self, owner: str) -> tuple[RuleGroup, ...]:
        return await loaded_rules(self._client, NAMESPACE.format(owner=owner), "api/v1/rules")

    async def _stored(self, namespace: str) -> list[RuleGroup]:
        answer = await self._ask("GET", _path(namespace))
        if answer.status_code == 404:
            return []
        try:
            if answer.status_code != 200:
                raise ValueError(f"{answer.status_code}: {answer.text[:300]}")
            return [_group(group) for group in yaml.safe_load(answer.text).get(namespace) or ()]
        except (ValueError, KeyError, AttributeError, TypeError, yaml.YAMLError) as exc:
            raise _unavailable(repr(exc)) from exc

    async def _set(self, namespace: str, group: RuleGroup) -> None:
        text = yaml.safe_dump(group_document(group), sort_keys=False, allow_unicode=True)
        answer = await self._ask("POST", _path(namespace), content=text, headers={"content-type": "application/yaml"})
        if 400 <= answer.status_code < 500:
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                f"the ruler refuses the group {group.name}, and the former rules stay: {answer.text.strip()[:500]}",
                "monitoring in santiago.yaml says which ruler it is, and as whom it is asked",
            )
        if answer.status_code >= 300:
            raise _unavailable(f"{answer.status_code}: {answer.text[:300]}")

    async def _remove(self, namespace: str, group: str) -> None:
        answer = await self._ask("DELETE", f"{_path(namespace)}/{quote(group, safe='')}")
        if answer.status_code >= 300 and answer.status_code != 404:
            raise _unavailable(f"{answer.status_code}: {answer.text[:300]}")

    async def _ask(self, method: str, path: str, **said: Any) -> httpx2.Response:
        try:
            return await self._client.request(method, path, **said)
        except httpx2.HTTPError as exc:
            raise _unavailable(repr(exc)) from exc


def _path(namespace: str) -> str:
    return f"config/v1/rules/{quote(namespace, safe='')}"


def _group(document: dict[str, Any]) -> RuleGroup:
    rules = tuple(_rule(rule) for rule in document["rules"])
    return RuleGroup(name=document["name"], interval_seconds=_seconds(document.get("interval", "1m")), rules=rules)


def _rule(document: dict[str, Any]) -> Rule:
    fields = {name: document[name] for name in ("record", "alert", "expr") if document.get(name)}
    texts = {name: document.get(name) or {} for name in ("labels", "annotations")}
    return Rule.model_validate({**fields, **texts, "for_seconds": _seconds(document.get("for", "0s"))})


def _seconds(duration: str) -> float:
    """Of Prometheus' form: `1h30m`, `500ms`."""
    return sum(float(count) * _SECONDS[unit] for count, unit in re.findall(r"(\d+)(ms|[smhdwy])", str(duration)))


def _unavailable(internal: str) -> PlatformError:
    return PlatformError(
        ErrorCode.UNAVAILABLE,
        "the ruler does not answer as one",
        "monitoring.url in santiago.yaml is that under which it has config/v1/rules and api/v1/rules",
        internal=internal,
        retry_after=1.0,
    )
