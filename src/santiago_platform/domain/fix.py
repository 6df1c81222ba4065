"""Which incidents a deployment may be the fix of. Pure.

Gates make exceptions for fixes, so a fix is of an incident that is known, of that service, and not long over.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from .incident import Incident

AFTERWARDS = timedelta(days=7)  # what was taken back is fixed properly on one of the next days


def may_fix(incident: Incident, service: str, environment: str, environments: Sequence[str], now: datetime) -> bool:
    """environments: as they stand in santiago.yaml. A fix goes through those before the incident's own: what went wrong
    in staging opens no gate of production."""
    if service not in (incident.service, *incident.affected):
        return False
    if incident.resolved_at is not None and now - incident.resolved_at > AFTERWARDS:
        return False
    order = list(environments)
    if incident.environment not in order or environment not in order:
        return not incident.environment
    return order.index(environment) <= order.index(incident.environment)
