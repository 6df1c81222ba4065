"""How fast incidents are acknowledged and recovered from: medians, by service and severity. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from statistics import median

from .incident import Incident
from .rules import Severity
from .value import Value


class Times(Value):
    """Of the incidents of one service and severity. mtta_seconds: from the first alert to the acknowledgement, of those
    that were acknowledged. mttr_seconds: from the first alert to the end of the last, of those that are resolved. Both
    are medians, from how many is said beside; None where there are none."""

    service: str
    severity: Severity
    incidents: int
    acknowledged: int
    resolved: int
    mtta_seconds: float | None = None
    mttr_seconds: float | None = None


def times(incidents: Iterable[Incident]) -> tuple[Times, ...]:
    by: dict[tuple[str, Severity], list[Incident]] = {}
    for incident in incidents:
        by.setdefault((incident.service, incident.severity), []).append(incident)
    return tuple(_times(service, severity, found) for (service, severity), found in sorted(by.items()))


def _times(service: str, severity: Severity, incidents: list[Incident]) -> Times:
    answered = [_seconds(i, i.acknowledged_at) for i in incidents if i.acknowledged_at is not None]
    recovered = [_seconds(i, i.ended_at) for i in incidents if not i.is_open and i.ended_at is not None]
    return Times(
        service=service,
        severity=severity,
        incidents=len(incidents),
        acknowledged=len(answered),
        resolved=len(recovered),
        mtta_seconds=median(answered) if answered else None,
        mttr_seconds=median(recovered) if recovered else None,
    )


def _seconds(incident: Incident, at: datetime | None) -> float:
    return max(0.0, (at - incident.began_at).total_seconds()) if at is not None else 0.0
