"""What gates ask of the outside, in memory: a test says what there is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from ...domain.error_budget import BudgetState
from ...domain.errors import ErrorCode, PlatformError
from ...domain.evidence import EvidenceKind
from ...domain.gate import Approval, Budget, Incident, Reply
from ...ports.evidence import Parsed


class FakeEvidence:
    """Implements ports.evidence.Evidence. A file is the JSON of a `Parsed`. sabotaged: `keep` says done, keeps nothing,
    and `doubt` repeats the lie."""

    def __init__(self) -> None:
        self.sabotaged = False
        self.files: dict[tuple[str, str], bytes] = {}

    async def parse(self, content: bytes, kind: EvidenceKind | None) -> Parsed:
        try:
            parsed = Parsed.model_validate_json(content)
        except ValueError as exc:
            raise PlatformError(ErrorCode.INVALID_ARGUMENT, "this is no evidence") from exc
        if kind not in (None, parsed.kind):
            raise PlatformError(ErrorCode.INVALID_ARGUMENT, f"this is {parsed.kind}, not {kind}")
        return parsed

    async def keep(self, release: str, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        if not self.sabotaged:
            self.files[release, digest] = content
        return digest

    async def doubt(self, release: str, sha256: str) -> str:
        content = self.files.get((release, sha256))
        if self.sabotaged:
            return ""
        if content is None:
            return "its file is gone"
        return "" if hashlib.sha256(content).hexdigest() == sha256 else "its file was changed since it was attested"

    async def forget(self, release: str) -> None:
        for key in [key for key in self.files if key[0] == release]:
            del self.files[key]


class FakeIncidents:
    """Implements ports.incidents.Incidents. None: they are not kept."""

    def __init__(self) -> None:
        self.all: list[Incident] | None = []

    async def open(self, service: str, environment: str) -> Sequence[Incident]:
        if self.all is None:
            raise PlatformError(ErrorCode.UNSUPPORTED, "incidents are not kept on this platform yet")
        return self.all


class FakeErrorBudget:
    """Implements ports.error_budget.ErrorBudget. all: by service and environment; an error there is raised. targets:
    by service. reported: the states by service."""

    def __init__(self) -> None:
        self.reported: dict[str, tuple[BudgetState, ...]] = {}
        self.all: dict[tuple[str, str], Budget | PlatformError] = {}
        self.targets: dict[str, float] = {}

    async def target(self, service: str) -> float | None:
        return self.targets.get(service)

    async def states(self, service: str, *, history: bool = False) -> tuple[BudgetState, ...]:
        return self.reported.get(service, ())

    async def state(self, service: str, environment: str) -> Budget | None:
        found = self.all.get((service, environment))
        if isinstance(found, PlatformError):
            raise found
        return found


class FakeApprovals:
    """Implements ports.approvals.Approvals. all: by release, environment and role."""

    def __init__(self) -> None:
        self.all: dict[tuple[str, str, str], Approval] = {}

    async def of(self, release: str, environment: str, role: str) -> Approval | None:
        return self.all.get((release, environment, role))


class FakeWebhook:
    """Implements ports.webhook.Webhook. replies: by URL; what is not there does not answer. asked: all bodies."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.asked: list[dict[str, Any]] = []

    async def ask(self, url: str, body: dict[str, Any], *, timeout_seconds: float, token_file: str | None) -> Reply:
        self.asked.append(body)
        if url not in self.replies:
            raise PlatformError(ErrorCode.UNAVAILABLE, f"{url} did not answer within {timeout_seconds:g} s")
        return self.replies[url]
