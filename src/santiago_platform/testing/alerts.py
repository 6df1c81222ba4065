"""What Alertmanager sends, in its wire format (webhook version 4)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

NOT_ENDED = "0001-01-01T00:00:00Z"


def alert(
    at: datetime, *, ended_at: datetime | None = None, summary: str = "too many errors", **labels: str
) -> dict[str, Any]:
    """One alert. labels: over those of a page about web in production."""
    known = {"alertname": "TooManyErrors", "service": "web", "environment": "production", "severity": "page"}
    return {
        "status": "firing" if ended_at is None else "resolved",
        "labels": {**known, **labels},
        "annotations": {"summary": summary, "runbook_url": "https://runbooks.example/errors"},
        "startsAt": at.isoformat(),
        "endsAt": NOT_ENDED if ended_at is None else ended_at.isoformat(),
        "generatorURL": "http://prometheus.example/graph?g0.expr=up",
        "fingerprint": "0" * 16,
    }


def webhook(*alerts: Mapping[str, Any], group: str = "", truncated: int = 0) -> dict[str, Any]:
    """One message about a group of alerts."""
    labels = alerts[0]["labels"] if alerts else {}
    of = {name: labels.get(name, "") for name in ("alertname", "service", "environment")}
    firing = any(each["status"] == "firing" for each in alerts)
    return {
        "version": "4",
        "groupKey": group or "{}:{" + ", ".join(f'{name}="{value}"' for name, value in of.items()) + "}",
        "truncatedAlerts": truncated,
        "status": "firing" if firing else "resolved",
        "receiver": "platform",
        "groupLabels": of,
        "commonLabels": dict(labels),
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example",
        "alerts": list(alerts),
    }
