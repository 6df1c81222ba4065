"""What Alertmanager tells: which alerts of a group fire, and which have ended. Pure.

Labels and annotations are text from outside: cut to a size, kept as data, and never a reason to lose an alert.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from .context import clean
from .errors import ErrorCode, PlatformError
from .rules import Severity

ALERTS_AT_MOST = 1_000  # in one message; Alertmanager cuts what is more, and says so
LABELS_AT_MOST = 64
LABEL_CHARACTERS = 200
ANNOTATION_CHARACTERS = 1_000
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
# As rules of others name it.
_SEVERITIES = {
    "page": Severity.PAGE,
    "critical": Severity.PAGE,
    "ticket": Severity.TICKET,
    "warning": Severity.TICKET,
    "info": Severity.INFO,
    "none": Severity.INFO,
}


def _cut(characters: int) -> AfterValidator:
    def cut(texts: Mapping[str, str]) -> dict[str, str]:
        shown = list(texts.items())[:LABELS_AT_MOST]
        return {clean(name)[:LABEL_CHARACTERS]: clean(text)[:characters] for name, text in shown}

    return AfterValidator(cut)


class _Told(BaseModel):
    """Fields that a newer Alertmanager adds are no error."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Alert(_Told):
    """One alert, as it is now. version, slo: where its rule gives it one."""

    status: Literal["firing", "resolved"]
    labels: Annotated[dict[str, str], _cut(LABEL_CHARACTERS)]
    annotations: Annotated[dict[str, str], _cut(ANNOTATION_CHARACTERS)] = {}
    started_at: Annotated[AwareDatetime, Field(alias="startsAt")]
    ended_at: Annotated[AwareDatetime | None, Field(alias="endsAt")] = None

    @property
    def name(self) -> str:
        return self.labels.get("alertname", "") or "unnamed"

    @property
    def service(self) -> str:
        return self._named("service")

    @property
    def environment(self) -> str:
        return self._named("environment")

    @property
    def version(self) -> str:
        return self.labels.get("version", "")

    @property
    def severity(self) -> Severity:
        """An alert that does not say it is a ticket."""
        return _SEVERITIES.get(self.labels.get("severity", "").lower(), Severity.TICKET)

    @property
    def cause(self) -> str:
        """What is wrong: the objective that is missed, by whichever of its alerts, else the alert's own name."""
        slo = self.labels.get("slo", "")
        return f"slo {slo}" if slo else self.name

    @property
    def summary(self) -> str:
        return self.annotations.get("summary") or self.annotations.get("description") or self.name

    @property
    def route(self) -> str:
        """A role, or a receiver of `notify`; empty where its rule names none."""
        return self._named("route")

    @property
    def runbook(self) -> str:
        return self.annotations.get("runbook_url", "")

    def _named(self, label: str) -> str:
        """Empty where it is none that a service or environment could have."""
        value = self.labels.get(label, "")
        return value if _NAME.fullmatch(value) else ""


class Notification(_Told):
    """One message of Alertmanager's webhook: the group's alerts as they are now. truncated: alerts that it left out."""

    status: Literal["firing", "resolved"]
    group: Annotated[str, Field(alias="groupKey", max_length=100_000)] = ""
    truncated: Annotated[int, Field(alias="truncatedAlerts", ge=0)] = 0
    alerts: Annotated[tuple[Alert, ...], Field(max_length=ALERTS_AT_MOST)]

    def group_of(self, cause: str) -> str:
        """Names the group's alerts of one cause, shortly."""
        return hashlib.sha256(f"{self.group}\n{cause}".encode(errors="replace")).hexdigest()[:16]

    def latest_end(self, now: datetime) -> datetime:
        """When the last of its alerts ended, as it says; never in the future."""
        ends = [alert.ended_at for alert in self.alerts if alert.ended_at is not None and alert.status == "resolved"]
        return min(now, max(ends, default=now))


def notification(body: Mapping[str, Any]) -> Notification:
    """Raises PlatformError(INVALID_ARGUMENT), with where, for what Alertmanager would not send."""
    try:
        return Notification.model_validate(body)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT,
            f"this is not a notification of Alertmanager: {where}: {first['msg'].lower()}",
            f"send what its webhook sends, of at most {ALERTS_AT_MOST} alerts (`max_alerts`)",
        ) from exc
