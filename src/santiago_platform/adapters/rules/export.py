"""Rules as files for others to load: rule files, or PrometheusRule objects of the operator."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

import httpx2
import yaml

from ...domain.errors import ErrorCode, PlatformError
from ...domain.rules import RuleGroup, RulesFormat, RuleTest
from ..local.promtool import check_rules, group_document, render_rules
from ..local.rules import rule_file, write, written
from .loaded import loaded_rules

ANSWER_SECONDS = 10.0
_UID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


class ExportedRules:
    """Implements ports.rules.Rules. url: of whoever loads them, where that can be asked which it has."""

    verifiable = False
    settles_seconds = 10.0

    def __init__(self, directory: Path, form: RulesFormat = RulesFormat.FILES, url: str | None = None) -> None:
        self._directory = directory
        self._form = form
        self._client = httpx2.AsyncClient(base_url=url, timeout=ANSWER_SECONDS) if url else None

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def check(self, groups: Sequence[RuleGroup], tests: Sequence[RuleTest] = ()) -> None:
        await check_rules(groups, tests)

    async def apply(self, owner: str, groups: Sequence[RuleGroup]) -> None:
        file = rule_file(self._directory, owner)
        render = render_rules if self._form is RulesFormat.FILES else (lambda groups: render_object(owner, groups))
        text = render(groups) if groups else None
        try:
            if text != await asyncio.to_thread(written, file):
                await asyncio.to_thread(write, file, text)
        except OSError as exc:
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                f"rules cannot be written to {self._directory}: {exc.strerror}",
                "monitoring.directory in santiago.yaml names it",
            ) from exc

    async def loaded(self, owner: str) -> tuple[RuleGroup, ...]:
        if self._client is None:
            raise PlatformError(
                ErrorCode.UNSUPPORTED, "nobody can be asked which rules are loaded", "monitoring.url would say who can"
            )
        # The operator writes NAMESPACE-NAME-UID.yaml for its Prometheus.
        of_operator = rf"(.*-)?{re.escape(object_name(owner))}-{_UID}"
        pattern = re.escape(owner) if self._form is RulesFormat.FILES else of_operator
        return await loaded_rules(self._client, re.compile(pattern), "api/v1/rules")


def render_object(owner: str, groups: Sequence[RuleGroup]) -> str:
    """A PrometheusRule, as the Prometheus operator takes it (monitoring.coreos.com/v1)."""
    document = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": object_name(owner), "labels": {"app.kubernetes.io/managed-by": "santiago"}},
        "spec": {"groups": [group_document(group) for group in groups]},
    }
    return yaml.safe_dump(document, sort_keys=False, width=10_000, allow_unicode=True)


def object_name(owner: str) -> str:
    """Of Kubernetes' form, in which no name begins with `_`."""
    return f"santiago-{owner.lstrip('_')}"
